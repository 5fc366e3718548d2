import { StorageError } from "../lib/errors.js";
import type { RaidArray } from "./core.js";
import type { Member } from "./member.js";
import type { TaskWork } from "./task.js";

/** What a rebuild asks of the group. */
export interface RebuildOptions {
  readonly member: Member;
  /** Bytes of the row space, of each member. */
  readonly spaceBytes: number;
  readonly regionBytes: number;
  /** Regions that the member may have missed writes of, as of now. */
  readonly marked: readonly number[];
  /** Rows of LUs in [from, to) of the row space: one entry for each LU and run of rows. Asked again and again: LUs come and go. */
  readonly rowsIn: (from: number, to: number) => readonly LuRows[];
  /** Bytes of each member that a step should take. */
  readonly stepBytes: number;
  /** Record how far it is: `member.label` says so. */
  readonly save: () => Promise<void>;
  /** It has everything: online from now on. */
  readonly complete: () => Promise<void>;
  readonly nowMs: () => number;
}

export interface LuRows {
  readonly lu: number;
  readonly array: RaidArray;
  /** Of the LU's member space. */
  readonly from: number;
  readonly to: number;
}

/** How often the labels are told how far a rebuild is. */
const SAVE_MS = 10_000;

/**
 * A member's content made right: in the order of the disk, only what an LU uses, and of what the member had already only the regions that were
 * written while it was away. It gets every new write meanwhile, so that what has been passed stays right.
 */
export class RebuildWork implements TaskWork {
  readonly kind = "rebuild";
  readonly disk: number;
  readonly totalBytes: number;
  readonly healed = 0;
  found = 0;
  readonly #options: RebuildOptions;
  readonly #marked: Set<number>;
  /** Of the row space: below it only marked regions are wanted. */
  readonly #builtBefore: number;
  /** Of the row space: everything below is right. */
  #at = 0;
  #done = 0;
  #savedMs: number;

  constructor(options: RebuildOptions) {
    this.#options = options;
    this.disk = options.member.label.number;
    this.#marked = new Set(options.marked);
    this.#builtBefore = options.spaceBytes - options.member.label.unbuiltBytes;
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
    return Math.min(this.#done, this.totalBytes);
  }

  /** Of the row space: regions that end here or earlier lack nothing. */
  get builtUpTo(): number {
    return this.#at;
  }

  #regionEnd(at: number): number {
    const { regionBytes, spaceBytes } = this.#options;
    return Math.min((Math.floor(at / regionBytes) + 1) * regionBytes, spaceBytes);
  }

  #wanted(at: number): boolean {
    return this.#regionEnd(at) > this.#builtBefore || this.#marked.has(Math.floor(at / this.#options.regionBytes));
  }

  async step(): Promise<boolean> {
    const { spaceBytes, stepBytes, rowsIn, member } = this.#options;
    while (this.#at < spaceBytes && !this.#wanted(this.#at)) this.#at = this.#regionEnd(this.#at);
    if (this.#at >= spaceBytes) return false;
    const from = this.#at;
    let to = from;
    while (to < spaceBytes && to - from < stepBytes && this.#wanted(to)) to = this.#regionEnd(to);
    for (const { lu, array, from: first, to: end } of rowsIn(from, to)) {
      this.found += await array.rebuild({ lu, slot: member.slot, from: first, to: end });
      this.#done += end - first;
      this.#assertUnderWay();
    }
    this.#at = to;
    if (this.#options.nowMs() - this.#savedMs >= SAVE_MS) await this.#save();
    return true;
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
    const unbuiltBytes = Math.min(member.label.unbuiltBytes, spaceBytes - this.#at);
    member.label = { ...member.label, unbuiltBytes };
    await save();
  }

  async finish(whole: boolean): Promise<void> {
    const { member, complete } = this.#options;
    if (member.state !== "rebuilding") return;
    await this.#save();
    if (whole) await complete();
  }
}

function bytesOf(rows: readonly LuRows[]): number {
  return rows.reduce((sum, { from, to }) => sum + to - from, 0);
}
