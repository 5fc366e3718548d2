import { crc32c, crc32cAppendBlock } from "../../lib/crc32c.js";
import { StorageError } from "../../lib/errors.js";
import type { Logger } from "../../lib/log.js";
import { allSettledOrThrow } from "../../lib/mutex.js";
import { BLOCK_BYTES, type LuByte } from "../../lib/units.js";
import type { LogicalUnit } from "../../lu/lu.js";
import type { Inode } from "../inode.js";
import type { BadBlock, ContentsEvent } from "./events.js";
import type { BlockMap } from "./extent-map.js";
import { type FileGroup, PENDING } from "./file-state.js";
import type { FrameCache } from "./frame-cache.js";
import type { GroupTable } from "./group-table.js";
import { DIRECT_READ_BYTES, GROUP_BLOCKS } from "./limits.js";
import type { ReadEpochs } from "./read-epochs.js";

/** Frames that one read of the data LU fills at most; larger requests are read directly. */
const FRAMES_PER_READ_MAX = 16;

export interface ReaderParts {
  readonly lu: LogicalUnit;
  readonly table: GroupTable;
  readonly frames: FrameCache;
  readonly epochs: ReadEpochs;
  readonly log: Logger;
  readonly onEvent: (event: ContentsEvent) => void;
  /** What is read for files is not verified. */
  readonly believing: boolean;
}

/** A block that must be read: where it was mapped when the request came, and which bytes of it go where in the target. */
interface MissedBlock {
  readonly block: number;
  readonly address: number;
  readonly crc: number;
  readonly validBytes: number;
  readonly targetOffset: number;
  readonly blockOffset: number;
  readonly byteCount: number;
  /** Straight into the target, past the cache. */
  readonly direct: boolean;
}

export interface ReaderCounters {
  healedBlocks: number;
  unreadableBlocks: number;
  directBlocks: number;
  loadedBlocks: number;
}

/**
 * Reads a file: what is cached is copied at once, holes are zeros, the rest comes from the data LU and is verified (I-3).
 *
 * The block map is read once, synchronously, when the request comes; with the copies made in the same piece the result is one moment
 * of the file. The mapped blocks cannot be used for anything else while the read runs: see ReadEpochs.
 */
export class Reader {
  readonly counters: ReaderCounters = { healedBlocks: 0, unreadableBlocks: 0, directBlocks: 0, loadedBlocks: 0 };
  readonly #parts: ReaderParts;

  constructor(parts: ReaderParts) {
    this.#parts = parts;
  }

  /** @returns bytes read. Rejects with EIO when a block cannot be proven. */
  read(inode: Inode, offset: number, target: Buffer): number | Promise<number> {
    const byteCount = Math.min(target.length, inode.sizeBytes - offset);
    if (byteCount <= 0) return 0;
    const missed = this.#copyCached(inode, offset, byteCount, target);
    return missed === null ? byteCount : this.#readMissed(inode, missed, target, byteCount);
  }

  /** Bring one mapped block into the cache. It may be gone again when the promise resolves: look, and call again. */
  async load(inode: Inode, group: FileGroup, slot: number): Promise<void> {
    const epoch = this.#parts.epochs.enter();
    try {
      await this.#readFrames(inode, [missedBlock(group, slot, 0, 0, 0, false)], EMPTY);
    } finally {
      this.#parts.epochs.leave(epoch);
    }
  }

  /**
   * Read one mapped block and verify it, past the cache. For `check`.
   * @throws StorageError EIO
   */
  async verify(inode: Inode, block: number, address: number, crc: number, target: Buffer): Promise<void> {
    const missed = { block, address, crc, validBytes: BLOCK_BYTES, targetOffset: 0, blockOffset: 0 };
    const failed = await this.#tryRead([target], address);
    this.counters.directBlocks++;
    if (failed || crc32c(target) !== crc) {
      await this.#prove(inode, { ...missed, byteCount: BLOCK_BYTES, direct: true }, target);
    }
  }

