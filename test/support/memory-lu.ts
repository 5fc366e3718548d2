import { assert } from "../../src/lib/assert.js";
import { StorageError } from "../../src/lib/errors.js";
import { type Random, SeededRandom } from "../../src/lib/prng.js";
import { BLOCK_BYTES, KIB, type LuByte } from "../../src/lib/units.js";
import type { LogicalUnit, LuDescription } from "../../src/lu/lu.js";

/** What a disk writes as one piece; a crash keeps or loses each of them on its own. */
export const SECTOR_BYTES = 512;

export interface MemoryLuOptions {
  readonly sizeBytes: number;
  /** Default 64 KiB. */
  readonly stripeBytes?: number;
  /** Picks what a crash keeps. Default: seed 1. */
  readonly random?: Random;
  /** `corrupt` then leaves a good copy behind, which `readAlternatives` finds. */
  readonly redundant?: boolean;
  /** Milliseconds each operation takes; 0 (default): one turn of the event loop. */
  readonly latencyMs?: number;
  readonly name?: string;
  /** Default: 1. */
  readonly number?: number;
}

export interface LuOperation {
  readonly kind: "write" | "writeThrough" | "flush" | "heal";
  /** 0-based, counts writes, flushes and heals since the LU was made (a crash starts anew). */
  readonly index: number;
  readonly at: number;
  readonly byteCount: number;
}

export interface MemoryLuCounters {
  reads: number;
  writes: number;
  flushes: number;
  heals: number;
  bytesRead: number;
  bytesWritten: number;
}

/** A block that is in the volatile cache only: its newest content, and one earlier content that was never flushed either. */
interface CachedBlock {
  newest: Buffer;
  older: Buffer | null;
}

interface PendingWrite {
  readonly sources: readonly Buffer[];
  readonly at: number;
}

/**
 * A logical unit in memory with a volatile write cache, for tests. What is flushed lies in one buffer, what is not in an overlay of
 * blocks; a crash keeps any subset of the overlay's sectors, and of the writes that were still in flight.
 *
 * To stop the world at one operation set `beforeOperation` and return "halt": that write ends up in the cache (so a crash keeps any part
 * of it), that flush does nothing, the operation and all later ones reject, and nothing changes the LU any more. Then `crash` hands back
 * a new LU with what survived.
 */
export class MemoryLu implements LogicalUnit {
  readonly description: LuDescription;
  sizeBytes: number;
  stripeBytes: number;
  readonly counters: MemoryLuCounters = { reads: 0, writes: 0, flushes: 0, heals: 0, bytesRead: 0, bytesWritten: 0 };
  /** Called before each write, flush and heal takes effect. */
  beforeOperation: ((operation: LuOperation) => "halt" | undefined) | null = null;
  /** Writes and flushes (writes) or reads reject with EIO and change nothing; a function decides per range. */
  failWrites: boolean | ((at: number, byteCount: number) => boolean) = false;
  failReads: boolean | ((at: number, byteCount: number) => boolean) = false;
  latencyMs: number;

  #options: MemoryLuOptions;
  readonly #random: Random;
  #durable: Buffer;
  readonly #cache = new Map<number, CachedBlock>();
  readonly #inFlight = new Set<PendingWrite>();
  /** Block index to the content that `corrupt` spoiled. */
  readonly #goodCopies = new Map<number, Buffer>();
  #operations = 0;
  #halted = false;

  constructor(options: MemoryLuOptions, content: Buffer = Buffer.alloc(options.sizeBytes)) {
    assert(content.length === options.sizeBytes, "content is as long as the LU");
    this.#options = options;
    this.#random = options.random ?? new SeededRandom(1);
    this.#durable = content;
    this.sizeBytes = options.sizeBytes;
    this.stripeBytes = options.stripeBytes ?? 64 * KIB;
    this.latencyMs = options.latencyMs ?? 0;
    const name = options.name ?? "memory";
    this.description = {
      number: options.number ?? 1,
      uuid: "memory-lu",
      name,
      level: 1,
      width: 2,
      sizeBytes: this.sizeBytes,
      groupUuid: "memory",
    };
  }

  get halted(): boolean {
    return this.#halted;
  }

