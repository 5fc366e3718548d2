import type { CancelTimer, Clock, Time } from "../../../src/lib/clock.js";
import type { Simulation } from "../simulation.js";

interface Held {
  readonly action: () => void;
  readonly ifDead: (() => void) | undefined;
}

/**
 * Everything that reaches a process, or leaves it, goes through its gate: timers, completions of its disk requests, calls of clients, and its own
 * requests. While it is paused (SIGSTOP) all of that waits; it comes in any order when the process goes on, and never when it was ended meanwhile.
 */
export class Gate {
  #state: "running" | "paused" | "dead" = "running";
  #held: Held[] = [];

  constructor(private readonly simulation: Simulation) {}

  get running(): boolean {
    return this.#state === "running";
  }

  get paused(): boolean {
    return this.#state === "paused";
  }

  get dead(): boolean {
    return this.#state === "dead";
  }

  /** @param ifDead  what happens instead when the process is, or has been, ended: nothing by default */
  run(action: () => void, ifDead?: () => void): void {
    if (this.#state === "running") action();
    else if (this.#state === "paused") this.#held.push({ action, ifDead });
    else ifDead?.();
  }

  pause(): void {
    if (this.#state === "running") this.#state = "paused";
  }

  goOn(): void {
    if (this.#state !== "paused") return;
    this.#state = "running";
    const { simulation } = this;
    for (const { action, ifDead } of this.#held.splice(0)) {
      simulation.after(simulation.random.below(1000) / 500, () => this.run(action, ifDead));
    }
  }

  end(): void {
    this.#state = "dead";
    for (const { ifDead } of this.#held.splice(0)) ifDead?.();
  }
}

/** How the clocks of a host differ from simulated time. */
export interface ClockWay {
  readonly startMs: number;
  /** Of the monotonic clock; 1: as simulated time. */
  readonly rate: number;
  /** Of the wall clock; it may be stepped. */
  wallSkewMs: number;
}

/** The clock of one process: its timers stop while it is paused, and for ever when it is ended. Time itself goes on. */
export class NodeClock implements Clock {
  constructor(
    private readonly simulation: Simulation,
    private readonly gate: Gate,
    private readonly way: ClockWay,
  ) {}

  monotonicMs(): number {
    return this.way.startMs + this.simulation.nowMs * this.way.rate;
  }

  wallTime(): Time {
    const ms = 1_700_000_000_000 + this.way.wallSkewMs + this.simulation.nowMs;
    const seconds = Math.floor(ms / 1000);
    return { seconds, nanoseconds: Math.floor((ms - seconds * 1000) * 1e6) };
  }

  after(delayMs: number, action: () => void): CancelTimer {
    let wanted = true;
    const fire = (): void => {
      if (wanted) action();
    };
    const cancel = this.simulation.after(delayMs / this.way.rate, () => this.gate.run(fire));
    return () => {
      wanted = false;
      cancel();
    };
  }
}
