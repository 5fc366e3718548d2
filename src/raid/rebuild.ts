import { isStorageError, StorageError } from "../lib/errors.js";
import type { RaidArray } from "./core.js";
import type { Member } from "./member.js";
import type { TaskWork } from "./task.js";
import { WaitingRows } from "./waiting-rows.js";

/** What a rebuild asks of the group. */
export interface RebuildOptions {
  readonly member: Member;
  /** Bytes of the row space, of each member. */
  readonly spaceBytes: number;
  readonly regionBytes: number;
  /** Two chunks: the least that is rebuilt at once. */
  readonly unitBytes: number;
  /** Regions that the member may have missed writes of, as of now. */
  readonly marked: readonly number[];
  /** Rows of LUs in [from, to) of the row space: one entry for each LU and run of rows. Asked again and again: LUs come and go. */
  readonly rowsIn: (from: number, to: number) => readonly LuRows[];
  /** Bytes of each member that a step should take. */
  readonly stepBytes: number;
  /** Byte on a member where rows begin. */
  readonly rowsStart: number;
  /** Record how far it is: `member.label` says so. */
  readonly save: () => Promise<void>;
  /** It has everything: online from now on. */
  readonly complete: () => Promise<void>;
  /** It begins to wait for a place on another member, or waits for nothing any more (null). */
  readonly waits: (place: { readonly member: Member; readonly position: number } | null) => void;
  /** Whatever cannot be read at once is given up (Without.transient). */
  readonly givesUp: boolean;
  readonly nowMs: () => number;
}

export interface LuRows {
  readonly lu: number;
  readonly array: RaidArray;
  /** Of the LU's member space. */
  readonly from: number;
  readonly to: number;
}

/** Who has asked for it waits for the number of blocks. */
interface GivenUp {
  readonly resolve: (count: number) => void;
  readonly reject: (error: unknown) => void;
}

/** How often the labels are told how far a rebuild is. */
const SAVE_MS = 10_000;

/**
 * A member's content made right: in the order of the disk, only what an LU uses, and of what the member had already only the regions that were
 * written while it was away. It gets every new write meanwhile, so that what has been passed stays right.
 *
 * What cannot be read now is not lost: it is passed over, and tried again and again at the end (waiting-rows.ts), until it can be read, another
 * source turns up, or a person gives it up. The survivor that cannot be read is not written.
 */
export class RebuildWork implements TaskWork {
  readonly kind = "rebuild";
  readonly disk: number;
  readonly totalBytes: number;
  readonly healed = 0;
  /** Blocks that were given up. */
  found = 0;
  readonly #options: RebuildOptions;
  readonly #marked: Set<number>;
  /** Of the row space: below it only marked regions are wanted. */
  readonly #builtBefore: number;
  readonly #waiting: WaitingRows;
  /** Of the row space: everything below is right, but for what waits. */
  #at = 0;
  #done = 0;
  #savedMs: number;
  #givingUp = false;
  readonly #givenUp: GivenUp[] = [];

