import type { CancelTimer, Clock, Time } from "../../src/lib/clock.js";
import { nextTurn } from "../../src/lib/next-turn.js";

/** Stands still until it is moved; timers fire in order of their time, and what they begin gets its turn before the next. */
export class HandClock implements Clock {
  #nowMs = 1000;
  /** How far the wall clock was set, all in all. */
  #setMs = 0;
  #timers: { readonly atMs: number; readonly action: () => void }[] = [];

  constructor(private readonly wallStartMs = Date.UTC(2026, 0, 1)) {}

  monotonicMs(): number {
    return this.#nowMs;
  }

  wallTime(): Time {
    const ms = this.wallMs;
    return { seconds: Math.floor(ms / 1000), nanoseconds: (ms % 1000) * 1e6 };
  }

  get wallMs(): number {
    return this.wallStartMs + this.#nowMs - 1000 + this.#setMs;
  }

  /** Somebody sets the wall clock. */
  setWall(byMs: number): void {
    this.#setMs += byMs;
  }

  after(delayMs: number, action: () => void): CancelTimer {
    const timer = { atMs: this.#nowMs + delayMs, action };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((other) => other !== timer);
    };
  }

  get timerCount(): number {
    return this.#timers.length;
  }

  /** Time passes in which nobody runs: timers that are due fire with the next `advance`. */
  jump(ms: number): void {
    this.#nowMs += ms;
  }

  async advance(ms: number): Promise<void> {
    const untilMs = this.#nowMs + ms;
    for (;;) {
      await settle();
      const next = [...this.#timers].sort((a, b) => a.atMs - b.atMs)[0];
      if (next === undefined || next.atMs > untilMs) break;
      this.#timers = this.#timers.filter((other) => other !== next);
      this.#nowMs = Math.max(this.#nowMs, next.atMs);
      next.action();
    }
    this.#nowMs = untilMs;
  }
}

/** Everything that waits for nothing but other promises has run. */
export async function settle(): Promise<void> {
  for (let i = 0; i < 3; i++) await nextTurn();
}
