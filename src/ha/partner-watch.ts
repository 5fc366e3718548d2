import type { Heartbeat } from "./record.js";

/** What a node knows of its partner. */
export interface PartnerView {
  /** null: never seen on any disk. */
  readonly heartbeat: Heartbeat | null;
  /** Since its sequence number last rose, by our own clock; Infinity while it has not risen since we began to look. */
  readonly silentMs: number;
  /** What its wall clock shows while our monotonic one shows 0; null: no beat of it has come while we looked. */
  readonly wallStartMs: number | null;
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

/** Processes of the partner that are remembered: it starts anew now and then. */
const PROCESSES_MAX = 16;
/** Beats by which its wall clock is judged: of each some way is behind it, and now and then a long one. */
const WALL_BEATS = 25;

/**
 * Follows the partner's heartbeat. Its clock is never asked: only whether the number rises counts, and when by our monotonic clock.
 *
 * The partner counts a beat as heard when a majority of the disks has taken it. Of any majority, so many are among the disks that we can read
 * that we always see such a beat; what is on fewer disks is not taken for life, as one write that a cut-off node still brings out. When we can
 * read so few that a beat could pass unseen, we are blind, and time in which we are blind is not silence. Neither is time in which we did not
 * look, because this process was stopped itself: silence goes up to the last look, not up to now.
 *
 * Each look may hear of other disks, the ones that answered in time, and what they hold may differ by a beat: so a beat is life once, when it is
 * younger than any before it of the same process.
 */
export class PartnerWatch {
  #newest: Heartbeat | null = null;
  /** By process of the partner: the youngest beat that counted, in the order in which they were first seen. */
  readonly #counted = new Map<string, number>();
  #risenMs = Number.NEGATIVE_INFINITY;
  /** Its wall clock when our monotonic one showed 0, as each of the latest beats says. */
  readonly #wallStartsMs: number[] = [];
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
    // What the first look finds may be old. What a later one finds where there was nothing is life.
    const isFirst = this.#firstMs === Number.POSITIVE_INFINITY;
    this.#firstMs = Math.min(this.#firstMs, beganMs);
    this.#lookedMs = Math.max(this.#lookedMs, beganMs);
    const sorted = [...found].sort((a, b) => b.sequence - a.sequence);
    if (this.#counts(sorted, common) && !isFirst) this.#risenMs = nowMs;
    this.#remember(sorted[0], nowMs, !isFirst);
  }

  /** @returns whether a beat is on enough disks that has not been seen there before */
  #counts(sorted: readonly Heartbeat[], common: number): boolean {
    const held = new Map<string, number>();
    let isNew = false;
    for (const beat of sorted) {
      const process = processOf(beat);
      const disks = (held.get(process) ?? 0) + 1;
      held.set(process, disks);
      if (disks !== common || beat.sequence <= (this.#counted.get(process) ?? -1)) continue;
      this.#counted.set(process, beat.sequence);
      isNew = true;
    }
    const [oldest] = this.#counted.keys();
    if (this.#counted.size > PROCESSES_MAX && oldest !== undefined) this.#counted.delete(oldest);
    return isNew;
  }

  /** Of one process, what is younger stays: the disks of this look may be behind. */
  #remember(newest: Heartbeat | undefined, nowMs: number, isFresh: boolean): void {
    const known = this.#newest;
    if (newest === undefined) return;
    const isSame = known !== null && processOf(known) === processOf(newest);
    if (isSame && known.sequence > newest.sequence) return;
    this.#newest = newest;
    if (!isFresh || (isSame && known.sequence === newest.sequence)) return;
    this.#wallStartsMs.push(newest.wallMs - nowMs);
    if (this.#wallStartsMs.length > WALL_BEATS) this.#wallStartsMs.shift();
  }

  /** A beat that was long on its way, or that we saw late, shows too early a time: the latest is the nearest. */
  get #wallStartMs(): number | null {
    return this.#wallStartsMs.length === 0 ? null : Math.max(...this.#wallStartsMs);
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
    return { heartbeat: this.#newest, silentMs: nowMs - this.#risenMs, wallStartMs: this.#wallStartMs };
  }

  /** How long we have looked, up to the last look, and seen no beat. 0 before the first one. */
  get silenceMs(): number {
    return Math.max(0, this.#lookedMs - Math.max(this.#risenMs, this.#firstMs));
  }
}

function processOf({ bootId, pid, processStart }: Heartbeat): string {
  return `${bootId} ${pid} ${processStart}`;
}
