import type { BlockChecksums } from "../../lib/block-checksums.js";
import type { Clock } from "../../lib/clock.js";
import { StorageError } from "../../lib/errors.js";
import { BLOCK_BYTES } from "../../lib/units.js";
import type { ApplyObserver } from "../contents-contract.js";
import type { Inode, InodeMarks } from "../inode.js";
import { LIMITS } from "../vfs.js";
import type { DatabaseRoom } from "./database-room.js";
import { BlockFlag, type FileGroup, type FileState, PENDING } from "./file-state.js";
import { type FrameCache, FrameState } from "./frame-cache.js";
import type { Freer } from "./freer.js";
import type { GroupTable } from "./group-table.js";
import { GROUP_BLOCKS, WRITE_BLOCKS_MIN } from "./limits.js";
import type { Reader } from "./reader.js";
import type { SpaceMap } from "./space-map.js";
import type { Truncation } from "./truncation.js";
import type { WriteBack } from "./write-back.js";

export interface FileWriterParts {
  readonly table: GroupTable;
  readonly frames: FrameCache;
  readonly space: SpaceMap;
  readonly databaseRoom: DatabaseRoom;
  readonly reader: Reader;
  readonly writeBack: WriteBack;
  readonly truncation: Truncation;
  readonly freer: Freer;
  readonly inodes: InodeMarks;
  readonly clock: Clock;
  /**
   * Try to make freed space usable. @param attempt counts from 0 for one operation
   * @returns false when nothing is left to try
   */
  readonly reclaim: (attempt: number) => Promise<boolean>;
  /** Write everything back and commit it: so many rows are pending that one record could hardly take them. */
  readonly relieve: () => Promise<void>;
}

/** What a write needs and does not have; "none": it can be applied at once. */
type Lack = "none" | "old block" | "space" | "rows" | "commit";

const GROUP_BYTES = GROUP_BLOCKS * BLOCK_BYTES;

/**
 * Writes and truncates. An operation is applied in one synchronous piece. When it must await something first (room in the cache, an old
 * block to merge with, space, the end of what a truncate is still freeing behind the end of the file), it stands in its inode's queue, and so do all later ones of that inode: the order of the calls is kept.
 */
export class FileWriter {
  readonly #parts: FileWriterParts;
  /** Bytes of one write; what the dirty bound holds with both edges. */
  readonly #writeBytesMax: number;
  #closed = false;

  constructor(parts: FileWriterParts) {
    this.#parts = parts;
    // One write is published in one commit: a new segment and an old one for each block, at the worst.
    const publishedMax = Math.floor((parts.table.pagesMax * 2) / 5);
    this.#writeBytesMax =
      (Math.min(parts.frames.pinnedMax, Math.max(publishedMax, WRITE_BLOCKS_MIN)) - 2) * BLOCK_BYTES;
  }

  /** @throws StorageError EFBIG, EINVAL (larger than half the cache), ENOSPC, EIO (the old block, or write-back failed), ESTALE */
  write(
    inode: Inode,
    offset: number,
    source: Buffer,
    observer: ApplyObserver,
    checksums: BlockChecksums | null,
  ): void | Promise<void> {
    if (offset + source.length > LIMITS.fileBytesMax) throw new StorageError("EFBIG", "the file would be too large");
    if (source.length > this.#writeBytesMax) throw new StorageError("EINVAL", "the write is larger than the cache");
    const { table, frames, writeBack } = this.#parts;
    const state = table.stateOf(inode);
    if (
      state.queue === null &&
      !this.#beingFreed(inode, writeEnd(offset, source)) &&
      frames.hasRoom(blocksOf(offset, source.length))
    ) {
      if (this.#lackOf(state, offset, source.length) === "none") {
        this.#apply(state, offset, source, observer, checksums);
        writeBack.kick();
        return;
      }
    }
    return this.#enqueue(state, () => this.#writeSlowly(state, offset, source, observer, checksums));
  }

  /** @throws StorageError EFBIG, ENOSPC, EIO, ESTALE */
  truncate(inode: Inode, sizeBytes: number, observer: ApplyObserver): void | Promise<void> {
    if (sizeBytes > LIMITS.fileBytesMax) throw new StorageError("EFBIG", "the file would be too large");
    const { table, frames, truncation } = this.#parts;
    const state = table.stateOf(inode);
    const free = state.queue === null && !this.#beingFreed(inode, sizeBytes);
    if (free && (!truncation.needsFrame(state, sizeBytes) || this.#roomForOne(frames.hasRoom(1)))) {
      truncation.apply(state, sizeBytes, observer);
      table.forgetIdle(state);
      return;
    }
    return this.#enqueue(state, () => this.#truncateSlowly(state, sizeBytes, observer));
  }

  /** Operations that still wait are refused (EIO). */
  close(): void {
    this.#closed = true;
    this.#parts.frames.failWaiters(closedError());
  }

  #refuse(state: FileState): void {
    if (this.#closed) throw closedError();
    if (state.dead || state.inode.dead) throw new StorageError("ESTALE", "the file was removed");
  }

  #enqueue(state: FileState, action: () => Promise<void>): Promise<void> {
    const done = state.queue === null ? action() : state.queue.then(action);
    const settled = done.then(nothing, nothing).then(() => {
      if (state.queue !== settled) return;
      state.queue = null;
      this.#parts.table.forgetIdle(state);
    });
    state.queue = settled;
    return done;
  }

  async #writeSlowly(
    state: FileState,
    offset: number,
    source: Buffer,
    observer: ApplyObserver,
    checksums: BlockChecksums | null,
  ): Promise<void> {
    const { frames, writeBack, relieve } = this.#parts;
    const frameCount = blocksOf(offset, source.length);
    await this.#untilFreed(state, writeEnd(offset, source));
    const room = frames.reserve(frameCount, observer.client ?? "");
    writeBack.kick();
    await room;
    try {
      for (let attempt = 0; ; ) {
        this.#refuse(state);
        const lack = this.#lackOf(state, offset, source.length);
        if (lack === "none") break;
        if (lack === "rows") await relieve();
        else if (lack === "commit") await writeBack.writeBack(state);
        else if (lack === "old block") await this.#loadEdges(state, offset, source.length);
        else attempt = await this.#reclaim(attempt);
      }
      this.#apply(state, offset, source, observer, checksums);
    } finally {
      frames.unreserve(frameCount);
    }
    writeBack.kick();
  }

