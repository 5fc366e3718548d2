import type { BlockDevice } from "../device/device.js";
import { must } from "../lib/assert.js";
import type { CancelTimer, Clock } from "../lib/clock.js";
import type { Random } from "../lib/prng.js";
import { BLOCK_BYTES, roundDown } from "../lib/units.js";
import { CALL_KINDS, type CallKind, type CallTimes } from "./call-times.js";
import { TEST_BLOCK_AT } from "./layout.js";
import type { Member } from "./member.js";

/** When a member is left out because it is slow; from the configuration. */
export interface SlowDiskSettings {
  /** So many times longer than its neighbours its calls have to take. */
  readonly factor: number;
  /** For so long without a break; Infinity: no member is ever left out for that. */
  readonly afterMs: number;
}

export const SLOW_DISKS: SlowDiskSettings = { factor: 5, afterMs: 5000 };

/** Calls that take less are never slow, whatever the neighbours do. */
const ASIDE_MS_MIN = 100;
/** How often it is looked, while there are calls. */
const TICK_MS = 250;
/** Calls that ended longer ago say nothing of now: what is known of a member that is slow stays as it is until it is asked again. */
const QUIET_MS = 1500;
/** ... and is forgotten after so long. */
const FORGOTTEN_MS = 60_000;
/**
 * Calls of a kind that a neighbour must have answered to be compared with, or as many as the member that is compared: in an assembly all are asked the same.
 * And that a slow one must have answered too late while it was slow.
 */
const CALLS_MIN = 4;
/** So much of the time after which it is left out tells whether a member that was slow is quick now. */
const QUICK_SHARE = 0.4;
/** The first test of a member that was left out, and the longest wait for the next one. */
const TEST_MS = 5000;
const TEST_MS_MAX = 5 * 60_000;
/** Left out again so soon after it came back, it is tested later the next time. */
const RELAPSE_MS = 10 * 60_000;
/** A test is so many writes and reads one after the other: a disk whose rate is limited answers a few at once. */
const TEST_CALLS = 8;
/** It is well below this share of what made it slow. */
const WELL_SHARE = 0.5;

/** What the watch asks of the group. */
export interface AsideSide {
  readonly members: readonly Member[];
  readonly clock: Clock;
  readonly random: Random;
  readonly settings: SlowDiskSettings;
  /** The group can do without it: the others have everything. */
  mayLeave(member: Member): boolean;
  leaveOut(member: Member, times: number): void;
  /** It is well: what it missed is to be written on it. @throws StorageError when it cannot be had now */
  takeBack(member: Member): Promise<void>;
  /** It gave an error while it was tested. */
  dismiss(member: Member, error: unknown): void;
}

/** Calls of one kind of a member that have been slow for some time. */
interface Suspicion {
  /** For so long it was slow; time in which nobody asked it is not counted. */
  readonly slowMs: number;
  /** When it was asked last, to a tick. */
  readonly lookedMs: number;
  /** Slow calls that had ended when it began. */
  readonly slowCount: number;
  /** The beginning of the latest part of it, and what had ended then. */
  readonly markMs: number;
  readonly markCount: number;
  readonly markTotalMs: number;
}

function markOf({ count, totalMs }: CallTimes, nowMs: number) {
  return { markMs: nowMs, markCount: count, markTotalMs: totalMs };
}

/**
 * Finds the member that answers persistently later than its neighbours, in reads, writes or syncs, and has it left out as if it were lost: whoever
 * writes waits for the slowest member. It is tested from time to time, and taken back when it is well.
 *
 * Compared are calls of one kind at the same time. When all are slow that is load, and nobody is left out.
 */
export class AsideWatch {
  readonly #suspicions = new Map<CallTimes, Suspicion>();
  #cancelTick: CancelTimer | null = null;
  #cancelTest: CancelTimer | null = null;
  /** Calls that had ended at the last tick. */
  #ended = -1;
  #waitMs = TEST_MS;
  #backMs = Number.NEGATIVE_INFINITY;
  #closed = false;

  constructor(private readonly side: AsideSide) {}

  /** There are calls. Cheap: asked with each. */
  readonly active = (): void => {
    if (this.#cancelTick === null && !this.#closed) this.#tickLater();
  };

  close(): void {
    this.#closed = true;
    this.#cancelTick?.();
    this.#cancelTest?.();
  }

  #tickLater(): void {
    if (!Number.isFinite(this.side.settings.afterMs)) return;
    this.#cancelTick = this.side.clock.after(TICK_MS, () => this.#tick());
  }

  #tick(): void {
    this.#cancelTick = null;
    const nowMs = this.side.clock.monotonicMs();
    const used = this.side.members.filter((member) => member.takesWrites);
    const watched = new Set(used.flatMap(({ times }) => CALL_KINDS.map((kind) => times[kind])));
    for (const times of this.#suspicions.keys()) if (!watched.has(times)) this.#suspicions.delete(times);
    for (const member of used) this.#judge(member, used, nowMs);
    const ended = sum(used, (times) => times.count);
    const isQuiet = ended === this.#ended && sum(used, (times) => times.ageMs(nowMs)) === 0;
    this.#ended = ended;
    if (!isQuiet) this.#tickLater();
  }

  #judge(member: Member, used: readonly Member[], nowMs: number): void {
    for (const kind of CALL_KINDS) {
      const othersMs = usualOthersMs(kind, member, used, nowMs);
      const limitMs = Math.max(ASIDE_MS_MIN, this.side.settings.factor * othersMs);
      if (!this.#isPersistent(member.times[kind], limitMs, nowMs) || !this.side.mayLeave(member)) continue;
      this.#leaveOut(member, member.times[kind].nowMs(nowMs) / Math.max(othersMs, 0.001), nowMs);
      return;
    }
  }

