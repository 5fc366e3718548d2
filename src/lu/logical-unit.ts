import { StorageError } from "../lib/errors.js";
import { BLOCK_BYTES, type LuByte } from "../lib/units.js";
import type { RaidArray } from "../raid/core.js";
import type { LogicalUnit, LuDescription } from "./lu.js";
import { SharedFlush } from "./shared-flush.js";

/** An LU on a RAID array: bounds, alignment, shared flushes. One object per LU, used by all who open it. */
export class ArrayLu implements LogicalUnit {
  readonly #describe: () => LuDescription;
  /** Asked for each request: an LU that is spread over more disks gets another one. */
  readonly #array: () => RaidArray;
  readonly #flush: SharedFlush;
  readonly #onClose: () => void;

  constructor(describe: () => LuDescription, array: () => RaidArray, onClose: () => void) {
    this.#describe = describe;
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

  /** @throws StorageError EINVAL */
  #check(buffers: readonly Buffer[], at: number): void {
    let byteCount = 0;
    for (const buffer of buffers) {
      if (buffer.length % BLOCK_BYTES !== 0) throw this.#invalid("length", buffer.length);
      byteCount += buffer.length;
    }
    if (!(at >= 0) || at % BLOCK_BYTES !== 0) throw this.#invalid("position", at);
    if (at + byteCount > this.sizeBytes) throw this.#invalid("end", at + byteCount);
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
    this.#check(targets, at);
    await this.#array().readv(targets, at);
  }

  write(source: Buffer, at: LuByte): Promise<void> {
    return this.writev([source], at);
  }

  async writev(sources: readonly Buffer[], at: LuByte): Promise<void> {
    this.#check(sources, at);
    await this.#array().writev(sources, at);
  }

  async writeThrough(sources: readonly Buffer[], at: LuByte): Promise<void> {
    this.#check(sources, at);
    await this.#array().writeThrough(sources, at);
  }

  flush(): Promise<void> {
    return this.#flush.run();
  }

  async *readAlternatives(target: Buffer, at: LuByte): AsyncIterable<void> {
    this.#check([target], at);
    if (target.length !== BLOCK_BYTES) throw this.#invalid("length", target.length);
    yield* this.#array().readAlternatives(target, at);
  }

  async heal(good: Buffer, at: LuByte): Promise<void> {
    this.#check([good], at);
    if (good.length !== BLOCK_BYTES) throw this.#invalid("length", good.length);
    await this.#array().heal(good, at);
  }

  async close(): Promise<void> {
    try {
      await this.flush();
    } finally {
      this.#onClose();
    }
  }
}
