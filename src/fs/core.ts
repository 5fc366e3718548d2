import { AssertionError } from "../lib/assert.js";
import type { Clock, Time } from "../lib/clock.js";
import { messageOf, rootMessageOf, StorageError } from "../lib/errors.js";
import type { Logger } from "../lib/log.js";
import type { Random } from "../lib/prng.js";
import { BLOCK_BYTES } from "../lib/units.js";
import type { PageStore } from "../pagestore/contract.js";
import { isScratchTrouble, scratchTextOf } from "../pagestore/scratch.js";
import { touchModified } from "./attributes.js";
import { RECORD_BYTES_DEFAULT } from "./contents/limits.js";
import type { Contents } from "./contents-contract.js";
import type { DirentTable } from "./dirent-table.js";
import type { Inode } from "./inode.js";
import type { InodeTable } from "./inode-table.js";
import type { ReplyLog } from "./reply-log.js";
import { type FileId, FileKind, type OnApplied } from "./vfs.js";

/**
 * Inodes that wait for a commit which nobody asked for (reads moved their times). So many make one due: each may lie on a page of its
 * own, and the pages of one commit must fit into the log.
 */
const DIRTY_INODES_MAX = 1024;

/**
 * Parts of the pages that a record can hold. The contents layer takes half (PAGES_PER_COMMIT_SHARE); operations on names, attributes and locks together a quarter, each counted
 * with the most that it may change; inodes for which nobody asked a commit a sixth. A commit that did not fit would end the service.
 */
const OPERATION_PAGES_SHARE = 1 / 4;
const DIRTY_INODES_SHARE = 1 / 6;

/** Pages held back from operations that grow the metadata, so that removing and truncating go on when the LU is full. */
export const METADATA_RESERVE_PAGES = 64;
/** Rows of new inodes wait in memory until the seal; so many fit a page at least. */
const INODES_PER_PAGE = 16;
/** One operation splits at most so many pages: two B-trees of entries, one of inodes, with their parents. */
const PAGES_PER_OPERATION = 8;
/** Of the reserve: what may be taken by what adds next to nothing, and by what makes files smaller. */
const LITTLE_SHARE = 1 / 2;
const SHRINK_SHARE = 3 / 4;
/** The count of free pages is asked for again after at most so many operations. */
const OPERATIONS_PER_COUNT_MAX = 256;

/** Inode rows that are written in one piece: half a millisecond. */
const ROWS_PER_PIECE = 128;

export interface CoreParts {
  readonly store: PageStore;
  readonly contents: Contents;
  readonly inodes: InodeTable;
  readonly dirents: DirentTable;
  readonly replies: ReplyLog;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  /** Called once, when the file system stops serving. */
  readonly onFailed: (error: StorageError) => void;
  readonly readOnly?: boolean | undefined;
  /** The scratch folder has become too full for more, or has room again. */
  readonly onScratchRoom?: (roomy: boolean) => void;
}

export const NO_SCRATCH_ROOM =
  "there is no room for the copy of its metadata in the state directory: nothing is created or written until there is";

function metadataFull(): StorageError {
  return new StorageError("ENOSPC", "the metadata LU is full");
}

/** What every operation stands on: the tables, the contents layer, the store, and the state "failed". */
export class Core {
  readonly store: PageStore;
  readonly contents: Contents;
  readonly inodes: InodeTable;
  readonly dirents: DirentTable;
  readonly replies: ReplyLog;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  failed: StorageError | null = null;
  /** What others keep about an inode goes with it, in the same change. */
  onDropped: (ino: number) => void = () => {};
  /** Rows of its locks are left for a moment. */
  locksAreGoing: (ino: number) => boolean = () => false;
  /** Why nothing is changed: it was mounted for reading. null: it is served whole. */
  readonly readOnly: boolean;
  readonly #operationPagesMax: number;
  readonly #dirtyInodesMax: number;
  /** What the open commit may have changed so far, and which commit that is. */
  #commitPages = 0;
  #commitCounted = 0;
  readonly #onScratchRoom: (roomy: boolean) => void;
  #scratchIsRoomy = true;
  readonly #onFailed: (error: StorageError) => void;
  #operationsUntilCount = 0;
  #lazyCommit: Promise<void> | null = null;

