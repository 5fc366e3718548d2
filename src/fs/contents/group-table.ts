import type Database from "better-sqlite3";
import { assert } from "../../lib/assert.js";
import { EvictionRing } from "../../lib/eviction-ring.js";
import { BLOCK_BYTES } from "../../lib/units.js";
import type { Inode, InodeMarks } from "../inode.js";
import type { BlockWatcher } from "./block-index.js";
import { CommitWork, type LogRecord } from "./commit-work.js";
import { decodeExtentMap, EXTENT_MAP_BYTES_MAX, encodeExtentMap } from "./extent-map.js";
import { BlockFlag, FileGroup, FileState, PENDING } from "./file-state.js";
import { type FrameCache, FrameState } from "./frame-cache.js";
import {
  GROUP_BLOCKS,
  GROUPS_LEAVING_PER_TURN,
  ROWS_PENDING_MAX,
  ROWS_PENDING_SHARE,
  ROWS_PER_PORTION,
  SEGMENT_ROWS_PER_PAGE,
} from "./limits.js";
import { SIDECAR_TOUCH } from "./sidecar.js";
import type { SpaceMap } from "./space-map.js";

/** Steps of the clock's hand for one new group: when so many in a row are held, the table grows instead. */
const SCAN_STEPS_MAX = 64;

/** Told of every change of the block map, as it is made: the extent row of this group maps the block from now on, or does not. */
export interface MapWatcher {
  mapped(ino: number, group: number, address: number): void;
  unmapped(ino: number, group: number, address: number): void;
}

export interface GroupTableOptions {
  readonly db: Database.Database;
  readonly frames: FrameCache;
  readonly space: SpaceMap;
  readonly inodes: InodeMarks;
  readonly groupsMax: number;
  /** Of the metadata database that this layer may change in one commit, so that its record fits into the log. */
  readonly pagesMax: number;
  /** They come and go; SpaceMap has the same list. */
  readonly blockWatchers: readonly BlockWatcher[];
}

/**
 * The file groups in memory, their rows, and every transition that a block can make. The counters of groups and inodes, the promises of
 * space and `usedBlocks` change here only. All of it is synchronous.
 */
export class GroupTable {
  /** What the next seal will take. */
  work = new CommitWork();
  watcher: MapWatcher | null = null;
  readonly #blockWatchers: readonly BlockWatcher[];
  /** Inodes with dirty blocks, the longest dirty first. */
  readonly dirtyStates = new Set<FileState>();
  /** Inodes with blocks whose log record recovery would need. */
  readonly loggedStates = new Set<FileState>();
  readonly #frames: FrameCache;
  readonly #space: SpaceMap;
  readonly #inodes: InodeMarks;
  readonly #groupsMax: number;
  readonly pagesMax: number;
  /** Groups that may be pending: a writer waits while there are more. */
  readonly rowsMax: number;
  readonly #ring = new EvictionRing<FileGroup>();
  readonly #dirtyRows = new Set<FileGroup>();
  /** Forgotten, but for their frames. */
  readonly #leaving: FileGroup[] = [];
  readonly #scratch = Buffer.alloc(EXTENT_MAP_BYTES_MAX);
  readonly #select: Database.Statement<[number, number], Buffer>;
  readonly #put: Database.Statement<[number, number, Buffer]>;
  readonly #delete: Database.Statement<[number, number]>;
  #dirtyGroupCount = 0;
  #writingGroupCount = 0;
  /** Groups with blocks whose log record recovery would need. */
  #loggedGroupCount = 0;
  /** Dirty groups of inodes that have any of those. */
  #loggedDirtyGroupCount = 0;

