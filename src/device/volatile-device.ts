import { assert } from "../lib/assert.js";
import { StorageError } from "../lib/errors.js";
import { allSettledOrThrow } from "../lib/mutex.js";
import type { Random } from "../lib/prng.js";
import { SharedFlush } from "../lib/shared-flush.js";
import { BLOCK_BYTES, MIB } from "../lib/units.js";
import type { BlockDevice } from "./device.js";
import { DirtyBlocks, type DirtyRun } from "./dirty-blocks.js";
import { SECTOR_BYTES } from "./memory-media.js";
import { checkRange, checkWritable, closedError, InFlight, totalBytes } from "./range.js";

/** drop: nothing of the cache survives. keep: all of it. torn: of its sectors any subset. */
export type CutMode = "drop" | "torn" | "keep";

/** What a cut did to the sectors of 512 bytes that were not flushed. */
export interface CutReport {
  readonly keptSectors: number;
  readonly lostSectors: number;
}

const CACHE_BYTES = 8 * MIB;
export interface VolatileOptions {
  readonly cacheBytes?: number | undefined;
  /** Called when a write, or a piece of a large one, is in the cache, and nothing was done about it yet: a moment to cut the power. */
  readonly onWrite?: (() => void) | undefined;
}

/** Requests below at a time when the cache is written out. */
const REQUESTS_MAX = 8;
const SECTORS = BLOCK_BYTES / SECTOR_BYTES;

/**
 * A disk's volatile write cache over any device: writes stay in memory until they are flushed, written through, or until the cache is
 * full, when the oldest half is written below as a real disk may do at any time. `cut` is the power failing. Like a disk
 * with sectors of 4096 bytes it takes whole blocks only. Closing writes out what is there, unflushed.
 */
export class VolatileDevice implements BlockDevice {
  readonly name: string;
  readonly sizeBytes: number;
  readonly readOnly: boolean;
  readonly alignmentBytes = BLOCK_BYTES;
  readonly #below: BlockDevice;
  readonly #onWrite: (() => void) | undefined;
  readonly #cache: DirtyBlocks;
  readonly #inFlight = new InFlight();
  readonly #flushes = new SharedFlush(() => this.#flushNow());
  /** Writing out, one promise for each request below; they never reject. */
  readonly #writing = new Set<Promise<void>>();
  #cutOff = false;
  #closed: Promise<void> | null = null;

  constructor(below: BlockDevice, options: VolatileOptions = {}) {
    const slotCount = Math.floor((options.cacheBytes ?? CACHE_BYTES) / BLOCK_BYTES);
    assert(slotCount >= 8, "a cache has a few blocks");
    assert(BLOCK_BYTES % below.alignmentBytes === 0, "the device below takes single blocks");
    this.#below = below;
    this.#onWrite = options.onWrite;
    this.#cache = new DirtyBlocks(slotCount);
    this.name = below.name;
    this.sizeBytes = below.sizeBytes;
    this.readOnly = below.readOnly;
  }

  read(target: Buffer, position: number): Promise<void> {
    return this.readv([target], position);
  }

  readv(targets: readonly Buffer[], position: number): Promise<void> {
    return this.#run(position, totalBytes(targets), (byteCount) => this.#read(targets, position, byteCount));
  }

  write(source: Buffer, position: number): Promise<void> {
    return this.writev([source], position);
  }

  writev(sources: readonly Buffer[], position: number): Promise<void> {
    return this.#run(position, totalBytes(sources), (byteCount) => this.#write(sources, position, byteCount));
  }

  writeThrough(sources: readonly Buffer[], position: number): Promise<void> {
    return this.#run(position, totalBytes(sources), (byteCount) => this.#writeThrough(sources, position, byteCount));
  }

  async flush(): Promise<void> {
    await this.#run(0, 0, () => this.#flushes.flush());
  }

  close(): Promise<void> {
    this.#closed ??= this.#closeNow();
    return this.#closed;
  }

  /** Sectors that a cut would decide about. */
  get unflushedSectors(): number {
    return this.#cache.dirtyCount * SECTORS;
  }

