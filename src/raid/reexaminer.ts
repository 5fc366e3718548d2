import type { CancelTimer } from "../lib/clock.js";
import { isStorageError, messageOf } from "../lib/errors.js";
import { BLOCK_BYTES } from "../lib/units.js";
import type { GroupCore, RaidArray } from "./core.js";

/** What the reexaminer asks of its group; group.ts. */
export interface ReexamineSide extends GroupCore {
  array(number: number): RaidArray;
}

/** Blocks that one round looks at. */
const ROUND_MAX = 64;
/** Between two rounds: little at first, longer while nothing turns up. */
const REST_MS_MIN = 1000;
const REST_MS_MAX = 60_000;

/** Looks from time to time whether a source has turned up for a block that is lost or unread, and takes it back (I-2a). */
export class Reexaminer {
  readonly #group: ReexamineSide;
  #cancel: CancelTimer | null = null;
  #restMs = REST_MS_MIN;
  #closed = false;
  #looking: Promise<void> | null = null;
  /** Where the next round begins, of the list. */
  #next = 0;

  constructor(group: ReexamineSide) {
    this.#group = group;
  }

  /** There is, or may be, something to look for. */
  arm(): void {
    if (this.#cancel !== null || this.#closed || this.#group.lost.size === 0) return;
    this.#cancel = this.#group.clock.after(this.#restMs, () => {
      this.#cancel = null;
      void this.#round();
    });
  }

  /** A source may have turned up: all are looked at. */
  async now(): Promise<void> {
    this.#restMs = REST_MS_MIN;
    await this.#looking;
    await this.#look(this.#group.lost.size);
    this.arm();
  }

  async #round(): Promise<void> {
    if (this.#closed) return;
    this.#looking = this.#look(ROUND_MAX);
    await this.#looking;
    this.#looking = null;
    this.arm();
  }

  async #look(count: number): Promise<void> {
    const { lost, log, name } = this.#group;
    const before = lost.size;
    const list = lost.list();
    for (let i = 0; i < Math.min(count, list.length) && !this.#closed; i++) {
      const { lu, block } = list[this.#next++ % list.length]!;
      try {
        if (lost.kindOf(lu, block) !== null && (await this.#group.array(lu).takeBack(block * BLOCK_BYTES))) {
          this.#group.emit("block-back", { lu, at: block * BLOCK_BYTES });
        }
      } catch (error) {
        if (!isStorageError(error)) throw error;
        log.warn({ group: name, lu, block, error: messageOf(error) }, "a block could not be taken back");
      }
    }
    if (lost.size < before) await this.#group.labelsSettled();
    this.#restMs = lost.size < before ? REST_MS_MIN : Math.min(2 * this.#restMs, REST_MS_MAX);
  }

  close(): void {
    this.#closed = true;
    this.#cancel?.();
    this.#cancel = null;
  }
}
