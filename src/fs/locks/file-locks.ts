import { isStorageError, StorageError } from "../../lib/errors.js";
import type { FileId, KeptReply, OnApplied } from "../vfs.js";
import { LockBook, type LockRows, type Steps } from "./book.js";
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
import type { LockLimits } from "./limits.js";
import { loadLocks, type StoredLocks } from "./load.js";
import { WorkLanes } from "./work-lanes.js";

/** What the locks stand on. */
export interface LockGround {
  readonly rows: LockRows;
  /** @throws StorageError ESTALE, EISDIR, EINVAL, EIO: no such regular file */
  requireFile(id: FileId): void;
  /** Whether there is an inode of this number; one that has gone never comes back. */
  exists(ino: number): boolean;
  /** @throws StorageError EIO: the file system has stopped */
  requireAlive(): void;
  /** Before rows are added. @param unlocking  they will go: some are taken where nothing else is. @throws StorageError ENOSPC */
  requireSpace(unlocking: boolean): void;
  /** Into the commit that comes next. */
  keepReply(kept: KeptReply): void;
  /** @throws StorageError EIO */
  durable(): Promise<void>;
  /** null: rows may be changed now; else when they may. */
  roomInCommit(): Promise<void> | null;
}

/** Entries of inodes that are gone leave one after the other, on a lane of their own: no inode has this number. */
const CLEARING_LANE = 0;

/** Grants that listeners are told of in one turn: each begins a call to a client. */
const TOLD_PER_TURN = 32;

type Listener = (grant: LockGrant) => void;