  constructor(options: GroupTableOptions) {
    this.#frames = options.frames;
    this.#space = options.space;
    this.#inodes = options.inodes;
    this.#blockWatchers = options.blockWatchers;
    this.#groupsMax = options.groupsMax;
    this.pagesMax = options.pagesMax;
    this.rowsMax = Math.min(ROWS_PENDING_MAX, Math.floor(options.pagesMax * ROWS_PENDING_SHARE));
    this.#select = options.db
      .prepare<[number, number], Buffer>("SELECT map FROM extent WHERE ino = ? AND grp = ?")
      .pluck();
    this.#put = options.db.prepare(
      "INSERT INTO extent (ino, grp, map) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET map = excluded.map",
    );
    this.#delete = options.db.prepare("DELETE FROM extent WHERE ino = ? AND grp = ?");
  }

  get groupCount(): number {
    return this.#ring.length;
  }

  /** Rows that may still have to be written for what is pending now. */
  get pendingRowCount(): number {
    return this.#dirtyGroupCount + this.#writingGroupCount + this.#dirtyRows.size;
  }

  get dirtyGroupCount(): number {
    return this.#dirtyGroupCount;
  }

  /** Pages that the open commit changes, at most, if it were sealed now. */
  get commitPages(): number {
    const { rowCount, touches } = this.work;
    const touchPages = Math.ceil((touches.length * SIDECAR_TOUCH.end) / BLOCK_BYTES);
    return rowCount + this.#dirtyRows.size + touchPages + this.segmentPagesOf(this.#space.changedSegmentCount);
  }

  /** Pages of segment rows that so many blocks, anywhere on the data LU, change at most. */
  segmentPagesOf(blockCount: number): number {
    return Math.min(Math.ceil(this.#space.segmentCount / SEGMENT_ROWS_PER_PAGE), blockCount);
  }

  /** Pages that change, at most, when everything is published that is in records now: with it goes whatever else is dirty of its inodes (I-4). */
  get releasePages(): number {
    const groups = this.#loggedDirtyGroupCount + Math.min(this.#loggedGroupCount, this.#writingGroupCount);
    return this.publicationPages(groups, groups * GROUP_BLOCKS);
  }

  /** Pages that publishing so many blocks changes at most: each has a new place and leaves an old one. */
  publicationPages(groupCount: number, blockCount: number): number {
    return groupCount + this.segmentPagesOf(2 * blockCount);
  }

  /**
   * Whether everything of this inode that is dirty, and so much more, can be published in one commit. It has to be (I-4), so whoever
   * would make it too much has the rest written back first. One operation alone is never too much.
   */
  publishable(state: FileState, groupCount: number, blockCount: number): boolean {
    if (state.dirtyCount === 0) return true;
    const groups = state.dirtyGroups.size + groupCount;
    return this.publicationPages(groups, state.dirtyCount + blockCount) <= this.pagesMax;
  }

  peek(inode: Inode): FileState | null {
    return inode.contents as FileState | null;
  }

  stateOf(inode: Inode): FileState {
    const known = this.peek(inode);
    if (known !== null) return known;
    const state = new FileState(inode);
    inode.contents = state;
    return state;
  }

  /** Let the inode go when nothing of it is in memory any more. */
  forgetIdle(state: FileState): void {
    if (state.idle && state.inode.contents === state) state.inode.contents = null;
  }

  /** The group, loaded when it is not in memory. A later call may evict it again, unless it holds something dirty. */
  group(state: FileState, index: number): FileGroup {
    const known = state.groups.get(index);
    if (known !== undefined) {
      known.recentlyUsed = true;
      return known;
    }
    const group = new FileGroup(state, index);
    const map = this.#select.get(state.inode.ino, index);
    if (map !== undefined) {
      decodeExtentMap(map, group);
      group.hadRow = true;
    }
    state.groups.set(index, group);
    this.#insert(group);
    return group;
  }

  /** The row must be written: the block map changed. */
  markRow(group: FileGroup): void {
    if (group.rowDirty) return;
    group.rowDirty = true;
    group.hadRow = true;
    this.#dirtyRows.add(group);
  }

  /** Write changed extent and segment rows into the open transaction. Legal at any time. */
  writeRows(): void {
    for (const group of this.#dirtyRows) this.#writeRow(group);
    this.#space.writeRows();
  }

  /** Write changed extent rows, a portion in each step, until one is left for the seal. In the order of the table: rows on one page are in one portion. */
  *portionsOfRows(): Generator<void> {
    const rows = this.#dirtyRows;
    while (rows.size > ROWS_PER_PORTION) {
      const ordered = [...rows].sort((a, b) => a.state.inode.ino - b.state.inode.ino || a.index - b.index);
      for (let next = 0; next < ordered.length && rows.size > ROWS_PER_PORTION; next += ROWS_PER_PORTION) {
        // Meanwhile one may have been written, or removed with its file.
        for (const group of ordered.slice(next, next + ROWS_PER_PORTION)) if (rows.has(group)) this.#writeRow(group);
        yield;
      }
    }
  }

  #writeRow(group: FileGroup): void {
    this.#dirtyRows.delete(group);
    group.rowDirty = false;
    this.work.rowCount++;
    const map = encodeExtentMap(group, this.#scratch);
    if (map === null) this.#delete.run(group.state.inode.ino, group.index);
    else this.#put.run(group.state.inode.ino, group.index, map);
  }

  /** The rows are written: the open work belongs to the commit that is being sealed. */
  takeWork(): CommitWork {
    const { work } = this;
    this.work = new CommitWork();
    this.#space.sealed();
    return work;
  }

  /** A new version is about to be put into the block's frame. The caller gives it a frame that may be changed. */
  markDirty(group: FileGroup, slot: number, nowMs: number): void {
    const { state } = group;
    const flags = group.flags[slot]!;
    if ((flags & BlockFlag.dirty) === 0) this.#becomeDirty(group, slot, nowMs);
    if ((flags & BlockFlag.unsaved) === 0) this.#becomeUnsaved(group, slot);
    this.work.changed.add(state);
  }

  /** Recovery: the block's newest version is in `record`. Its row has counted it. */
  markRecovered(group: FileGroup, slot: number, record: LogRecord, nowMs: number): void {
    const { state } = group;
    const { usedBlocks } = state.inode;
    const { unsettledCount } = state;
    this.#becomeDirty(group, slot, nowMs);
    state.inode.usedBlocks = usedBlocks;
    state.unsettledCount = unsettledCount;
    this.#setRecord(group, slot, record);
  }

  /** A write-back takes the block's newest version; its space is allocated now. @returns the frame */
  capture(group: FileGroup, slot: number): number {
    this.#endDirty(group, slot);
    group.flags[slot] = (group.flags[slot]! | BlockFlag.writing) & ~BlockFlag.relogged;
    if (group.writingCount++ === 0) this.#writingGroupCount++;
    const frame = group.frames[slot]!;
    this.#frames.makeWriting(frame);
    return frame;
  }

  /** The captured version is on the data LU and becomes what the extents say. */
  publish(group: FileGroup, slot: number, frame: number, address: number, crc: number, validBytes: number): void {
    const { state } = group;
    if (group.addresses[slot]! >= 0) {
      this.freeStored(state.inode.ino, group.index, group.addresses[slot]!, group.crcs[slot]!);
    } else if (group.logged[slot] === null) state.unsettledCount--;
    group.addresses[slot] = address;
    group.crcs[slot] = crc;
    group.validBytes[slot] = validBytes;
    this.#space.store(address);
    this.watcher?.mapped(state.inode.ino, group.index, address);
    for (const watcher of this.#blockWatchers) watcher.mapped(state.inode.ino, group.index, address, crc);
    this.markRow(group);
    // A record holds something newer than this only when the block was both changed and logged since the capture.
    const newer = BlockFlag.dirty | BlockFlag.relogged;
    if (group.logged[slot] !== null && (group.flags[slot]! & newer) !== newer) this.#dropRecord(group, slot);
    this.#endWriting(group, slot);
    if ((group.flags[slot]! & BlockFlag.dirty) === 0) this.#endUnsaved(group, slot);
    if (group.frames[slot] === frame) this.#frames.makeClean(frame);
    else this.#frames.freeWritten(frame);
  }

  /** The write-back failed: the version is as dirty as before, unless it is obsolete. */
  uncapture(group: FileGroup, slot: number, frame: number, nowMs: number): void {
    this.#endWriting(group, slot);
    if (group.frames[slot] !== frame) {
      this.#frames.freeWritten(frame);
      return;
    }
    this.#frames.makeDirty(frame);
    group.flags[slot]! |= BlockFlag.dirty;
    this.#countDirty(group, nowMs);
  }

  /** The newest version went into the record that is being sealed. */
  saveInRecord(group: FileGroup, slot: number, record: LogRecord): void {
    const { state } = group;
    if (group.logged[slot] !== null) this.work.releases.push(group.logged[slot]!);
    else {
      this.#countLogged(state);
      if (group.addresses[slot]! < 0) state.unsettledCount--;
    }
    this.#setLogged(group, slot, record);
    record.liveCount++;
    if ((group.flags[slot]! & BlockFlag.writing) !== 0) group.flags[slot]! |= BlockFlag.relogged;
    this.#endUnsaved(group, slot);
  }

  /** Truncated or removed: the block becomes a hole. The caller notes the touch. */
  drop(group: FileGroup, slot: number): void {
    const { state } = group;
    const address = group.addresses[slot]!;
    if (address >= 0) {
      this.freeStored(state.inode.ino, group.index, address, group.crcs[slot]!);
      state.inode.usedBlocks--;
      group.addresses[slot] = -1;
      this.markRow(group);
    } else if ((group.flags[slot]! & PENDING) !== 0) this.#discountPending(group, slot);
    else return;
    group.validBytes[slot] = BLOCK_BYTES;
    this.#dropVersions(group, slot);
  }

  /**
   * Cut off with its row, which is freed later: the group leaves memory, and what is pending of it is not wanted any more. A large file has thousands
   * of them: their clean frames follow in later turns. The caller notes the touch, and has written the rows.
   */
  forget(group: FileGroup): void {
    const { state } = group;
    assert(!group.rowDirty, "the row of a group that leaves memory is written");
    if (group.dirtyCount + group.writingCount > 0) {
      for (let slot = 0; slot < GROUP_BLOCKS; slot++) {
        if ((group.flags[slot]! & PENDING) === 0) continue;
        if (group.addresses[slot]! < 0) this.#discountPending(group, slot);
        this.#dropVersions(group, slot);
      }
    }
    state.groups.delete(group.index);
    this.#ring.remove(group);
    if (group.frameCount > 0 && this.#leaving.push(group) === 1) setImmediate(this.#leave);
    if (this.#ring.length > this.#groupsMax) this.#shrink();
  }

  readonly #leave = (): void => {
    for (const group of this.#leaving.splice(0, GROUPS_LEAVING_PER_TURN)) this.#dropFrames(group);
    if (this.#leaving.length > 0) setImmediate(this.#leave);
  };

  /** The block waited without a place. */
  #discountPending(group: FileGroup, slot: number): void {
    group.state.inode.usedBlocks--;
    if (group.logged[slot] === null) group.state.unsettledCount--;
  }

  /** What is newer than the stored block goes. */
  #dropVersions(group: FileGroup, slot: number): void {
    if (group.logged[slot] !== null) this.#dropRecord(group, slot, false);
    if ((group.flags[slot]! & BlockFlag.dirty) !== 0) {
      this.#endDirty(group, slot);
      this.#space.unpromise(1);
    }
    if ((group.flags[slot]! & BlockFlag.writing) !== 0) this.#endWriting(group, slot);
    this.#endUnsaved(group, slot);
    if (group.frames[slot]! >= 0) this.#frames.detach(group.frames[slot]!);
    this.work.changed.add(group.state);
  }

  /** A captured version that nobody wants any more: its block was dropped meanwhile. */
  freeCaptured(frame: number): void {
    this.#frames.freeWritten(frame);
  }

  /** The extent row of this group does not map the block any more. */
  freeStored(ino: number, group: number, address: number, crc: number): void {
    this.#space.unstore(address);
    this.watcher?.unmapped(ino, group, address);
    for (const watcher of this.#blockWatchers) watcher.unmapped(ino, group, address, crc);
    this.work.freed.add(address);
  }

  /** The inode is gone: its groups leave memory with their rows. Every block of them was dropped. */
  dismiss(state: FileState): void {
    this.work.rowCount += state.groups.size;
    for (const group of state.groups.values()) {
      assert(group.evictable || group.rowDirty, "nothing of a removed file is pending");
      this.#delete.run(state.inode.ino, group.index);
      this.#dirtyRows.delete(group);
      group.rowDirty = false;
      this.#dropFrames(group);
      this.#ring.remove(group);
    }
    state.groups.clear();
    if (this.#ring.length > this.#groupsMax) this.#shrink();
  }

  #becomeDirty(group: FileGroup, slot: number, nowMs: number): void {
    const { state } = group;
    if (group.addresses[slot]! < 0 && (group.flags[slot]! & PENDING) === 0) {
      state.inode.usedBlocks++;
      this.#inodes.markDirty(state.inode);
      state.unsettledCount++;
    }
    group.flags[slot]! |= BlockFlag.dirty;
    this.#countDirty(group, nowMs);
  }

  #countDirty(group: FileGroup, nowMs: number): void {
    const { state } = group;
    this.#space.promise(1);
    if (group.dirtyCount++ === 0) {
      state.addDirty(group);
      this.#dirtyGroupCount++;
      if (state.loggedCount > 0) this.#loggedDirtyGroupCount++;
    }
    if (state.dirtyCount++ > 0) return;
    state.dirtySinceMs = nowMs;
    this.dirtyStates.add(state);
  }

  /** Gives no promise back: the space was allocated, or the caller does it. */
  #endDirty(group: FileGroup, slot: number): void {
    const { state } = group;
    group.flags[slot]! &= ~BlockFlag.dirty;
    if (--group.dirtyCount === 0) {
      state.deleteDirty(group);
      this.#dirtyGroupCount--;
      if (state.loggedCount > 0) this.#loggedDirtyGroupCount--;
    }
    if (--state.dirtyCount === 0) this.dirtyStates.delete(state);
  }

  #endWriting(group: FileGroup, slot: number): void {
    assert((group.flags[slot]! & BlockFlag.writing) !== 0, "the block was being written");
    group.flags[slot]! &= ~(BlockFlag.writing | BlockFlag.relogged);
    if (--group.writingCount === 0) this.#writingGroupCount--;
  }

  #becomeUnsaved(group: FileGroup, slot: number): void {
    group.flags[slot]! |= BlockFlag.unsaved;
    group.state.unsavedCount++;
    if (group.unsavedCount++ === 0) group.state.addUnsaved(group);
  }

  #endUnsaved(group: FileGroup, slot: number): void {
    if ((group.flags[slot]! & BlockFlag.unsaved) === 0) return;
    group.flags[slot]! &= ~BlockFlag.unsaved;
    group.state.unsavedCount--;
    if (--group.unsavedCount === 0) group.state.deleteUnsaved(group);
  }

  #setLogged(group: FileGroup, slot: number, record: LogRecord | null): void {
    const before = group.loggedCount;
    group.setLogged(slot, record);
    this.#loggedGroupCount += Number(group.loggedCount > 0) - Number(before > 0);
  }

  #setRecord(group: FileGroup, slot: number, record: LogRecord): void {
    this.#setLogged(group, slot, record);
    record.liveCount++;
    this.#countLogged(group.state);
  }

  #countLogged(state: FileState): void {
    if (state.loggedCount++ > 0) return;
    this.loggedStates.add(state);
    this.#loggedDirtyGroupCount += state.dirtyGroups.size;
  }

  /** The logged version is obsolete with the next commit. */
  #dropRecord(group: FileGroup, slot: number, noteTouch = true): void {
    const { state } = group;
    this.work.releases.push(group.logged[slot]!);
    this.#setLogged(group, slot, null);
    if (--state.loggedCount === 0) {
      this.loggedStates.delete(state);
      this.#loggedDirtyGroupCount -= state.dirtyGroups.size;
    }
    if (!noteTouch) return;
    const firstBlock = group.index * GROUP_BLOCKS + slot;
    this.work.touches.push({ ino: state.inode.ino, firstBlock, blockCount: 1, validBytes: -1 });
  }

  #insert(group: FileGroup): void {
    if (this.#ring.length >= this.#groupsMax) this.#shrink();
    this.#ring.add(group);
    if (this.#ring.length > this.#groupsMax) this.#shrink();
  }

  /** One group leaves, when the hand finds one that may. While too much is held the table grows, and this gives it back later. */
  #shrink(): void {
    for (let step = 0; step < SCAN_STEPS_MAX; step++) {
      const candidate = this.#ring.next();
      if (candidate.recentlyUsed) candidate.recentlyUsed = false;
      else if (candidate.evictable) {
        this.#evict(candidate);
        return;
      }
    }
  }

  #evict(group: FileGroup): void {
    this.#dropFrames(group);
    group.state.groups.delete(group.index);
    this.#ring.remove(group);
    this.forgetIdle(group.state);
  }

  #dropFrames(group: FileGroup): void {
    if (group.frameCount === 0) return;
    for (let slot = 0; slot < GROUP_BLOCKS; slot++) {
      const frame = group.frames[slot]!;
      if (frame < 0) continue;
      assert(this.#frames.states[frame] === FrameState.clean, "only clean frames leave with their group");
      this.#frames.detach(frame);
    }
  }
}
