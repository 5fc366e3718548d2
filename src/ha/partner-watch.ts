import type { Heartbeat } from "./record.js";

/** What a node knows of its partner. */
export interface PartnerView {
  /** null: never seen on any disk. */
  readonly heartbeat: Heartbeat | null;
  /** Since its sequence number last rose, by our own clock; Infinity while it has not risen since we began to look. */
  readonly silentMs: number;
}

/** What the disks say of a node at one moment. */
export interface Sighting {
  /** On the disks that could be read and hold one. */
  readonly found: readonly Heartbeat[];
  /** Disks that could be read. */
  readonly readCount: number;
  /** Disks that there are. */
  readonly diskCount: number;
}

/**
 * Follows the partner's heartbeat. Its clock is never asked: only whether the number rises counts, and when by our monotonic clock.
 *
 * The partner counts a beat as heard when a majority of the disks has taken it. Of any majority, so many are among the disks that we can read
 * that we always see such a beat; what is on fewer disks is not taken for life, as one write that a cut-off node still brings out. When we can
 * read so few that a beat could pass unseen, we are blind, and time in which we are blind is not silence. Neither is time in which we did not
 * look, because this process was stopped itself: silence goes up to the last look, not up to now.
 */
export class PartnerWatch {
  #newest: Heartbeat | null = null;
  /** -1: on too few disks to count; null: nobody has looked. */
  #counted: number | null = null;
  #risenMs = Number.NEGATIVE_INFINITY;
  /** When the last look began; the first one. */
  #lookedMs = Number.NEGATIVE_INFINITY;
  #firstMs = Number.POSITIVE_INFINITY;

  /** @param beganMs  when the disks were asked */
  note({ found, readCount, diskCount }: Sighting, beganMs: number, nowMs: number): void {
    const majority = Math.floor(diskCount / 2) + 1;
    const common = majority + readCount - diskCount;
    if (common < 1) {
      this.#blind(beganMs);
      return;
    }
    this.#firstMs = Math.min(this.#firstMs, beganMs);
    this.#lookedMs = Math.max(this.#lookedMs, beganMs);
    const sorted = [...found].sort((a, b) => b.sequence - a.sequence);
    const counted = sorted[common - 1]?.sequence ?? -1;
    // What the first look finds may be old. What a later one finds where there was nothing is life.
    if (this.#counted !== null && counted !== this.#counted) this.#risenMs = nowMs;
    this.#counted = counted;
    this.#newest = sorted[0] ?? this.#newest;
  }

  /** Since the last look nobody knows what happened: all before counts from now on. */
  #blind(nowMs: number): void {
    if (this.#lookedMs === Number.NEGATIVE_INFINITY || nowMs <= this.#lookedMs) return;
    const sinceMs = nowMs - this.#lookedMs;
    this.#risenMs += sinceMs;
    this.#firstMs += sinceMs;
    this.#lookedMs = nowMs;
  }

  view(nowMs: number): PartnerView {
    return { heartbeat: this.#newest, silentMs: nowMs - this.#risenMs };
  }

  /** How long we have looked, up to the last look, and seen no beat. 0 before the first one. */
  get silenceMs(): number {
    return Math.max(0, this.#lookedMs - Math.max(this.#risenMs, this.#firstMs));
  }
}