/** The locks as a file system offers them: the book, an operation at a time on each file, with durability and the news of grants. */
export class FileLockTable implements FileLocks {
  readonly #book: LockBook;
  readonly #lanes = new WorkLanes(
    () => this.#announce(),
    () => this.ground.roomInCommit(),
  );
  readonly #listeners = new Set<Listener>();
  /** Offers whose commit is under way. */
  readonly #undurable = new Set<number>();
  readonly #news: { readonly grant: LockGrant; readonly listener: Listener }[] = [];
  #telling = false;
  readonly #clearing = new Set<number>();
  /** Clients whose locks are being freed: what they ask for meanwhile waits for that. */
  readonly #freeing = new Map<LockClient, Promise<unknown>>();

  constructor(
    private readonly ground: LockGround,
    limits?: LockLimits,
  ) {
    this.#book = new LockBook(ground.rows, (unlocking) => ground.requireSpace(unlocking), limits);
  }

  /** What the rows say, at mount: in portions, since a node that takes over serves others meanwhile. */
  async restore(stored: StoredLocks): Promise<void> {
    await loadLocks(stored, this.#book, this.ground.rows);
    for (const ino of this.#book.loaded()) this.#lanes.run(ino, this.#serving(ino));
  }

  /** Of rows that requests which wait now will add. */
  get promisedBytes(): number {
    return this.#book.promisedBytes;
  }

  /** The file system is closing: operations that have not ended fail. */
  stop(): void {
    this.#lanes.stop(new StorageError("EIO", "the file system is closed"));
  }

  test(id: FileId, request: LockRequest): LockHolder | null | Promise<LockHolder | null> {
    this.ground.requireFile(id);
    if (this.#lanes.isFree(id.ino)) return this.#book.test(id.ino, request);
    const look = function* (this: FileLockTable): Steps<LockHolder | null> {
      yield 0;
      return this.#book.test(id.ino, request);
    };
    return this.#apply(id, () => look.call(this));
  }

  async lock(
    id: FileId,
    request: LockRequest,
    wait: Buffer | null,
    onApplied?: OnApplied<LockResult>,
  ): Promise<LockResult> {
    this.ground.requireFile(id);
    const freed = this.#freed(request.owner);
    if (freed !== null) await freed;
    return await this.#apply(id, () => this.#book.lock(id.ino, request, wait), onApplied);
  }

  async cancel(id: FileId, request: LockRequest, onApplied?: OnApplied<boolean>): Promise<boolean> {
    this.ground.requireFile(id);
    return await this.#apply(id, () => this.#book.cancel(id.ino, request), onApplied);
  }

  async unlock(id: FileId, request: Omit<LockRequest, "exclusive">, onApplied?: OnApplied<void>): Promise<void> {
    this.ground.requireFile(id);
    await this.#apply(id, () => this.#book.unlock(id.ino, request), onApplied);
  }

  async share(id: FileId, request: ShareRequest, onApplied?: OnApplied<boolean>): Promise<boolean> {
    this.ground.requireFile(id);
    const freed = this.#freed(request.owner);
    if (freed !== null) await freed;
    return await this.#apply(id, () => this.#book.share(id.ino, request), onApplied);
  }

  async unshare(id: FileId, owner: LockOwner, onApplied?: OnApplied<void>): Promise<void> {
    this.ground.requireFile(id);
    await this.#apply(id, () => this.#book.unshare(id.ino, owner), onApplied);
  }

  async free(client: LockClient): Promise<FreedLocks> {
    this.ground.requireAlive();
    const freeing = this.#free(client);
    this.#freeing.set(
      client,
      freeing.catch(() => {}),
    );
    try {
      return await freeing;
    } finally {
      this.#freeing.delete(client);
    }
  }

  async settle(grant: LockGrant, accepted: boolean): Promise<void> {
    this.ground.requireAlive();
    const ino = this.#book.offeredIn(grant.id);
    if (ino !== null) await this.#inOrder(ino, () => this.#book.settle(grant.id, accepted));
  }

  async retake(grant: LockGrant): Promise<boolean> {
    this.ground.requireAlive();
    const { ino } = grant;
    const missed = this.#freed(grant.owner);
    if (missed !== null) await missed;
    if (!this.ground.exists(ino)) return false;
    const { status } = await this.#inOrder(ino, () => this.#book.lock(ino, grant, null));
    return status === "granted";
  }

  pending(grant: LockGrant): boolean {
    return this.#book.pending(grant.id);
  }

  list(after = 0, limit = Number.POSITIVE_INFINITY): LockRow[] {
    return this.#book.list(after, limit);
  }

  clients(limit = Number.POSITIVE_INFINITY): LockClientRow[] {
    return this.#book.clients(limit);
  }

  hostsAt(address: string): string[] {
    return this.#book.hostsAt(address);
  }

  counts(): { readonly entries: number; readonly waiting: number; readonly addresses: number } {
    return this.#book.counts();
  }

  onGranted(listener: Listener): () => void {
    this.#listeners.add(listener);
    for (const grant of this.#book.offers()) if (!this.#undurable.has(grant.id)) this.#news.push({ grant, listener });
    this.#tell();
    return () => this.#listeners.delete(listener);
  }

  /** The inode is gone, in the change that is being applied. Rows that a crash leaves of it go at the next mount. */
  forget(ino: number): void {
    const clear = this.#book.forget(ino);
    if (clear === null) return;
    this.#clearing.add(ino);
    const steps = function* (this: FileLockTable): Steps<void> {
      yield* clear();
      this.#clearing.delete(ino);
    };
    this.#lanes.run(CLEARING_LANE, { steps: () => steps.call(this), failed: throwUnexpected });
  }

  /** It is gone, and its rows are going. */
  isClearing(ino: number): boolean {
    return this.#clearing.has(ino);
  }

  async #free(client: LockClient): Promise<FreedLocks> {
    const total = { held: 0, waiting: 0, shares: 0 };
    for (const ino of this.#book.filesOf(client)) {
      const { held, waiting, shares } = await this.#inOrder(ino, () => this.#book.freeIn(ino, client), false);
      total.held += held;
      total.waiting += waiting;
      total.shares += shares;
      await this.#lanes.rest();
    }
    if (total.held + total.waiting + total.shares > 0) await this.ground.durable();
    return total;
  }

  /** null: nothing of this owner's client is being freed, and not even a turn of the microtasks may be lost. */
  #freed({ address, host }: LockOwner): Promise<unknown> | null {
    const meant = [...this.#freeing].filter(
      ([client]) =>
        (client.address === null || client.address === address) && (client.host === null || client.host === host),
    );
    return meant.length === 0 ? null : Promise.all(meant.map(([, freeing]) => freeing));
  }

  /** An operation on a file, which may have gone before it is its turn. */
  #apply<T>(id: FileId, work: () => Steps<T>, onApplied?: OnApplied<T>): Promise<T> {
    const checked = () => {
      this.ground.requireFile(id);
      return work();
    };
    return this.#inOrder(id.ino, checked, true, onApplied);
  }

  /**
   * After what is under way on the file, and before those who waited for what it frees are served.
   * @param wait  a client hears of its lock only when the lock would survive
   */
  #inOrder<T>(ino: number, work: () => Steps<T>, wait = true, onApplied?: OnApplied<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      let ended = false;
      const steps = function* (this: FileLockTable): Steps<void> {
        const { changes } = this.#book;
        const result = yield* work();
        ended = true;
        const kept = onApplied?.(result) ?? null;
        if (kept !== null) this.ground.keepReply(kept);
        const changed = this.#book.changes !== changes;
        resolve(changed && wait ? this.ground.durable().then(() => result) : result);
        yield* this.#book.serve(ino);
      };
      const failed = (error: unknown) => (ended ? throwUnexpected(error) : reject(error));
      this.#lanes.run(ino, { steps: () => steps.call(this), failed });
    });
  }

  #serving(ino: number) {
    return { steps: () => this.#book.serve(ino), failed: throwUnexpected };
  }

  /** Once they are durable. When that fails the file system has stopped; they are told again after the next mount. */
  #announce(): void {
    const grants = this.#book.takeGrants();
    if (grants.length === 0) return;
    for (const { id } of grants) this.#undurable.add(id);
    const tell = () => {
      // In one piece: who begins to listen now is told of what is not under way any more.
      for (const { id } of grants) this.#undurable.delete(id);
      for (const grant of grants) for (const listener of this.#listeners) this.#news.push({ grant, listener });
      this.#tell();
    };
    this.ground.durable().then(tell, throwUnexpected);
  }

  #tell(): void {
    if (this.#telling) return;
    for (const { grant, listener } of this.#news.splice(0, TOLD_PER_TURN)) {
      if (this.#listeners.has(listener) && this.#book.pending(grant.id)) listener(grant);
    }
    if (this.#news.length === 0) return;
    this.#telling = true;
    setImmediate(() => {
      this.#telling = false;
      this.#tell();
    });
  }
}

/** Nobody waits for it: a file system that has stopped has told so, and a mistake of our own ends the process. */
function throwUnexpected(error: unknown): void {
  if (!isStorageError(error)) throw error;
}