  /** @param limitMs  from here on they are slow */
  #isPersistent(times: CallTimes, limitMs: number, nowMs: number): boolean {
    const { afterMs } = this.side.settings;
    times.slowFromMs = limitMs;
    if (times.isQuiet(nowMs, QUIET_MS)) return false;
    const known = this.#suspicions.get(times);
    const isSlow = times.nowMs(nowMs) >= limitMs;
    const isKnown = known !== undefined && nowMs - known.lookedMs < FORGOTTEN_MS;
    if (!isSlow || !isKnown || this.#wasQuick(times, known, limitMs, nowMs)) {
      const { slowCount } = times;
      this.#suspicions.delete(times);
      if (isSlow) this.#suspicions.set(times, { slowMs: 0, lookedMs: nowMs, slowCount, ...markOf(times, nowMs) });
      return false;
    }
    const slowMs = known.slowMs + Math.min(nowMs - known.lookedMs, QUIET_MS);
    const mark = nowMs - known.markMs >= afterMs / 2 ? markOf(times, nowMs) : null;
    this.#suspicions.set(times, { ...known, ...mark, slowMs, lookedMs: nowMs });
    // What was slow once, and is not asked any more, is not known to be slow. Nor is one of which two or three calls took so long that the average is high.
    const isProven = times.slowCount - known.slowCount >= CALLS_MIN || times.ageMs(nowMs) >= afterMs;
    return slowMs >= afterMs && isProven;
  }

  /** What ended of late was quick, whatever the average still has of before, such as a load of all that is over. A single moment says nothing. */
  #wasQuick(times: CallTimes, mark: Suspicion, limitMs: number, nowMs: number): boolean {
    const count = times.count - mark.markCount;
    const isEarly = nowMs - mark.markMs < QUICK_SHARE * this.side.settings.afterMs;
    if (isEarly || count === 0 || times.ageMs(nowMs) >= limitMs) return false;
    return (times.totalMs - mark.markTotalMs) / count < limitMs;
  }

  #leaveOut(member: Member, times: number, nowMs: number): void {
    this.#waitMs = nowMs - this.#backMs < RELAPSE_MS ? Math.min(2 * this.#waitMs, TEST_MS_MAX) : TEST_MS;
    this.side.leaveOut(member, times);
    this.#testLater(member);
  }

  /** It was left out before the group was there. */
  beganOut(member: Member): void {
    this.#testLater(member);
  }

  #testLater(member: Member): void {
    if (this.#closed) return;
    this.#cancelTest = this.side.clock.after(this.#waitMs, () => void this.#test(member));
  }

  async #test(member: Member): Promise<void> {
    this.#cancelTest = null;
    try {
      // What it was asked for before it was left out must not reach it when it is in use again.
      await member.quiet();
      if (!this.#isOut(member)) return;
      const isWell = await this.#isWell(must(member.device, "a member that is left out keeps its device"));
      if (!this.#isOut(member)) return;
      if (isWell) await this.#takeBack(member);
      else this.#testLater(member);
    } catch (error) {
      if (this.#isOut(member)) this.side.dismiss(member, error);
    }
  }

  async #takeBack(member: Member): Promise<void> {
    try {
      await this.side.takeBack(member);
      this.#backMs = this.side.clock.monotonicMs();
    } catch {
      // Another one is being rebuilt, or the group changes: its time will come.
      if (this.#isOut(member)) this.#testLater(member);
    }
  }

  #isOut(member: Member): boolean {
    return !this.#closed && member.isAside && this.side.members[member.slot] === member;
  }

  /** @throws StorageError as the device */
  async #isWell(device: BlockDevice): Promise<boolean> {
    const { clock, members, random } = this.side;
    const neighbours = members.filter(({ online }) => online);
    const usual = usualMs("sync", neighbours, clock.monotonicMs(), CALLS_MIN) ?? 0;
    const limitMs = WELL_SHARE * Math.max(ASIDE_MS_MIN, this.side.settings.factor * usual);
    const block = Buffer.alloc(BLOCK_BYTES);
    const startedMs = clock.monotonicMs();
    for (let call = 0; call < TEST_CALLS; call++) {
      await device.writeThrough([block], TEST_BLOCK_AT);
      await device.read(
        block,
        roundDown(random.below(Math.floor(device.sizeBytes / BLOCK_BYTES)) * BLOCK_BYTES, BLOCK_BYTES),
      );
      block.fill(0);
      if (clock.monotonicMs() - startedMs > 2 * TEST_CALLS * limitMs || this.#closed) return false;
    }
    return true;
  }
}

/** What they take at the middle one of the others; Infinity: nobody knows. */
function usualOthersMs(kind: CallKind, member: Member, used: readonly Member[], nowMs: number): number {
  const others = used.filter((one) => one !== member);
  const least = Math.max(1, Math.min(member.times[kind].count, CALLS_MIN));
  return usualMs(kind, others, nowMs, least) ?? Number.POSITIVE_INFINITY;
}

/** What calls of a kind take at the middle one of these members, the later of two; null: nobody knows. @param least  so many calls tell */
function usualMs(kind: CallKind, members: readonly Member[], nowMs: number, least: number): number | null {
  const known = members.filter(({ times }) => times[kind].count >= least || times[kind].ageMs(nowMs) >= ASIDE_MS_MIN);
  const sorted = known.map(({ times }) => times[kind].nowMs(nowMs)).sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? null;
}

function sum(members: readonly Member[], of: (times: CallTimes) => number): number {
  let total = 0;
  for (const { times } of members) for (const kind of CALL_KINDS) total += of(times[kind]);
  return total;
}
