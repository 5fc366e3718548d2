import type { Clock } from "../../lib/clock.js";
import { BLOCK_BYTES } from "../../lib/units.js";
import type { ApplyObserver } from "../contents-contract.js";
import type { InodeMarks } from "../inode.js";
import { type FileGroup, type FileState, PENDING } from "./file-state.js";
import { newVersion } from "./file-writer.js";
import { type FrameCache, FrameState } from "./frame-cache.js";
import type { Freer } from "./freer.js";
import type { GroupTable } from "./group-table.js";
import { GROUP_BLOCKS } from "./limits.js";

export interface TruncationParts {
  readonly freer: Freer;
  readonly table: GroupTable;
  readonly frames: FrameCache;
  readonly inodes: InodeMarks;
  readonly clock: Clock;
}

/**
 * Shrinking and growing a file. It changes rows only, never data on the LU: a block that is cut in its middle keeps its place and its
 * checksum, and its row says how many bytes are still valid. So the new size can be durable with the next commit, whatever is
 * unstable in the file, and nothing has to be read. What is cut off is freed in the same piece when it is little; otherwise the size
 * and a note of what is to be freed are in one commit, and the steps of Freer follow.
 *
 * Every version of a block (frame, captured frame, stored block with its valid bytes, intent) is zero behind the end of the file; so
 * growing needs no work.
 */
export class Truncation {
  readonly #parts: TruncationParts;

  constructor(parts: TruncationParts) {
    this.#parts = parts;
  }

  /** Whether the block that would be cut is being written back: its new version then needs a frame, and space. */
  needsFrame(state: FileState, sizeBytes: number): boolean {
    if (sizeBytes >= state.inode.sizeBytes || sizeBytes % BLOCK_BYTES === 0) return false;
    const block = Math.floor(sizeBytes / BLOCK_BYTES);
    const frame = this.#groupOf(state, block).frames[block % GROUP_BLOCKS]!;
    return frame >= 0 && this.#parts.frames.states[frame] === FrameState.writing;
  }

  apply(state: FileState, sizeBytes: number, observer: ApplyObserver): void {
    const { inode } = state;
    observer.before();
    if (sizeBytes < inode.sizeBytes) this.#shrink(state, sizeBytes);
    inode.sizeBytes = sizeBytes;
    inode.durableSizeBytes = sizeBytes;
    this.#parts.inodes.markDirty(inode);
    observer.after();
  }

  /** The last link is gone. */
  discard(state: FileState): void {
    const { table, freer } = this.#parts;
    const { inode } = state;
    const large = freer.isLarge(inode.ino, 0, inode.usedBlocks);
    this.#shrinkJob(state, 0);
    this.#forgetIntents(state, 0);
    if (large) this.#forgetGroups(state, 0);
    else this.#dropCached(state, 0);
    state.dead = true;
    inode.contents = null;
    table.dismiss(state);
    if (large) freer.freeLater(inode.ino, 0);
    else freer.freeNow(inode.ino, 0);
    table.work.changed.add(state);
  }

  #shrink(state: FileState, sizeBytes: number): void {
    const { table, freer } = this.#parts;
    const { inode } = state;
    const endBlock = Math.ceil(sizeBytes / BLOCK_BYTES);
    const firstGroup = Math.ceil(endBlock / GROUP_BLOCKS);
    const large = freer.isLarge(inode.ino, firstGroup, inode.usedBlocks);
    this.#shrinkJob(state, sizeBytes);
    if (sizeBytes % BLOCK_BYTES !== 0) this.#cut(state, endBlock - 1, sizeBytes % BLOCK_BYTES);
    // The group at the border is in memory from here on; those behind it are either in memory or only rows.
    if (endBlock % GROUP_BLOCKS !== 0) this.#groupOf(state, endBlock);
    this.#forgetIntents(state, endBlock);
    if (large) this.#forgetGroups(state, firstGroup);
    this.#dropCached(state, endBlock);
    // Emptied groups lose their rows here, so that what is left behind the border has no group in memory.
    table.writeRows();
    if (large) freer.freeLater(inode.ino, firstGroup);
    else freer.freeNow(inode.ino, firstGroup);
    table.work.changed.add(state);
  }

  /** Groups that are freed later leave memory. */
  #forgetGroups(state: FileState, firstGroup: number): void {
    this.#parts.table.writeRows();
    for (const group of [...state.groups.values()]) if (group.index >= firstGroup) this.#parts.table.forget(group);
  }

  #shrinkJob(state: FileState, sizeBytes: number): void {
    if (state.job === null || state.job.sizeBytes <= sizeBytes) return;
    state.job.sizeBytes = sizeBytes;
    state.job.truncated = true;
  }

  #forgetIntents(state: FileState, firstBlock: number): void {
    if (state.loggedCount === 0) return;
    const touch = { ino: state.inode.ino, firstBlock, blockCount: Number.POSITIVE_INFINITY, validBytes: -1 };
    this.#parts.table.work.touches.push(touch);
  }

  #dropCached(state: FileState, endBlock: number): void {
    for (const group of state.groups.values()) {
      // Whoever reads a sparse file has thousands of them.
      if (group.isHole) continue;
      const first = Math.max(0, endBlock - group.index * GROUP_BLOCKS);
      for (let slot = first; slot < GROUP_BLOCKS; slot++) this.#parts.table.drop(group, slot);
    }
  }

  /** Bytes of the block from `validBytes` on become zero, in every version of it. */
  #cut(state: FileState, block: number, validBytes: number): void {
    const { table, frames, clock } = this.#parts;
    const group = this.#groupOf(state, block);
    const slot = block % GROUP_BLOCKS;
    if (group.frames[slot]! >= 0) this.#cutFrame(group, slot, validBytes);
    if (group.addresses[slot]! >= 0 && validBytes < group.validBytes[slot]!) {
      group.validBytes[slot] = validBytes;
      table.markRow(group);
    }
    if (group.logged[slot] !== null) {
      table.work.touches.push({ ino: state.inode.ino, firstBlock: block, blockCount: 1, validBytes });
    }
    if ((group.flags[slot]! & PENDING) !== 0 && frames.states[group.frames[slot]!] === FrameState.dirty) {
      table.markDirty(group, slot, clock.monotonicMs());
    }
  }

  #cutFrame(group: FileGroup, slot: number, validBytes: number): void {
    const { frames } = this.#parts;
    const clean = frames.states[group.frames[slot]!] === FrameState.clean;
    // A clean frame stays clean: with the cut in the row it still equals what a read would give.
    const frame = clean ? group.frames[slot]! : newVersion(frames, group, slot, false);
    frames.view(frame).fill(0, validBytes);
  }

  #groupOf(state: FileState, block: number): FileGroup {
    return this.#parts.table.group(state, Math.floor(block / GROUP_BLOCKS));
  }
}