  /** Writes, flushes and heals so far: the number of crash points of a schedule. */
  get operations(): number {
    return this.#operations;
  }

  async read(target: Buffer, at: LuByte): Promise<void> {
    await this.readv([target], at);
  }

  async readv(targets: readonly Buffer[], at: LuByte): Promise<void> {
    const byteCount = this.#check(targets, at);
    await this.#delay();
    this.#refuse(this.failReads, at, byteCount, "read");
    this.counters.reads++;
    this.counters.bytesRead += byteCount;
    let position: number = at;
    for (const target of targets) {
      this.#copyOut(target, position);
      position += target.length;
    }
  }

  async write(source: Buffer, at: LuByte): Promise<void> {
    await this.writev([source], at);
  }

  async writev(sources: readonly Buffer[], at: LuByte): Promise<void> {
    await this.#writeAs("write", sources, at);
  }

  async writeThrough(sources: readonly Buffer[], at: LuByte): Promise<void> {
    await this.#writeAs("writeThrough", sources, at);
  }

  /** Takes effect at the call, so it covers exactly the writes that had resolved by then. */
  async flush(): Promise<void> {
    this.#refuse(this.failWrites, 0, 0, "flush");
    this.#announce("flush", 0, 0);
    this.#refuseHalted();
    this.counters.flushes++;
    for (const [block, cached] of this.#cache) cached.newest.copy(this.#durable, block * BLOCK_BYTES);
    this.#cache.clear();
    await this.#delay();
    this.#refuseHalted();
  }

  async *readAlternatives(target: Buffer, at: LuByte): AsyncIterable<void> {
    assert(target.length === BLOCK_BYTES, "alternatives are read one block at a time");
    this.#check([target], at);
    await this.#delay();
    this.#refuseHalted();
    if (this.#options.redundant !== true) return;
    const good = this.#goodCopies.get(at / BLOCK_BYTES);
    if (good === undefined) this.#copyOut(target, at);
    else good.copy(target);
    yield;
  }

  async heal(good: Buffer, at: LuByte): Promise<void> {
    this.#check([good], at);
    this.#announce("heal", at, good.length);
    this.#refuseHalted();
    await this.#delay();
    this.#refuse(this.failWrites, at, good.length, "heal");
    this.counters.heals++;
    this.#store(good, at, true);
  }

  async close(): Promise<void> {
    await this.flush();
  }

  /**
   * The power fails: this object is dead from now on, the one returned holds what survived. "none" and "all" speak of what was written
   * and not flushed; "random" decides per sector, also between two unflushed versions of one block.
   */
  crash(options: { readonly keep: "none" | "all" | "random" }): MemoryLu {
    this.#halted = true;
    if (options.keep !== "none") {
      for (const pending of this.#inFlight) this.#storeAll(pending.sources, pending.at, false);
      for (const [block, cached] of this.#cache) this.#settle(block, cached, options.keep);
    }
    const survivor = new MemoryLu({ ...this.#options, random: this.#random }, this.#durable);
    for (const [block, good] of this.#goodCopies) survivor.#goodCopies.set(block, good);
    return survivor;
  }

  /** The LU is resized, or its group has grown, while it is open. */
  grow(sizeBytes: number, stripeBytes = this.stripeBytes): void {
    assert(sizeBytes >= this.sizeBytes, "an open LU only grows");
    this.#durable = Buffer.concat([this.#durable], sizeBytes);
    this.#options = { ...this.#options, sizeBytes, stripeBytes };
    this.sizeBytes = sizeBytes;
    this.stripeBytes = stripeBytes;
  }

  /** Silent rot: the block reads back changed. With `redundant` the other copy stays good. */
  corrupt(at: number): void {
    const block = Math.floor(at / BLOCK_BYTES);
    const content = Buffer.alloc(BLOCK_BYTES);
    this.#copyOut(content, block * BLOCK_BYTES);
    const good = this.#goodCopies.get(block) ?? Buffer.from(content);
    const bit = this.#random.below(BLOCK_BYTES * 8);
    content[bit >> 3] = content[bit >> 3]! ^ (1 << (bit & 7));
    this.#store(content, block * BLOCK_BYTES, true);
    this.#goodCopies.set(block, good);
  }

  /** What a read would give now, without the counters and without failing. */
  peek(at: number, byteCount: number): Buffer {
    const result = Buffer.alloc(byteCount);
    this.#copyOut(result, at);
    return result;
  }

  async #writeAs(kind: "write" | "writeThrough", sources: readonly Buffer[], at: number): Promise<void> {
    const byteCount = this.#check(sources, at);
    this.#refuse(this.failWrites, at, byteCount, "write");
    const pending = { sources, at };
    this.#inFlight.add(pending);
    try {
      this.#announce(kind, at, byteCount);
      if (this.#halted) this.#storeAll(sources, at, false);
      this.#refuseHalted();
      await this.#delay();
      this.#refuseHalted();
      this.#storeAll(sources, at, kind === "writeThrough");
    } finally {
      this.#inFlight.delete(pending);
    }
    this.counters.writes++;
    this.counters.bytesWritten += byteCount;
  }

  #storeAll(sources: readonly Buffer[], at: number, durably: boolean): void {
    let position = at;
    for (const source of sources) {
      this.#store(source, position, durably);
      position += source.length;
    }
  }

  #store(source: Buffer, at: number, durably: boolean): void {
    if (durably) source.copy(this.#durable, at);
    for (let offset = 0; offset < source.length; offset += BLOCK_BYTES) {
      const block = (at + offset) / BLOCK_BYTES;
      if (this.#goodCopies.size > 0) this.#goodCopies.delete(block);
      if (durably) this.#cache.delete(block);
      else this.#cacheBlock(block, source, offset);
    }
  }

  #cacheBlock(block: number, source: Buffer, offset: number): void {
    const newest = Buffer.from(source.subarray(offset, offset + BLOCK_BYTES));
    const cached = this.#cache.get(block);
    if (cached === undefined) {
      this.#cache.set(block, { newest, older: null });
      return;
    }
    if (cached.older === null || this.#random.below(2) === 0) cached.older = cached.newest;
    cached.newest = newest;
  }

  #settle(block: number, cached: CachedBlock, keep: "all" | "random"): void {
    for (let offset = 0; offset < BLOCK_BYTES; offset += SECTOR_BYTES) {
      const choice = keep === "all" ? 0 : this.#random.below(cached.older === null ? 2 : 3);
      const kept = choice === 0 ? cached.newest : choice === 2 ? cached.older : null;
      kept?.copy(this.#durable, block * BLOCK_BYTES + offset, offset, offset + SECTOR_BYTES);
    }
  }

  #copyOut(target: Buffer, at: number): void {
    this.#durable.copy(target, 0, at, at + target.length);
    if (this.#cache.size === 0) return;
    for (let offset = 0; offset < target.length; offset += BLOCK_BYTES) {
      this.#cache.get((at + offset) / BLOCK_BYTES)?.newest.copy(target, offset, 0, target.length - offset);
    }
  }

  #check(buffers: readonly Buffer[], at: number): number {
    let byteCount = 0;
    let aligned = at % BLOCK_BYTES === 0 && at >= 0;
    for (const buffer of buffers) {
      byteCount += buffer.length;
      aligned &&= buffer.length % BLOCK_BYTES === 0;
    }
    if (!aligned || at + byteCount > this.sizeBytes) {
      throw new StorageError("EINVAL", "range is not aligned or outside the LU", { at, byteCount });
    }
    return byteCount;
  }

  #announce(kind: LuOperation["kind"], at: number, byteCount: number): void {
    this.#refuseHalted();
    const index = this.#operations++;
    if (this.beforeOperation?.({ kind, index, at, byteCount }) === "halt") this.#halted = true;
  }

  #refuseHalted(): void {
    if (this.#halted) throw new StorageError("EIO", "the LU is halted");
  }

  #refuse(
    fault: boolean | ((at: number, byteCount: number) => boolean),
    at: number,
    byteCount: number,
    what: string,
  ): void {
    this.#refuseHalted();
    const fails = typeof fault === "function" ? fault(at, byteCount) : fault;
    if (fails) throw new StorageError("EIO", "injected fault", { what, at, byteCount });
  }

  #delay(): Promise<void> {
    return new Promise((resolve) => {
      if (this.latencyMs > 0) setTimeout(resolve, this.latencyMs);
      else setImmediate(resolve);
    });
  }
}