  /**
   * Read mapped blocks of a group, one after the other, into `target`, and verify them, past the cache; what was cut of a block is zero.
   * The caller holds the read epoch in which they were mapped.
   * @param slots   of the blocks, rising
   * @param target  4096 bytes for each
   * @throws StorageError EIO
   */
  async readStored(ino: number, group: number, map: BlockMap, slots: readonly number[], target: Buffer): Promise<void> {
    const missed = slots.map((slot, i) =>
      missedBlock({ ...map, index: group }, slot, i * BLOCK_BYTES, 0, BLOCK_BYTES, true),
    );
    await allSettledOrThrow(runsOf(missed, true).map((run) => this.#readDirect({ ino }, run, target)));
  }

  #copyCached(inode: Inode, offset: number, byteCount: number, target: Buffer): MissedBlock[] | null {
    const { table, frames } = this.#parts;
    const state = table.stateOf(inode);
    const end = offset + byteCount;
    // Otherwise the blocks would not lie in the target as direct I/O and parity want them.
    const large = byteCount >= DIRECT_READ_BYTES && offset % BLOCK_BYTES === 0;
    let missed: MissedBlock[] | null = null;
    let block = Math.floor(offset / BLOCK_BYTES);
    for (let at = offset; at < end; block++) {
      const group = table.group(state, Math.floor(block / GROUP_BLOCKS));
      const slot = block % GROUP_BLOCKS;
      const blockOffset = at - block * BLOCK_BYTES;
      const count = Math.min(BLOCK_BYTES - blockOffset, end - at);
      const frame = group.frames[slot]!;
      const to = at - offset;
      if (frame >= 0) {
        frames.view(frame).copy(target, to, blockOffset, blockOffset + count);
        frames.touch(frame);
      } else if (group.addresses[slot]! < 0) target.fill(0, to, to + count);
      else {
        missed ??= [];
        missed.push(missedBlock(group, slot, to, blockOffset, count, large && count === BLOCK_BYTES));
      }
      at += count;
    }
    return missed;
  }

  async #readMissed(inode: Inode, missed: readonly MissedBlock[], target: Buffer, byteCount: number): Promise<number> {
    const epoch = this.#parts.epochs.enter();
    try {
      if (missed.length === 1) await this.#readRun(inode, missed, target);
      else await allSettledOrThrow(runsOf(missed).map((run) => this.#readRun(inode, run, target)));
    } finally {
      this.#parts.epochs.leave(epoch);
    }
    return byteCount;
  }

  #readRun(inode: Inode, run: readonly MissedBlock[], target: Buffer): Promise<void> {
    return run[0]!.direct ? this.#readDirect(inode, run, target) : this.#readFrames(inode, run, target);
  }

  async #readDirect(inode: FileNumber, run: readonly MissedBlock[], target: Buffer): Promise<void> {
    const start = run[0]!.targetOffset;
    const bytes = target.subarray(start, start + run.length * BLOCK_BYTES);
    const failed = await this.#tryRead([bytes], run[0]!.address);
    this.counters.directBlocks += run.length;
    const proven = !failed && (this.#parts.believing || crc32c(bytes) === checksumOf(run));
    for (let i = 0; i < run.length; i++) {
      const missed = run[i]!;
      if (proven && missed.validBytes === BLOCK_BYTES) continue;
      const view = bytes.subarray(i * BLOCK_BYTES, (i + 1) * BLOCK_BYTES);
      if (!proven) await this.#ensure(inode, missed, view, failed);
      if (missed.validBytes < BLOCK_BYTES) view.fill(0, missed.validBytes);
    }
  }

  async #readFrames(inode: Inode, run: readonly MissedBlock[], target: Buffer): Promise<void> {
    const { frames } = this.#parts;
    while (!frames.canLoad(run.length)) await frames.loadingEnd();
    const taken = run.map(() => frames.takeLoading());
    let done = 0;
    try {
      const failed = await this.#tryRead(
        taken.map((frame) => frames.view(frame)),
        run[0]!.address,
      );
      this.counters.loadedBlocks += run.length;
      for (; done < run.length; done++) {
        const missed = run[done]!;
        const view = frames.view(taken[done]!);
        if (failed || !this.#parts.believing) await this.#ensure(inode, missed, view, failed);
        if (missed.validBytes < BLOCK_BYTES) view.fill(0, missed.validBytes);
        view.copy(target, missed.targetOffset, missed.blockOffset, missed.blockOffset + missed.byteCount);
        this.#keep(inode, missed, taken[done]!);
      }
    } finally {
      for (; done < run.length; done++) frames.dropLoading(taken[done]!);
    }
  }

