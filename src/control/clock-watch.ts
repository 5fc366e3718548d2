import { type CancelTimer, type Clock, wallMs } from "../lib/clock.js";
import type { EventLog } from "./event-log.js";

/** How often the two clocks are compared. */
const LOOK_MS = 10_000;
/** A time server corrects less than this within one look. */
const JUMP_MS_MIN = 5000;

/** Notices that the wall clock was set, by comparing it with the monotonic one, and tells. Nothing else happens: intervals go by the monotonic clock. */
export class ClockWatch {
  #apartMs: number;
  #cancel: CancelTimer = () => {};

  constructor(
    private readonly clock: Clock,
    private readonly events: EventLog,
  ) {
    this.#apartMs = this.#difference();
  }

  start(): void {
    this.#cancel = this.clock.after(LOOK_MS, () => {
      this.#look();
      this.start();
    });
  }

  stop(): void {
    this.#cancel();
  }

  #difference(): number {
    return wallMs(this.clock) - this.clock.monotonicMs();
  }

  #look(): void {
    const apartMs = this.#difference();
    const jumpMs = apartMs - this.#apartMs;
    this.#apartMs = apartMs;
    if (Math.abs(jumpMs) < JUMP_MS_MIN) return;
    const way = jumpMs > 0 ? "ahead" : "back";
    const now = new Date(wallMs(this.clock)).toISOString();
    const what = `the clock of this machine went ${spanText(Math.abs(jumpMs))} ${way}, to ${now}: file times follow it; schedules do not`;
    this.events.add({ severity: "warning", kind: "clock-jumped", what, detail: { jumpMs: Math.round(jumpMs) } });
  }
}

const UNITS = [
  ["day", 86_400_000],
  ["hour", 3_600_000],
  ["minute", 60_000],
  ["second", 1000],
] as const;

/** In the largest unit of which there are at least two: `9 seconds`, `3650 days`. */
export function spanText(ms: number): string {
  const [name, unitMs] = UNITS.find(([, unit]) => ms >= 2 * unit) ?? UNITS[UNITS.length - 1]!;
  const count = Math.round(ms / unitMs);
  return `${count} ${name}${count === 1 ? "" : "s"}`;
}