  async #truncateSlowly(state: FileState, sizeBytes: number, observer: ApplyObserver): Promise<void> {
    const { frames, truncation, writeBack } = this.#parts;
    await this.#untilFreed(state, sizeBytes);
    const room = frames.reserve(1, observer.client ?? "");
    writeBack.kick();
    await room;
    try {
      for (let attempt = 0; ; ) {
        this.#refuse(state);
        if (!truncation.needsFrame(state, sizeBytes) || this.#roomForOne(true)) break;
        attempt = await this.#reclaim(attempt);
      }
      truncation.apply(state, sizeBytes, observer);
    } finally {
      frames.unreserve(1);
    }
  }

  /** Whether the file would reach into groups that are being freed. Its size never does. */
  #beingFreed(inode: Inode, end: number): boolean {
    return end > this.#parts.freer.firstGroup(inode.ino) * GROUP_BYTES;
  }

  /** Before room is asked for: it may take long, and the queue keeps a later truncate of this file behind. */
  async #untilFreed(state: FileState, end: number): Promise<void> {
    this.#refuse(state);
    while (this.#beingFreed(state.inode, end)) {
      await this.#parts.freer.step(state.inode.ino);
      this.#refuse(state);
    }
  }

  async #reclaim(attempt: number): Promise<number> {
    if (await this.#parts.reclaim(attempt)) return attempt + 1;
    throw new StorageError("ENOSPC", "no space is left for file data");
  }

  #roomForOne(frame: boolean): boolean {
    return frame && this.#parts.space.canPromise(0, 1);
  }

  #lackOf(state: FileState, offset: number, byteCount: number): Lack {
    if (byteCount === 0) return "none";
    const { space, databaseRoom, table } = this.#parts;
    const first = Math.floor(offset / BLOCK_BYTES);
    const last = Math.floor((offset + byteCount - 1) / BLOCK_BYTES);
    const groupCount = Math.floor(last / GROUP_BLOCKS) - Math.floor(first / GROUP_BLOCKS) + 1;
    if (table.pendingRowCount >= table.rowsMax) return "rows";
    if (!table.publishable(state, groupCount, last - first + 1)) return "commit";
    let fresh = 0;
    let overwritten = 0;
    for (let block = first; block <= last; block++) {
      const group = this.#groupOf(state, block);
      const slot = block % GROUP_BLOCKS;
      const flags = group.flags[slot]!;
      if (group.addresses[slot]! < 0 && (flags & PENDING) === 0) fresh++;
      else if ((flags & BlockFlag.dirty) === 0) overwritten++;
    }
    // Last, with nothing between this and the copying: loading a group may push another one out, with its clean frames.
    if (this.#edgeMissing(state, first, offset, byteCount)) return "old block";
    if (last !== first && this.#edgeMissing(state, last, offset, byteCount)) return "old block";
    if (!space.canPromise(fresh, overwritten)) return "space";
    const hasRows = fresh === 0 ? databaseRoom.hasRoomToOverwrite() : databaseRoom.hasRoom();
    return hasRows ? "none" : "space";
  }

  /** Whether some bytes of the block must be kept that are only on the data LU. */
  #edgeMissing(state: FileState, block: number, offset: number, byteCount: number): boolean {
    const group = this.#groupOf(state, block);
    const slot = block % GROUP_BLOCKS;
    if (group.frames[slot]! >= 0 || group.addresses[slot]! < 0) return false;
    const start = block * BLOCK_BYTES;
    const end = Math.min(start + BLOCK_BYTES, state.inode.sizeBytes);
    return offset > start || offset + byteCount < end;
  }

  async #loadEdges(state: FileState, offset: number, byteCount: number): Promise<void> {
    const first = Math.floor(offset / BLOCK_BYTES);
    const last = Math.floor((offset + byteCount - 1) / BLOCK_BYTES);
    for (const block of first === last ? [first] : [first, last]) {
      if (!this.#edgeMissing(state, block, offset, byteCount)) continue;
      await this.#parts.reader.load(state.inode, this.#groupOf(state, block), block % GROUP_BLOCKS);
      this.#refuse(state);
    }
  }

  #apply(
    state: FileState,
    offset: number,
    source: Buffer,
    observer: ApplyObserver,
    checksums: BlockChecksums | null,
  ): void {
    const { inode } = state;
    observer.before();
    if (source.length > 0) this.#copyIn(state, offset, source, checksums);
    const end = offset + source.length;
    if (source.length > 0 && end > inode.sizeBytes) inode.sizeBytes = end;
    this.#parts.inodes.markDirty(inode);
    state.serial++;
    observer.after();
  }

  #copyIn(state: FileState, offset: number, source: Buffer, checksums: BlockChecksums | null): void {
    const { table, frames, clock } = this.#parts;
    const nowMs = clock.monotonicMs();
    const end = offset + source.length;
    const first = Math.floor(offset / BLOCK_BYTES);
    const last = Math.floor((end - 1) / BLOCK_BYTES);
    // The edges hold bytes that must be kept: they are pinned before a frame is taken for any other block.
    this.#pin(state, first, nowMs);
    if (last !== first) this.#pin(state, last, nowMs);
    for (let block = first; block <= last; block++) {
      const start = block * BLOCK_BYTES;
      const from = Math.max(start, offset);
      const to = Math.min(start + BLOCK_BYTES, end);
      const group = this.#groupOf(state, block);
      const slot = block % GROUP_BLOCKS;
      const frame = newVersion(frames, group, slot, to - from === BLOCK_BYTES);
      source.copy(frames.view(frame), from - start, from - offset, to - offset);
      const crc = checksums !== null && to - from === BLOCK_BYTES ? checksums.of(block) : -1;
      if (crc >= 0) frames.noteChecksum(frame, crc);
      table.markDirty(group, slot, nowMs);
    }
  }

  #pin(state: FileState, block: number, nowMs: number): void {
    const { frames, table } = this.#parts;
    const group = this.#groupOf(state, block);
    const slot = block % GROUP_BLOCKS;
    const frame = group.frames[slot]!;
    if (frame < 0 || frames.states[frame] !== FrameState.clean) return;
    frames.makeDirty(frame);
    table.markDirty(group, slot, nowMs);
  }

  #groupOf(state: FileState, block: number): FileGroup {
    return this.#parts.table.group(state, Math.floor(block / GROUP_BLOCKS));
  }
}

/**
 * A dirty frame of the block that may be changed, with the newest content, or zeros where there was none. When `whole` is set its
 * content does not matter. A frame that a write-back reads stays as it is and is left behind.
 */
export function newVersion(frames: FrameCache, group: FileGroup, slot: number, whole: boolean): number {
  const old = group.frames[slot]!;
  if (old >= 0 && frames.states[old] !== FrameState.writing) {
    frames.makeDirty(old);
    return old;
  }
  if (old >= 0) frames.detach(old);
  const frame = frames.takeDirty(group, slot);
  if (whole) return frame;
  if (old >= 0) frames.view(old).copy(frames.view(frame));
  else frames.view(frame).fill(0);
  return frame;
}

function blocksOf(offset: number, byteCount: number): number {
  if (byteCount === 0) return 0;
  return Math.floor((offset + byteCount - 1) / BLOCK_BYTES) - Math.floor(offset / BLOCK_BYTES) + 1;
}

/** Where a file that has only this written ends. */
function writeEnd(offset: number, source: Buffer): number {
  return source.length === 0 ? 0 : offset + source.length;
}

function closedError(): StorageError {
  return new StorageError("EIO", "the file system is closed");
}

function nothing(): void {}