  /** The frame becomes the block's, unless the block has changed or somebody else was faster. */
  #keep(inode: Inode, missed: MissedBlock, frame: number): void {
    const { table, frames } = this.#parts;
    const group = table.peek(inode)?.groups.get(Math.floor(missed.block / GROUP_BLOCKS));
    const slot = missed.block % GROUP_BLOCKS;
    const wanted =
      group !== undefined &&
      group.addresses[slot] === missed.address &&
      group.frames[slot] === -1 &&
      (group.flags[slot]! & PENDING) === 0;
    if (!wanted) {
      frames.dropLoading(frame);
      return;
    }
    // A truncate may have cut it meanwhile.
    if (group.validBytes[slot]! < missed.validBytes) frames.view(frame).fill(0, group.validBytes[slot]!);
    frames.loaded(frame, group, slot);
  }

  /** @returns whether it failed: then each block is tried by itself */
  async #tryRead(targets: readonly Buffer[], address: number): Promise<boolean> {
    const at = (address * BLOCK_BYTES) as LuByte;
    try {
      if (targets.length === 1) await this.#parts.lu.read(targets[0]!, at);
      else await this.#parts.lu.readv(targets, at);
      return false;
    } catch (error) {
      this.#parts.log.warn({ err: error, at }, "a read of the data LU failed");
      return true;
    }
  }

  /** @param failed  the read of the whole run was refused; this block may be as good as ever */
  async #ensure(inode: FileNumber, missed: MissedBlock, view: Buffer, failed: boolean): Promise<void> {
    if (failed && (await this.#tryRead([view], missed.address))) await this.#prove(inode, missed, view);
    else if (crc32c(view) !== missed.crc) await this.#prove(inode, missed, view);
  }

  /** The block as read is wrong: find a copy whose checksum is right and have the bad one rewritten. */
  async #prove(inode: FileNumber, missed: MissedBlock, view: Buffer): Promise<void> {
    const { lu, log, onEvent } = this.#parts;
    const at = (missed.address * BLOCK_BYTES) as LuByte;
    const where = { ino: inode.ino, block: missed.block, lu: lu.description.number, at };
    try {
      for await (const _ of lu.readAlternatives(view, at)) {
        if (crc32c(view) !== missed.crc) continue;
        await this.#heal(view, at, where);
        return;
      }
    } catch (error) {
      log.warn({ err: error, ...where }, "another copy of a block cannot be read");
    }
    if (!(await this.#tryRead([view], missed.address)) && crc32c(view) === missed.crc) return;
    this.counters.unreadableBlocks++;
    onEvent({ kind: "unreadable", ...where });
    throw new StorageError("EIO", "no copy of a block matches its checksum", where);
  }

  async #heal(view: Buffer, at: LuByte, where: Omit<BadBlock, "kind">): Promise<void> {
    try {
      await this.#parts.lu.heal(view, at);
      this.counters.healedBlocks++;
      this.#parts.onEvent({ kind: "healed", ...where });
    } catch (error) {
      // The data is proven all the same; the next reader tries again.
      this.#parts.log.warn({ err: error, ...where }, "a bad block could not be rewritten");
    }
  }
}

const EMPTY = Buffer.alloc(0);

/** All that a reader of stored blocks needs of an inode: to name it. */
type FileNumber = Pick<Inode, "ino">;

function missedBlock(
  group: BlockMap & Pick<FileGroup, "index">,
  slot: number,
  targetOffset: number,
  blockOffset: number,
  byteCount: number,
  direct: boolean,
): MissedBlock {
  return {
    block: group.index * GROUP_BLOCKS + slot,
    address: group.addresses[slot]!,
    crc: group.crcs[slot]!,
    validBytes: group.validBytes[slot]!,
    targetOffset,
    blockOffset,
    byteCount,
    direct,
  };
}

/** What the blocks' checksums say of all of them together. */
function checksumOf(run: readonly MissedBlock[]): number {
  let sum = run[0]!.crc;
  for (let i = 1; i < run.length; i++) sum = crc32cAppendBlock(sum, run[i]!.crc);
  return sum;
}

/**
 * Blocks that one read of the data LU can fetch: adjacent there, and, when read directly, adjacent in the target too.
 * @param packed  in the target they follow each other, whatever lies between them in the file
 */
function runsOf(missed: readonly MissedBlock[], packed = false): MissedBlock[][] {
  const runs: MissedBlock[][] = [];
  let run: MissedBlock[] = [];
  for (const next of missed) {
    const last = run.at(-1);
    const joins =
      last !== undefined &&
      next.address === last.address + 1 &&
      next.direct === last.direct &&
      (next.direct ? packed || next.block === last.block + 1 : run.length < FRAMES_PER_READ_MAX);
    if (!joins) {
      run = [];
      runs.push(run);
    }
    run.push(next);
  }
  return runs;
}
