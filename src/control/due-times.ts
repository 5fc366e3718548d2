import { type Clock, wallMs } from "../lib/clock.js";

const DAY_MS = 86_400_000;
/** Clocks that are set right by a time server go back by less. */
const FUTURE_MS_MIN = 60_000;

/** When something was done last, by both clocks. */
interface Last {
  /** As it is kept over restarts; 0: never. */
  readonly wallMs: number;
  /** Infinitely long ago: never. */
  readonly monotonicMs: number;
}

/**
 * When work that is repeated is due. Time passes by the monotonic clock: the wall clock may be set to any time at any moment. It is asked once for each
 * time that something was done, because only the wall clock goes on over a restart. A time in the future says that the clock is, or was, wrong; then the
 * work is due after its interval, or a day when that is less, from now on.
 */
export class DueTimes {
  readonly #last = new Map<string, Last>();

  /** @param onFuture  called once for each time that lies in the future */
  constructor(
    private readonly clock: Clock,
    private readonly onFuture: (key: string, wallMs: number) => void = () => {},
  ) {}

  /**
   * @param lastMs  when it was last done, wall time; 0: never
   * @returns milliseconds; 0 or less: now
   */
  dueInMs(key: string, lastMs: number, everyMs: number): number {
    const last = this.#lastOf(key, lastMs, everyMs);
    return last.monotonicMs + everyMs - this.clock.monotonicMs();
  }

  #lastOf(key: string, lastMs: number, everyMs: number): Last {
    const known = this.#last.get(key);
    if (known?.wallMs === lastMs) return known;
    const nowMs = this.clock.monotonicMs();
    const agoMs = lastMs === 0 ? Number.POSITIVE_INFINITY : wallMs(this.clock) - lastMs;
    const isFuture = agoMs < -FUTURE_MS_MIN;
    const last = {
      wallMs: lastMs,
      monotonicMs: nowMs - (isFuture ? Math.max(0, everyMs - DAY_MS) : Math.max(0, agoMs)),
    };
    this.#last.set(key, last);
    if (isFuture) this.onFuture(key, lastMs);
    return last;
  }

  /** What is not there any more. */
  forgetAllBut(keys: ReadonlySet<string>): void {
    for (const key of this.#last.keys()) if (!keys.has(key)) this.#last.delete(key);
  }
}
