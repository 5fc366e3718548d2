/** A point in wall-clock time: whole seconds since 1970 UTC and nanoseconds (0 to 999,999,999) within it. */
export interface Time {
  readonly seconds: number;
  readonly nanoseconds: number;
}

export type CancelTimer = () => void;

/** Time enters through this, never through globals: the simulator supplies its own. */
export interface Clock {
  /** Milliseconds from an arbitrary start; never steps back. Fractional. */
  monotonicMs(): number;
  wallTime(): Time;
  /** Call `action` once after `delayMs`. The timer does not keep the process alive. */
  after(delayMs: number, action: () => void): CancelTimer;
}

/** A point of wall-clock time in milliseconds since 1970 UTC, as Date takes it. */
export function timeMs({ seconds, nanoseconds }: Time): number {
  return seconds * 1000 + Math.floor(nanoseconds / 1e6);
}

export function wallMs(clock: Clock): number {
  return timeMs(clock.wallTime());
}

/** Resolves after so long by this clock, whose timers keep no process alive. */
export function pause(clock: Clock, delayMs: number): Promise<void> {
  return new Promise((resolve) => void clock.after(delayMs, resolve));
}

/** The machine's clock: nanoseconds from the monotonic clock, aligned with the wall clock again every second. */
export class SystemClock implements Clock {
  #wallMsAtSync = 0;
  #hrNsAtSync = 0n;

  monotonicMs(): number {
    return performance.now();
  }

  wallTime(): Time {
    const hrNs = process.hrtime.bigint();
    let elapsedNs = Number(hrNs - this.#hrNsAtSync);
    if (this.#wallMsAtSync === 0 || elapsedNs > 1e9) {
      this.#wallMsAtSync = Date.now();
      this.#hrNsAtSync = hrNs;
      elapsedNs = 0;
    }
    const ms = this.#wallMsAtSync;
    const ns = (ms % 1000) * 1e6 + elapsedNs;
    const carry = Math.floor(ns / 1e9);
    return { seconds: Math.floor(ms / 1000) + carry, nanoseconds: ns - carry * 1e9 };
  }

  after(delayMs: number, action: () => void): CancelTimer {
    const timer = setTimeout(action, delayMs);
    timer.unref();
    return () => clearTimeout(timer);
  }
}
