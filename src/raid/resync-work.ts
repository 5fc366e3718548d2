import { isStorageError } from "../lib/errors.js";
import type { GroupCore } from "./core.js";
import type { LuRows } from "./rebuild.js";
import type { TaskWork } from "./task.js";

/** What a resync asks of the group. */
export interface ResyncOptions {
  readonly core: GroupCore;
  /** Rows of LUs in [from, to) of the row space: one entry for each LU and run of rows. Asked again and again: LUs come and go. */
  readonly rowsIn: (from: number, to: number) => readonly LuRows[];
  /** A member is not online. */
  readonly degraded: () => boolean;
}

/** Of each member, in one step: some milliseconds. Two chunks at least. */
const STEP_BYTES = 1024 * 1024;
/** What brings the service up comes first. */
const HEAD_START_MS = 1000;
/** Between two tries of what cannot be read now. */
const WAIT_MS_MIN = 100;
const WAIT_MS_MAX = 5000;
/** How often bits of what is settled are cleared: what a crash makes it look at again. */
const SAVE_MS = 10_000;

/**
 * Settles one region after another in the background, after an unclean stop. Whoever comes to an unsettled place first settles that himself; this does
 * the rest, so that the bits are cleared and the next crash finds little to do.
 */
export class ResyncWork implements TaskWork {
  readonly kind = "resync";
  readonly totalBytes: number;
  readonly found = 0;
  readonly healed = 0;
  readonly headStartMs = HEAD_START_MS;
  doneBytes = 0;
  readonly #options: ResyncOptions;
  /** Those that were unsettled at the start, in order; all of them are marked. */
  readonly #regions: number[];
  /** Index of the region at hand, and the byte in it up to which it is settled. */
  #next = 0;
  #at = 0;
  /** Settled, and marked in the bitmap still. */
  #uncleared: number[] = [];
  #blocks = 0;
  /** Regions at the end of the list that something in cannot be read now. */
  #waiting = 0;
  #waitMs = 0;
  #savedMs: number;

  constructor(options: ResyncOptions) {
    const { bitmap, unsettled } = options.core;
    this.#options = options;
    this.#regions = bitmap.marked().filter((region) => unsettled.has(region));
    this.totalBytes = this.#regions.reduce((sum, region) => sum + this.#bytesOf(region), 0);
    this.#savedMs = options.core.clock.monotonicMs();
  }

  #bytesOf(region: number): number {
    const { rowBytes, rowCount, regionBytes } = this.#options.core.shape;
    return Math.min(regionBytes, rowBytes * rowCount - region * regionBytes);
  }

  async step(): Promise<boolean> {
    const { core } = this.#options;
    const { regionBytes, chunkBytes } = core.shape;
    const region = this.#regions[this.#next];
    if (region === undefined) return false;
    const byteCount = this.#bytesOf(region);
    const from = region * regionBytes + this.#at;
    const to = Math.min(from + Math.max(STEP_BYTES, 2 * chunkBytes), region * regionBytes + byteCount);
    // The workspace keeps rows from changing hands meanwhile.
    if (!(await this.#settled(region, () => core.workspace.run(0, 0, () => this.#settle(from, to))))) return true;
    this.#at += to - from;
    this.doneBytes += to - from;
    if (this.#at === byteCount) this.#finishRegion(region);
    if (core.clock.monotonicMs() - this.#savedMs >= SAVE_MS) await this.#clearBits();
    return true;
  }

  /** @returns false when something cannot be read now: the region comes to the end of the list, and is tried again */
  async #settled(region: number, settle: () => Promise<void>): Promise<boolean> {
    try {
      await settle();
      return true;
    } catch (error) {
      if (!isStorageError(error) || error.detail.waits !== true) throw error;
      this.#regions.splice(this.#next, 1);
      this.#regions.push(region);
      this.#waiting = Math.min(this.#waiting + 1, this.#regions.length - this.#next);
      this.doneBytes -= this.#at;
      this.#at = 0;
      return false;
    }
  }

  /** What waits has been tried once more when it resolves. */
  async retried(): Promise<void> {
    const { core } = this.#options;
    for (const region of this.#regions.slice(this.#regions.length - this.#waiting)) {
      const { regionBytes } = core.shape;
      const from = region * regionBytes;
      await core.workspace.run(0, 0, () => this.#settle(from, from + this.#bytesOf(region)));
    }
  }

  /** Regions that something in cannot be read now. */
  get waitingCount(): number {
    return this.#waiting;
  }

  /** While every region that is left has been tried in vain. */
  get restMs(): number {
    if (this.#waiting === 0 || this.#waiting < this.#regions.length - this.#next) return 0;
    this.#waitMs = Math.min(Math.max(2 * this.#waitMs, WAIT_MS_MIN), WAIT_MS_MAX);
    return this.#waitMs;
  }

  get waitsFor(): string | undefined {
    return this.#waiting === 0 ? undefined : "waits for places that two disks cannot be read at now";
  }

  async #settle(from: number, to: number): Promise<void> {
    for (const { array, from: first, to: end } of this.#options.rowsIn(from, to)) {
      this.#blocks += await array.resync(first, end);
    }
  }

  #finishRegion(region: number): void {
    this.#options.core.unsettled.done(region);
    this.#uncleared.push(region);
    this.#next++;
    this.#at = 0;
    this.#waiting = Math.min(this.#waiting, this.#regions.length - this.#next);
    this.#waitMs = 0;
  }

  /** While a member is away the bits are kept: they tell what it missed. */
  async #clearBits(): Promise<void> {
    const { core, degraded } = this.#options;
    this.#savedMs = core.clock.monotonicMs();
    core.guard();
    await Promise.all(core.members.map((member) => member.flush(false)));
    if (degraded() || this.#uncleared.length === 0) return;
    await core.bitmap.clearUnwritten(this.#uncleared.splice(0));
  }

  async finish(whole: boolean): Promise<void> {
    const { core } = this.#options;
    await this.#clearBits();
    if (whole) core.emit("resynced", { regions: this.#regions.length, blocks: this.#blocks });
  }
}
