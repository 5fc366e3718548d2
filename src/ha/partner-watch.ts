import type { Heartbeat } from "./record.js";

/** What a node knows of its partner. */
export interface PartnerView {
  /** null: never seen on any disk. */
  readonly heartbeat: Heartbeat | null;
  /** Since its sequence number last rose, by our own clock; Infinity while it has not risen since we began to look. */
  readonly silentMs: number;
}

/** Follows the partner's heartbeat. Its clock is never asked: only whether the number rises counts, and when by our monotonic clock. */
export class PartnerWatch {
  #newest: Heartbeat | null = null;
  #counted = -1;
  #risenMs = Number.NEGATIVE_INFINITY;

  /**
   * @param found  what the readable disks hold
   * @param diskCount  of all disks: a number counts when a majority of those that hold any has it, so that one write that a
   *   cut-off node still brings out is not taken for life
   */
  note(found: readonly Heartbeat[], nowMs: number): void {
    if (found.length === 0) return;
    const sorted = [...found].sort((a, b) => b.sequence - a.sequence);
    const majority = Math.floor(found.length / 2);
    const counted = sorted[majority]?.sequence ?? -1;
    if (this.#counted >= 0 && counted !== this.#counted) this.#risenMs = nowMs;
    this.#counted = counted;
    this.#newest = sorted[0] ?? null;
  }

  view(nowMs: number): PartnerView {
    return { heartbeat: this.#newest, silentMs: nowMs - this.#risenMs };
  }
}
