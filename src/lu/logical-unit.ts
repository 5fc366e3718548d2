import type { Clock } from "../lib/clock.js";
import { StorageError } from "../lib/errors.js";
import { SharedFlush } from "../lib/shared-flush.js";
import { BLOCK_BYTES, type LuByte } from "../lib/units.js";
import type { RaidArray } from "../raid/core.js";
import type { LostBlocks } from "../raid/lost-blocks.js";
import type { Pace } from "../raid/pace.js";
import type { LogicalUnit, LuDescription } from "./lu.js";

/** What an LU asks of its group. */
export interface LuGroupSide {
  readonly lost: LostBlocks;
  readonly pace: Pace;
  readonly clock: Clock;
  readonly losses: {
    /** These blocks have new content. */
    written(lu: number, at: number, byteCount: number): void;
  };
}

/** An LU on a RAID array: bounds, alignment, shared flushes. One object per LU, used by all who open it. */
export class ArrayLu implements LogicalUnit {
  readonly #number: number;
  readonly #describe: () => LuDescription;
  /** Asked for each request: an LU that is spread over more disks gets another one. */
  readonly #array: () => RaidArray;
  readonly #flush: SharedFlush;
  readonly #group: LuGroupSide;
  readonly #onClose: () => void;

  constructor(describe: () => LuDescription, array: () => RaidArray, onClose: () => void, group: LuGroupSide) {
    this.#describe = describe;
    this.#number = describe().number;
    this.#group = group;
    this.#array = array;
    this.#onClose = onClose;
    this.#flush = new SharedFlush(() => array().flush());
  }

  get description(): LuDescription {
    return this.#describe();
  }

  get sizeBytes(): number {
    return this.#array().sizeBytes;
  }

  get stripeBytes(): number {
    return this.#array().stripeBytes;
  }

  /** @returns how many bytes @throws StorageError EINVAL */
  #check(buffers: readonly Buffer[], at: number): number {
    let byteCount = 0;
    for (const buffer of buffers) {
      if (buffer.length % BLOCK_BYTES !== 0) throw this.#invalid("length", buffer.length);
      byteCount += buffer.length;
    }
    if (!(at >= 0) || at % BLOCK_BYTES !== 0) throw this.#invalid("position", at);
    if (at + byteCount > this.sizeBytes) throw this.#invalid("end", at + byteCount);
    return byteCount;
  }

  /** As a client's request, for which work in the background makes room. */
  async #served<T>(action: () => Promise<T>): Promise<T> {
    const { pace, clock } = this.#group;
    const startedMs = clock.monotonicMs();
    const token = pace.enter();
    try {
      return await action();
    } finally {
      pace.leave(token, startedMs);
    }
  }

  #invalid(what: string, value: number): StorageError {
    const { name } = this.description;
    return new StorageError("EINVAL", `LU "${name}": ${what} ${value} is not a multiple of 4096 inside the LU`, {
      lu: name,
      sizeBytes: this.sizeBytes,
    });
  }

  read(target: Buffer, at: LuByte): Promise<void> {
    return this.readv([target], at);
  }

  async readv(targets: readonly Buffer[], at: LuByte): Promise<void> {
    const byteCount = this.#check(targets, at);
    if (this.#group.lost.size > 0 && this.#group.lost.touches(this.#number, at, byteCount)) {
      const { name } = this.description;
      throw new StorageError("EIO", `LU "${name}": a block is lost`, { lu: name, at });
    }
    await this.#served(() => this.#array().readv(targets, at));
  }

  write(source: Buffer, at: LuByte): Promise<void> {
    return this.writev([source], at);
  }

  async writev(sources: readonly Buffer[], at: LuByte): Promise<void> {
    const byteCount = this.#check(sources, at);
    await this.#served(() => this.#array().writev(sources, at));
    this.#flush.wrote();
    this.#group.losses.written(this.#number, at, byteCount);
  }

  async writeThrough(sources: readonly Buffer[], at: LuByte): Promise<void> {
    const byteCount = this.#check(sources, at);
    const { lost } = this.#group;
    // A lost block that is written: the labels have to know before this is acknowledged.
    if (lost.size > 0 && lost.touches(this.#number, at, byteCount)) {
      await this.writev(sources, at);
      return this.flush();
    }
    await this.#served(() => this.#array().writeThrough(sources, at));
    this.#flush.wrote();
    // It was given up meanwhile: what it had before is lost, not this.
    if (lost.size > 0 && lost.touches(this.#number, at, byteCount)) {
      this.#group.losses.written(this.#number, at, byteCount);
      await this.flush();
    }
  }

  flush(): Promise<void> {
    return this.#flush.flush();
  }

  async *readAlternatives(target: Buffer, at: LuByte): AsyncIterable<void> {
    this.#check([target], at);
    if (target.length !== BLOCK_BYTES) throw this.#invalid("length", target.length);
    if (this.#group.lost.touches(this.#number, at, target.length)) return;
    yield* this.#array().readAlternatives(target, at);
  }

  async heal(good: Buffer, at: LuByte): Promise<void> {
    this.#check([good], at);
    if (good.length !== BLOCK_BYTES) throw this.#invalid("length", good.length);
    await this.#array().heal(good, at);
    this.#flush.wrote();
    this.#group.losses.written(this.#number, at, good.length);
  }

  async close(): Promise<void> {
    try {
      await this.flush();
    } finally {
      this.#onClose();
    }
  }
}