  constructor(parts: CoreParts) {
    this.store = parts.store;
    this.contents = parts.contents;
    this.inodes = parts.inodes;
    this.dirents = parts.dirents;
    this.replies = parts.replies;
    this.clock = parts.clock;
    this.random = parts.random;
    this.log = parts.log;
    this.readOnly = parts.readOnly ?? false;
    const recordPages = (parts.store.recordBytesMax ?? RECORD_BYTES_DEFAULT) / BLOCK_BYTES;
    this.#operationPagesMax = Math.floor(recordPages * OPERATION_PAGES_SHARE);
    this.#dirtyInodesMax = Math.min(DIRTY_INODES_MAX, Math.floor(recordPages * DIRTY_INODES_SHARE));
    this.#onScratchRoom = parts.onScratchRoom ?? (() => {});
    this.#onFailed = parts.onFailed;
  }

  /** @throws StorageError EIO after the store has failed, or after close */
  requireAlive(): void {
    if (this.failed !== null) throw new StorageError("EIO", "the file system has stopped", {}, this.failed);
  }

  /** @throws StorageError ESTALE, ENOTDIR, EIO */
  directory(id: FileId): Inode {
    const inode = this.inode(id);
    if (inode.kind !== FileKind.directory) throw new StorageError("ENOTDIR", "not a directory");
    return inode;
  }

  /** @throws StorageError ESTALE, EISDIR, EINVAL for what is neither file nor directory, EIO */
  regularFile(id: FileId): Inode {
    const inode = this.inode(id);
    if (inode.kind === FileKind.file) return inode;
    if (inode.kind === FileKind.directory) throw new StorageError("EISDIR", "a directory");
    throw new StorageError("EINVAL", "not a regular file");
  }

  /** @throws StorageError ESTALE, EIO */
  inode(id: FileId): Inode {
    this.requireAlive();
    return this.inodes.resolve(id);
  }

  now(): Time {
    return this.clock.wallTime();
  }

  /** Before an operation that makes this node's copy of the metadata grow. @throws StorageError EBUSY: there is no room for it now, and the client waits */
  requireScratchRoom(): void {
    if (!this.hasScratchRoom()) throw new StorageError("EBUSY", NO_SCRATCH_ROOM);
  }

  /** Tells when that has changed since it was last asked. */
  hasScratchRoom(): boolean {
    const roomy = this.store.hasScratchRoom();
    if (roomy !== this.#scratchIsRoomy) {
      this.#scratchIsRoomy = roomy;
      this.#onScratchRoom(roomy);
    }
    return roomy;
  }

  /**
   * Before an operation that adds next to nothing, or frees something in the end (an unlock that splits a range, an overwrite, other attributes): it may have of the reserve what
   * commits themselves do not need. @throws StorageError ENOSPC, and nothing has changed
   */
  requireLittleSpace(): void {
    if (!this.hasLittleSpace()) throw metadataFull();
  }

  /** As requireLittleSpace. A row that becomes longer may split its page, so that each inode that waits may take one; where there are not so many their rows are written, and pages counted. */
  hasLittleSpace(share = LITTLE_SHARE): boolean {
    if (this.store.freePages() >= this.inodes.dirtyCount + PAGES_PER_OPERATION) return true;
    this.apply(() => this.inodes.flushDirty(), 0);
    return this.store.emergencyPages(share) >= PAGES_PER_OPERATION;
  }

  /** Before a file becomes smaller: that must go on when nothing else does, though times of its row become longer by it. @throws StorageError ENOSPC */
  requireSpaceToShrink(): void {
    if (!this.hasLittleSpace(SHRINK_SHARE)) throw metadataFull();
  }

  /** Before an operation that adds rows. @throws StorageError ENOSPC, EBUSY (as requireScratchRoom), and nothing has changed */
  requireMetadataSpace(): void {
    this.requireScratchRoom();
    if (this.#operationsUntilCount > 0) {
      this.#operationsUntilCount--;
      return;
    }
    const spare = this.#sparePages();
    if (spare < PAGES_PER_OPERATION) throw metadataFull();
    this.#operationsUntilCount = Math.min(OPERATIONS_PER_COUNT_MAX, Math.floor(spare / PAGES_PER_OPERATION)) - 1;
  }

