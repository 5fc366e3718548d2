import { AssertionError } from "../lib/assert.js";
import type { Clock, Time } from "../lib/clock.js";
import { messageOf, StorageError } from "../lib/errors.js";
import type { Logger } from "../lib/log.js";
import type { Random } from "../lib/prng.js";
import type { PageStore } from "../pagestore/contract.js";
import { touchModified } from "./attributes.js";
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

/** Pages held back from operations that grow the metadata, so that removing and truncating go on when the LU is full. */
export const METADATA_RESERVE_PAGES = 64;
/** Rows of new inodes wait in memory until the seal; so many fit a page at least. */
const INODES_PER_PAGE = 16;
/** One operation splits at most so many pages: two B-trees of entries, one of inodes, with their parents. */
const PAGES_PER_OPERATION = 8;
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

  /** Before an operation that adds rows. @throws StorageError ENOSPC, and nothing has changed */
  requireMetadataSpace(): void {
    if (this.#operationsUntilCount > 0) {
      this.#operationsUntilCount--;
      return;
    }
    const promised = METADATA_RESERVE_PAGES + Math.ceil(this.inodes.dirtyCount / INODES_PER_PAGE);
    const spare = this.store.freePages() - promised;
    if (spare < PAGES_PER_OPERATION) throw new StorageError("ENOSPC", "the metadata LU is full");
    this.#operationsUntilCount = Math.min(OPERATIONS_PER_COUNT_MAX, Math.floor(spare / PAGES_PER_OPERATION)) - 1;
  }

  /**
   * Change rows and inodes, in one synchronous piece. Everything was checked before: what throws now is a broken database or our own
   * mistake, and the open transaction holds half of a change. Nothing of it may become durable, so the file system stops.
   */
  apply<T>(change: () => T): T {
    try {
      return change();
    } catch (error) {
      if (error instanceof AssertionError) throw error;
      throw this.fail(error);
    }
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
    // The seal writes the rest of them in one piece; whoever has changed many pays for them here.
    if (this.failed === null && this.inodes.dirtyCount >= ROWS_PER_PIECE) this.apply(() => this.inodes.flushDirty());
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
    this.inodes.markDirty(inode);
    if (this.inodes.dirtyCount >= DIRTY_INODES_MAX) this.commitLazily();
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
    this.failed = new StorageError("EIO", "the file system has stopped", { cause: messageOf(cause) }, cause);
    this.#onFailed(this.failed);
    return this.failed;
  }
}