  /**
   * The power fails. From this call on every request is ENXIO, also those under way; resolves when what survives is below.
   * @param random  chooses the survivors (torn)
   * @throws StorageError when the device below fails; what was not written by then is lost
   */
  async cut(random: Random, mode: CutMode): Promise<CutReport> {
    this.#cutOff = true;
    await this.#settled();
    let keptSectors = 0;
    const dirty = this.#cache.dirty();
    for (const block of dirty) {
      const survivors = survivorsOf(random, mode);
      if (survivors !== 0) await this.#survive(block, survivors);
      for (let bits = survivors; bits !== 0; bits >>= 1) keptSectors += bits & 1;
    }
    return { keptSectors, lostSectors: dirty.length * SECTORS - keptSectors };
  }

  /** A write is taken in pieces of so many blocks, each at once. */
  get #pieceBlocks(): number {
    return this.#cache.slotCount >> 2;
  }

  async #run(position: number, byteCount: number, action: (byteCount: number) => Promise<void>): Promise<void> {
    this.#assertOn(position);
    checkRange(this, position, byteCount);
    this.#inFlight.enter();
    try {
      await action(byteCount);
      this.#assertPower(position);
    } finally {
      this.#inFlight.leave();
    }
  }

  #assertOn(position: number): void {
    if (this.#inFlight.closed) throw closedError(this.name, position);
    this.#assertPower(position);
  }

  #assertPower(position: number): void {
    if (!this.#cutOff) return;
    throw new StorageError("ENXIO", `${this.name} has no power`, { device: this.name, position, injected: "cut" });
  }

  async #read(targets: readonly Buffer[], position: number, byteCount: number): Promise<void> {
    if (!this.#touches(position, byteCount)) return this.#below.readv(targets, position);
    const all = Buffer.allocUnsafe(byteCount);
    await allSettledOrThrow(this.#readParts(all, position));
    let done = 0;
    for (const target of targets) done += all.copy(target, 0, done, done + target.length);
  }

  #touches(position: number, byteCount: number): boolean {
    if (this.#cache.dirtyCount === 0) return false;
    const end = (position + byteCount) / BLOCK_BYTES;
    for (let block = position / BLOCK_BYTES; block < end; block++) if (this.#cache.has(block)) return true;
    return false;
  }

  /** Cached blocks are copied now: by the time the others have come from below they may have been written out and replaced. */
  #readParts(all: Buffer, position: number): Promise<void>[] {
    const reads: Promise<void>[] = [];
    let from = 0;
    const readUpTo = (to: number): void => {
      if (from < to) reads.push(this.#below.read(all.subarray(from, to), position + from));
    };
    for (let at = 0; at < all.length; at += BLOCK_BYTES) {
      const block = (position + at) / BLOCK_BYTES;
      if (!this.#cache.has(block)) continue;
      this.#cache.bytes(block).copy(all, at);
      readUpTo(at);
      from = at + BLOCK_BYTES;
    }
    readUpTo(all.length);
    return reads;
  }

  *#pieces(sources: readonly Buffer[], position: number, byteCount: number) {
    const pieceBytes = this.#pieceBlocks * BLOCK_BYTES;
    if (byteCount <= pieceBytes) {
      if (byteCount > 0) yield { part: sources, at: position, blockCount: byteCount / BLOCK_BYTES };
      return;
    }
    for (let done = 0; done < byteCount; done += pieceBytes) {
      const length = Math.min(pieceBytes, byteCount - done);
      yield { part: slice(sources, done, length), at: position + done, blockCount: length / BLOCK_BYTES };
    }
  }

  /** The caller looks again afterwards: others wait for room, too. */
  async #makeRoom(): Promise<void> {
    const oldest = this.#cache.takeOldest(this.#cache.slotCount >> 1);
    if (oldest.length > 0) await this.#writeOut(oldest, "writev");
    else await this.#settled();
    this.#assertPower(0);
  }

  async #write(sources: readonly Buffer[], position: number, byteCount: number): Promise<void> {
    checkWritable(this, position);
    for (const { part, at, blockCount } of this.#pieces(sources, position, byteCount)) {
      while (this.#cache.freeCount < blockCount) await this.#makeRoom();
      this.#cache.put(part, at / BLOCK_BYTES, blockCount);
      this.#onWrite?.();
    }
    this.#flushes.wrote();
  }

  async #writeThrough(sources: readonly Buffer[], position: number, byteCount: number): Promise<void> {
    const firstBlock = position / BLOCK_BYTES;
    const blockCount = byteCount / BLOCK_BYTES;
    await this.#write(sources, position, byteCount);
    const taken = this.#cache.takeRange(firstBlock, blockCount);
    const whole = taken.length === blockCount;
    await this.#writeOut(taken, whole ? "writeThrough" : "writev");
    // Otherwise some were written out as others made room, or an older content was on its way, and the newer must come after it.
    if (!whole) await this.#flushes.flush();
  }

  async #flushNow(): Promise<void> {
    await this.#drain();
    await this.#below.flush();
  }

  /** Everything that was written up to now is below, though not durable there. */
  async #drain(): Promise<void> {
    const upTo = this.#cache.lastWrite;
    while (this.#cache.holdsUpTo(upTo)) {
      this.#assertPower(0);
      const taken = this.#cache.takeOldest(this.#cache.slotCount, upTo);
      if (taken.length > 0) await this.#writeOut(taken, "writev");
      else await this.#settled();
    }
  }

  /** @throws the first error; the blocks of a request that failed are dirty again */
  async #writeOut(taken: readonly number[], how: "writev" | "writeThrough"): Promise<void> {
    const errors: unknown[] = [];
    const runs = this.#cache.runs(taken);
    const left = runs.values();
    const worker = async (): Promise<void> => {
      for (const run of left) await this.#writeRun(run, how).catch((error: unknown) => errors.push(error));
    };
    await Promise.all(Array.from({ length: Math.min(REQUESTS_MAX, runs.length) }, worker));
    if (errors.length > 0) throw errors[0];
  }

  async #writeRun(run: DirtyRun, how: "writev" | "writeThrough"): Promise<void> {
    const request = this.#cutOff ? Promise.reject(closedError(this.name, run.position)) : this.#send(run, how);
    const settled = request.then(
      () => this.#cache.settle(run.blocks, true),
      () => this.#cache.settle(run.blocks, false),
    );
    this.#writing.add(settled);
    await settled.finally(() => this.#writing.delete(settled));
    await request;
  }

  #send({ buffers, position }: DirtyRun, how: "writev" | "writeThrough"): Promise<void> {
    return how === "writev" ? this.#below.writev(buffers, position) : this.#below.writeThrough(buffers, position);
  }

  /** The requests that are under way below now have ended. */
  async #settled(): Promise<void> {
    await Promise.all(this.#writing);
  }

  /** The sectors of `survivors` (bit i: sector i) reach the medium, the others of the block do not. */
  async #survive(block: number, survivors: number): Promise<void> {
    const cached = this.#cache.bytes(block);
    const position = block * BLOCK_BYTES;
    const image = Buffer.alloc(BLOCK_BYTES);
    await this.#below.read(image, position);
    for (let sector = 0; sector < SECTORS; sector++) {
      const at = sector * SECTOR_BYTES;
      if (((survivors >> sector) & 1) === 1) cached.copy(image, at, at, at + SECTOR_BYTES);
    }
    await this.#below.write(image, position);
  }

  async #closeNow(): Promise<void> {
    await this.#inFlight.drain();
    try {
      if (!this.#cutOff) await this.#drain();
    } catch {
      // What the device below does not take is lost, as with any disk that fails with a full cache; nobody was promised otherwise.
    } finally {
      await this.#below.close();
    }
  }
}

function survivorsOf(random: Random, mode: CutMode): number {
  if (mode === "drop") return 0;
  if (mode === "keep") return 0xff;
  // Whole blocks, old or new, are as likely as torn ones.
  const kind = random.below(4);
  return kind === 0 ? 0 : kind === 1 ? 0xff : random.below(256);
}

/** Bytes [from, from + byteCount) of a vector. */
function slice(buffers: readonly Buffer[], from: number, byteCount: number): Buffer[] {
  const part: Buffer[] = [];
  let at = -from;
  for (const buffer of buffers) {
    const start = Math.max(0, -at);
    const end = Math.min(buffer.length, byteCount - at);
    if (start < end) part.push(buffer.subarray(start, end));
    at += buffer.length;
  }
  return part;
}