  constructor(options: RebuildOptions) {
    this.#options = options;
    this.disk = options.member.label.number;
    this.#marked = new Set(options.marked);
    this.#builtBefore = options.spaceBytes - options.member.label.unbuiltBytes;
    this.#waiting = new WaitingRows(options.unitBytes);
    this.#savedMs = options.nowMs();
    let used = 0;
    for (let at = 0; at < options.spaceBytes; at = this.#regionEnd(at)) {
      if (this.#wanted(at)) used += bytesOf(options.rowsIn(at, this.#regionEnd(at)));
    }
    this.totalBytes = used;
  }

  get member(): Member {
    return this.#options.member;
  }

  get doneBytes(): number {
    return Math.min(Math.max(this.#done - this.#waiting.byteCount, 0), this.totalBytes);
  }

  /** Of the row space: regions that end here or earlier lack nothing. */
  get builtUpTo(): number {
    return Math.min(this.#at, this.#waiting.first);
  }

  /** Places that cannot be read now. */
  get waitingCount(): number {
    return this.#waiting.count;
  }

  get waitsFor(): string | undefined {
    return this.#waiting.text;
  }

  /** Between two steps, while there is nothing to do but to wait. */
  get restMs(): number {
    const more = this.#nextAt() < this.#options.spaceBytes && !this.#waiting.full;
    return more || this.#givingUp ? 0 : this.#waiting.restMs;
  }

  /** A source has turned up: what waits is tried at once. */
  hurry(): void {
    this.#waiting.hurry();
  }

  /**
   * Whatever waits now and cannot be read when it is tried next is given up.
   * @returns how many blocks that came to
   * @throws StorageError EIO when the labels have no room for so many: the others wait still
   */
  giveUp(): Promise<number> {
    this.#givingUp = true;
    return new Promise<number>((resolve, reject) => this.#givenUp.push({ resolve, reject }));
  }

  #regionEnd(at: number): number {
    const { regionBytes, spaceBytes } = this.#options;
    return Math.min((Math.floor(at / regionBytes) + 1) * regionBytes, spaceBytes);
  }

  #wanted(at: number): boolean {
    return this.#regionEnd(at) > this.#builtBefore || this.#marked.has(Math.floor(at / this.#options.regionBytes));
  }

  #nextAt(): number {
    const { spaceBytes } = this.#options;
    while (this.#at < spaceBytes && !this.#wanted(this.#at)) this.#at = this.#regionEnd(this.#at);
    return this.#at;
  }

  async step(): Promise<boolean> {
    const { spaceBytes, stepBytes, nowMs } = this.#options;
    const from = this.#nextAt();
    if (this.#givingUp || this.#waiting.full || from >= spaceBytes) return this.#retry(from < spaceBytes);
    let to = from;
    while (to < spaceBytes && to - from < stepBytes && this.#wanted(to)) to = this.#regionEnd(to);
    await this.#rebuild(from, to);
    this.#at = to;
    if (nowMs() - this.#savedMs >= SAVE_MS) await this.#save();
    return true;
  }

  /** Some of what waits. @returns whether anything is left to be done */
  async #retry(more: boolean): Promise<boolean> {
    const before = this.found;
    // Whoever asks while this is under way has to wait for the next time.
    const givingUp = this.#givingUp;
    try {
      await this.#waiting.retry(this.#options.stepBytes, givingUp, async (from, to) => {
        const done = this.#done;
        await this.#rebuild(from, to, givingUp || this.#options.givesUp);
        this.#done = done;
      });
      if (givingUp) this.#endGivingUp(({ resolve }) => resolve(this.found - before));
    } catch (error) {
      if (!isStorageError(error, "EIO") || !givingUp || this.member.state !== "rebuilding") throw error;
      this.#endGivingUp(({ reject }) => reject(error));
    }
    if (this.#waiting.tell) this.#options.waits(null);
    return more || this.#waiting.count > 0;
  }

  #endGivingUp(answer: (asked: GivenUp) => void): void {
    this.#givingUp = false;
    for (const asked of this.#givenUp.splice(0)) answer(asked);
  }

  async #rebuild(from: number, to: number, giveUp = this.#options.givesUp): Promise<void> {
    const { member, rowsIn, rowsStart, waits } = this.#options;
    for (const { lu, array, from: first, to: end } of rowsIn(from, to)) {
      this.found += await array.rebuild({
        ...{ lu, slot: member.slot, from: first, to: end, giveUp },
        unreadable: (who, position) => {
          if (this.#waiting.add(position - rowsStart, who, position)) waits({ member: who, position });
        },
      });
      this.#done += end - first;
      this.#assertUnderWay();
    }
  }

  #assertUnderWay(): void {
    const { member } = this.#options;
    if (member.state === "rebuilding") return;
    throw new StorageError("EIO", `disk #${this.disk} is ${member.state}: ${member.reason ?? "not in use any more"}`);
  }

  /** What is on the labels is on the disk. */
  async #save(): Promise<void> {
    const { member, spaceBytes, save, nowMs } = this.#options;
    this.#savedMs = nowMs();
    await member.flush(false);
    this.#assertUnderWay();
    const unbuiltBytes = Math.min(member.label.unbuiltBytes, spaceBytes - this.builtUpTo);
    member.label = { ...member.label, unbuiltBytes };
    await save();
  }

  async finish(whole: boolean): Promise<void> {
    const { member, complete } = this.#options;
    const ended = new StorageError("EIO", "the rebuild ended before anything was given up");
    this.#endGivingUp(({ reject }) => reject(ended));
    if (member.state !== "rebuilding") return;
    await this.#save();
    if (whole) await complete();
  }
}

function bytesOf(rows: readonly LuRows[]): number {
  return rows.reduce((sum, { from, to }) => sum + to - from, 0);
}
