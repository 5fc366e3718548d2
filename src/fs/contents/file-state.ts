import { BLOCK_BYTES } from "../../lib/units.js";
import type { Inode } from "../inode.js";
import type { KeptReply } from "../vfs.js";
import type { LogRecord } from "./commit-work.js";
import type { BlockMap } from "./extent-map.js";
import { GROUP_BLOCKS } from "./limits.js";
import type { JobPart } from "./write-back-job.js";

/**
 * What a block of a cached group can be; bits of FileGroup.flags.
 *
 *   dirty     its frame is newer than what is published and than what a write-back in flight has captured
 *   writing   a write-back in flight has captured a version of it; when it is dirty too, the captured frame is detached
 *   unsaved   its newest version is neither published nor in a sealed log record
 *   relogged  sealed into a log record after the write-back in flight captured it: the record is still needed afterwards
 */
export const BlockFlag = { dirty: 1, writing: 2, unsaved: 4, relogged: 8 } as const;
export const PENDING = BlockFlag.dirty | BlockFlag.writing;

const NO_RECORDS: readonly (LogRecord | null)[] = new Array<LogRecord | null>(GROUP_BLOCKS).fill(null);

/** 64 blocks of a file: one row of the extent table, and which of them are in the cache. Never reused for another group. */
export class FileGroup implements BlockMap {
  readonly addresses: Float64Array;
  readonly crcs: Uint32Array;
  /** Frame of the cache that holds the newest version; -1 when none does. A pending block always has one. */
  readonly frames: Int32Array;
  readonly validBytes: Uint16Array;
  readonly flags: Uint8Array;
  #logged: (LogRecord | null)[] | null = null;
  dirtyCount = 0;
  writingCount = 0;
  unsavedCount = 0;
  frameCount = 0;
  /** Blocks with a record. */
  loggedCount = 0;
  /** The row differs from this object; it is written at the next seal. */
  rowDirty = false;
  /** A row was found for it, or had to be written since. */
  hadRow = false;
  /** For the clock that picks what leaves. */
  recentlyUsed = true;
  /** In the ring of the group table. */
  place = -1;

  constructor(
    readonly state: FileState,
    readonly index: number,
  ) {
    const memory = new ArrayBuffer(GROUP_BLOCKS * (8 + 4 + 4 + 2 + 1));
    this.addresses = new Float64Array(memory, 0, GROUP_BLOCKS).fill(-1);
    this.crcs = new Uint32Array(memory, GROUP_BLOCKS * 8, GROUP_BLOCKS);
    this.frames = new Int32Array(memory, GROUP_BLOCKS * 12, GROUP_BLOCKS).fill(-1);
    this.validBytes = new Uint16Array(memory, GROUP_BLOCKS * 16, GROUP_BLOCKS).fill(BLOCK_BYTES);
    this.flags = new Uint8Array(memory, GROUP_BLOCKS * 18, GROUP_BLOCKS);
  }

  /** The record that holds the newest logged version of each block, null when none is needed. */
  get logged(): readonly (LogRecord | null)[] {
    return this.#logged ?? NO_RECORDS;
  }

  setLogged(slot: number, record: LogRecord | null): void {
    this.#logged ??= new Array<LogRecord | null>(GROUP_BLOCKS).fill(null);
    this.loggedCount += Number(record !== null) - Number(this.#logged[slot] !== null);
    this.#logged[slot] = record;
    if (this.loggedCount === 0) this.#logged = null;
  }

  /** Nothing was ever written here, and nothing waits to be. */
  get isHole(): boolean {
    return !this.hadRow && this.evictable;
  }

  get evictable(): boolean {
    return this.dirtyCount === 0 && this.writingCount === 0 && !this.rowDirty;
  }
}

const NO_REPLIES: readonly KeptReply[] = [];
const NO_GROUPS: ReadonlySet<FileGroup> = new Set();

/**
 * The contents layer's state of one inode: `inode.contents`. It exists while a group is cached, something is dirty, or somebody waits.
 *
 * Writes are numbered (`serial`). A write-back or a log record saves everything up to some serial, never a later write without an
 * earlier one: what a crash leaves is a prefix of the file's history.
 */
export class FileState {
  readonly groups = new Map<number, FileGroup>();
  /** Null when there are none, as for nearly all of the files in memory. */
  #dirtyGroups: Set<FileGroup> | null = null;
  #unsavedGroups: Set<FileGroup> | null = null;
  dirtyCount = 0;
  unsavedCount = 0;
  /** Blocks with a log record that recovery would still need. */
  loggedCount = 0;
  /** Blocks counted in usedBlocks that a crash would lose: pending, without an address, not logged; and what table `unsettled` says. */
  unsettledCount = 0;
  unsettledInRow = 0;
  serial = 0;
  publishedSerial = 0;
  durableSerial = 0;
  /** Calls of stabilize that are waiting. */
  waiterCount = 0;
  /** The tail of the operations that had to await something; null when the next one may run at once. */
  queue: Promise<unknown> | null = null;
  /** The write-back in flight; at most one per inode, so that versions are published in order. */
  job: JobPart | null = null;
  dirtySinceMs = 0;
  dead = false;
  /** Answers of writes that are not durable yet, by rising serial; null when there are none. */
  #replies: { readonly serial: number; readonly kept: KeptReply }[] | null = null;

  constructor(readonly inode: Inode) {}

  /** Groups with dirty blocks. */
  get dirtyGroups(): ReadonlySet<FileGroup> {
    return this.#dirtyGroups ?? NO_GROUPS;
  }

  /** Groups with unsaved blocks. */
  get unsavedGroups(): ReadonlySet<FileGroup> {
    return this.#unsavedGroups ?? NO_GROUPS;
  }

  addDirty(group: FileGroup): void {
    this.#dirtyGroups = added(this.#dirtyGroups, group);
  }

  deleteDirty(group: FileGroup): void {
    this.#dirtyGroups = deleted(this.#dirtyGroups, group);
  }

  addUnsaved(group: FileGroup): void {
    this.#unsavedGroups = added(this.#unsavedGroups, group);
  }

  deleteUnsaved(group: FileGroup): void {
    this.#unsavedGroups = deleted(this.#unsavedGroups, group);
  }

  keepReply(kept: KeptReply): void {
    this.#replies ??= [];
    this.#replies.push({ serial: this.serial, kept });
  }

  /** The answers of the writes up to `serial`, in order. They are the caller's. */
  takeReplies(serial: number): readonly KeptReply[] {
    const replies = this.#replies;
    if (replies === null) return NO_REPLIES;
    const later = replies.findIndex((reply) => reply.serial > serial);
    const taken = replies.splice(0, later === -1 ? replies.length : later);
    if (replies.length === 0) this.#replies = null;
    return taken.map(({ kept }) => kept);
  }

  get idle(): boolean {
    return (
      this.groups.size === 0 &&
      this.waiterCount === 0 &&
      this.queue === null &&
      this.job === null &&
      this.#replies === null
    );
  }
}

function added(groups: Set<FileGroup> | null, group: FileGroup): Set<FileGroup> {
  return (groups ?? new Set()).add(group);
}

function deleted(groups: Set<FileGroup> | null, group: FileGroup): Set<FileGroup> | null {
  groups?.delete(group);
  return groups?.size === 0 ? null : groups;
}
