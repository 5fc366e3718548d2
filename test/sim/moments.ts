import type { Random } from "../../src/lib/prng.js";
import { LABEL } from "../../src/raid/label.js";
import { decodeLabel } from "../../src/raid/label-codec.js";
import { LAYOUT } from "../../src/raid/layout.js";
import type { Media } from "./media.js";
import type { Platter } from "./platter.js";

/** Kept at a time; which of them makes room for the next one is chance. */
const MOMENTS_MAX = 8;
const STEP_MAX = 400;
/** A group that is written raises its generation more often than this, with disks as slow as they get here. */
const SEEN_MS = 60_000;

/** A disk as a place for platters. */
export interface MediaHolder {
  readonly index: number;
  readonly media: Media;
}

/** What was on the platters, all at once. */
interface Moment {
  readonly life: number;
  readonly atMs: number;
  readonly platters: ReadonlyMap<number, Platter>;
}

/** Where the machine is in its lives; the last of each kind, by number. */
export interface Lives {
  readonly begun: number;
  readonly assembled: number;
  readonly closed: number;
  readonly nowMs: number;
}

/**
 * Earlier moments of a machine, taken between any two writes, to put disks back to. Not every moment is one that a disk may be put back to: what one
 * of the same life looked like a few seconds before a crash cannot be told from what the crash has left.
 */
export class Moments {
  readonly #random: Random;
  #moments: Moment[] = [];
  #left = 1;

  /** @param stepMax  writes and flushes of all disks from one to the next, at most */
  constructor(
    random: Random,
    private readonly stepMax = STEP_MAX,
  ) {
    this.#random = random;
  }

  /** Before each write or flush takes effect. */
  pass(drives: readonly MediaHolder[], { begun: life, nowMs: atMs }: Lives): void {
    if (--this.#left > 0) return;
    this.#left = 1 + this.#random.below(this.stepMax);
    const platters = new Map(drives.map((drive) => [drive.index, drive.media.freeze()]));
    const moment = { life, atMs, platters };
    if (this.#moments.length < MOMENTS_MAX) this.#moments.push(moment);
    else this.#moments[this.#random.below(MOMENTS_MAX)] = moment;
  }

  /** What a disk may be put back to while nothing runs; null: there is no such moment. */
  earlier({ index }: MediaHolder, now: Lives, random: Random): Platter | null {
    const platters = this.#moments.filter((moment) => isSeen(moment, now)).map((moment) => moment.platters.get(index));
    const known = platters.filter((platter) => platter !== undefined && isMember(platter));
    return known.length === 0 ? null : known[random.below(known.length)]!;
  }
}

/** The generation has risen since, or nothing was written. */
function isSeen(moment: Moment, now: Lives): boolean {
  return now.assembled > moment.life || now.closed >= moment.life || now.nowMs - moment.atMs > SEEN_MS;
}

/** One that was in no group yet is an empty disk, and known as such. */
function isMember(platter: Platter): boolean {
  const slot = Buffer.alloc(LABEL.end);
  return [LAYOUT.labelSlot0, LAYOUT.labelSlot1].some((at) => {
    platter.read(slot, at);
    return decodeLabel(slot)?.group !== undefined;
  });
}