  #sparePages(): number {
    const { inodes, store } = this;
    const spare = store.freePages() - METADATA_RESERVE_PAGES;
    if (spare >= inodes.dirtyCount + PAGES_PER_OPERATION) return spare - Math.ceil(inodes.dirtyCount / INODES_PER_PAGE);
    this.apply(() => inodes.flushDirty(), 0);
    return store.freePages() - METADATA_RESERVE_PAGES;
  }

  /**
   * Change rows and inodes, in one synchronous piece. Everything was checked before: what throws now is a broken database or our own
   * mistake, and the open transaction holds half of a change. Nothing of it may become durable, so the file system stops.
   */
  apply<T>(change: () => T, pages = PAGES_PER_OPERATION): T {
    this.#countPages(pages);
    try {
      return change();
    } catch (error) {
      if (error instanceof AssertionError) throw error;
      throw this.fail(error);
    }
  }

  /** @throws StorageError EROFS */
  requireWritable(): void {
    if (this.readOnly) throw new StorageError("EROFS", "the file system is mounted for reading only");
  }

  /**
   * Before a change: null, which is nearly always: the open commit has room for it. Else what to wait for before asking again, in the piece in which the change is then
   * applied: whoever else waited may have taken the room. Rejects with StorageError EIO.
   */
  roomInCommit(): Promise<void> | null {
    return this.#commitIsFull ? this.durable() : null;
  }

  get #commitIsFull(): boolean {
    return this.#commitPages >= this.#operationPagesMax && this.#commitCounted === this.store.sealCount;
  }

  #countPages(pages: number): void {
    const { sealCount } = this.store;
    if (this.#commitCounted !== sealCount) {
      this.#commitCounted = sealCount;
      this.#commitPages = 0;
    }
    this.#commitPages += pages;
  }

  /** Entries of the directory have changed. */
  touchDirectory(directory: Inode, now: Time): void {
    touchModified(directory, now);
    this.inodes.markDirty(directory);
  }

  /** The last name is gone: the handle is stale from now on, and the space is freed. */
  drop(inode: Inode): void {
    inode.nlink = 0;
    this.inodes.remove(inode);
    if (inode.kind === FileKind.directory) this.dirents.names.forgetDirectory(inode.ino);
    if (inode.kind === FileKind.file) this.contents.discard(inode);
    this.onDropped(inode.ino);
  }

  /** Everything applied so far is on the LU when it resolves. @throws StorageError EIO */
  async durable(): Promise<void> {
    if (this.readOnly) return;
    // The seal writes the rest of them in one piece; whoever has changed many pays for them here.
    if (this.failed === null && this.inodes.dirtyCount >= ROWS_PER_PIECE) this.apply(() => this.inodes.flushDirty(), 0);
    try {
      await this.store.durable();
    } catch (error) {
      throw this.fail(error);
    }
  }

  /** A change was applied in this synchronous piece: its answer goes into the same commit, and that is waited for. @throws StorageError EIO */
  async conclude<T>(result: T, onApplied: OnApplied<T> | undefined): Promise<T> {
    this.keepAnswer(result, onApplied);
    await this.durable();
    return result;
  }

  keepAnswer<T>(result: T, onApplied: OnApplied<T> | undefined): void {
    const kept = onApplied?.(result) ?? null;
    if (kept !== null) this.replies.add(kept);
  }

  /** Keep the inode in the table until `work` has settled: what goes on afterwards must find the same object. */
  async holding<T>(inode: Inode, work: Promise<T>): Promise<T> {
    inode.holders++;
    try {
      return await work;
    } finally {
      inode.holders--;
    }
  }

  /** Every write of this file so far is durable when it resolves. @throws StorageError EIO: the data stays where it is, and may be tried again */
  async stabilize(inode: Inode): Promise<void> {
    try {
      await this.holding(inode, this.contents.stabilize(inode));
    } catch (error) {
      // The data LU, or the store? The latter ends the service.
      await this.durable();
      throw error;
    }
  }

  /** A row has changed for which nobody waits. */
  markDirtyLazily(inode: Inode): void {
    if (this.readOnly) return;
    this.inodes.markDirty(inode);
    if (this.inodes.dirtyCount >= this.#dirtyInodesMax) this.commitLazily();
  }

  /** Commit what waits, when something does. Never rejects: a failure stops the file system and is told there. */
  commitLazily(): void {
    if (this.failed !== null || this.inodes.dirtyCount === 0 || this.#lazyCommit !== null) return;
    this.#lazyCommit = this.durable()
      .catch((error: unknown) => this.log.debug({ error: messageOf(error) }, "lazy commit failed"))
      .finally(() => {
        this.#lazyCommit = null;
      });
  }

  /** Stop serving. @returns the error to answer with */
  fail(cause: unknown): StorageError {
    if (this.failed !== null) return this.failed;
    // What began with this node's copy was not made durable, for certain: whoever waits may ask again, and is answered by whoever serves then.
    const scratch = isScratchTrouble(cause);
    const detail = { cause: scratch ? scratchTextOf(cause) : rootMessageOf(cause), scratch };
    this.failed = new StorageError(scratch ? "EBUSY" : "EIO", "the file system has stopped", detail, cause);
    // Half of a change may be in the open transaction: no commit that somebody waits for may take it along.
    this.store.giveUp?.(this.failed);
    this.#onFailed(this.failed);
    return this.failed;
  }
}
