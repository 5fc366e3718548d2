import type { FileId, KeptReply, OnApplied } from "../vfs.js";
import { LockBook, type LockRows, type StoredLocks } from "./book.js";
import type {
  FileLocks,
  FreedLocks,
  LockClient,
  LockClientRow,
  LockGrant,
  LockHolder,
  LockOwner,
  LockRequest,
  LockResult,
  LockRow,
  ShareRequest,
} from "./contract.js";
import type { LOCK_LIMITS } from "./limits.js";

/** What the locks stand on. */
export interface LockGround {
  readonly rows: LockRows;
  /** @throws StorageError ESTALE, EISDIR, EINVAL, EIO: no such regular file */
  requireFile(id: FileId): void;
  /** @throws StorageError EIO: the file system has stopped */
  requireAlive(): void;
  /** Before rows are added. @throws StorageError ENOSPC */
  requireSpace(): void;
  /** Into the commit that comes next. */
  keepReply(kept: KeptReply): void;
  /** @throws StorageError EIO */
  durable(): Promise<void>;
}

/** The locks as a file system offers them: the book, with durability and the news of grants. */
export class FileLockTable implements FileLocks {
  readonly #book: LockBook;
  readonly #listeners = new Set<(grant: LockGrant) => void>();

  constructor(
    private readonly ground: LockGround,
    stored: StoredLocks,
    limits?: { readonly [K in keyof typeof LOCK_LIMITS]: number },
  ) {
    this.#book = new LockBook(ground.rows, () => ground.requireSpace(), limits);
    this.#book.load(stored);
  }

  test(id: FileId, request: LockRequest): LockHolder | null {
    this.ground.requireFile(id);
    return this.#book.test(id.ino, request);
  }

  async lock(
    id: FileId,
    request: LockRequest,
    wait: Buffer | null,
    onApplied?: OnApplied<LockResult>,
  ): Promise<LockResult> {
    this.ground.requireFile(id);
    return this.#done(this.#book.lock(id.ino, request, wait), onApplied);
  }

  async cancel(id: FileId, request: LockRequest, onApplied?: OnApplied<boolean>): Promise<boolean> {
    this.ground.requireFile(id);
    return this.#done(this.#book.cancel(id.ino, request), onApplied);
  }

  async unlock(id: FileId, request: Omit<LockRequest, "exclusive">, onApplied?: OnApplied<void>): Promise<void> {
    this.ground.requireFile(id);
    return this.#done(this.#book.unlock(id.ino, request), onApplied);
  }

  async share(id: FileId, request: ShareRequest, onApplied?: OnApplied<boolean>): Promise<boolean> {
    this.ground.requireFile(id);
    return this.#done(this.#book.share(id.ino, request), onApplied);
  }

  async unshare(id: FileId, owner: LockOwner, onApplied?: OnApplied<void>): Promise<void> {
    this.ground.requireFile(id);
    return this.#done(this.#book.unshare(id.ino, owner), onApplied);
  }

  async free(client: LockClient): Promise<FreedLocks> {
    this.ground.requireAlive();
    return this.#done(this.#book.free(client));
  }

  async settle(grant: LockGrant, accepted: boolean): Promise<void> {
    this.ground.requireAlive();
    return this.#done(this.#book.settle(grant.id, accepted));
  }

  pending(grant: LockGrant): boolean {
    return this.#book.pending(grant.id);
  }

  list(): LockRow[] {
    return [...this.#book.list()];
  }

  clients(): LockClientRow[] {
    return this.#book.clients();
  }

  onGranted(listener: (grant: LockGrant) => void): () => void {
    this.#listeners.add(listener);
    for (const grant of this.#book.offers()) listener(grant);
    return () => this.#listeners.delete(listener);
  }

  /** The inode is gone, in the change that is being applied. */
  forget(ino: number): void {
    this.#book.forget(ino);
    this.#book.takeChanged();
  }

  /** A client hears of its lock only when the lock would survive. */
  async #done<T>(result: T, onApplied?: OnApplied<T>): Promise<T> {
    const grants = this.#book.takeGrants();
    const changed = this.#book.takeChanged();
    const kept = onApplied?.(result) ?? null;
    if (kept !== null) this.ground.keepReply(kept);
    if (changed) await this.ground.durable();
    for (const grant of grants) {
      if (this.#book.pending(grant.id)) for (const listener of this.#listeners) listener(grant);
    }
    return result;
  }
}
