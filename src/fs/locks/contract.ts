import type { FileId, OnApplied } from "../vfs.js";
import type { ByteRange } from "./range.js";

/** The locks of a file system: advisory byte ranges, requests that wait for one, and share reservations. Nothing here belongs to one protocol. */

/**
 * Who holds or wants a lock. Two locks are one owner's when all four are equal: names are what a client says, so that without the address one
 * client could undo another's locks, and two that were cloned with one name would share theirs.
 */
export interface LockOwner {
  /** Where the client calls from, normalised by whoever heard it. */
  readonly address: string;
  /** The name that the client gives itself. */
  readonly host: string;
  /** The process on that host: a number that only the client understands, u32. */
  readonly svid: number;
  /** More of the owner's identity, opaque. */
  readonly oh: Buffer;
}

export interface LockRequest extends ByteRange {
  readonly owner: LockOwner;
  readonly exclusive: boolean;
}

/** Who is in the way. */
export interface LockHolder extends ByteRange {
  readonly owner: LockOwner;
  readonly exclusive: boolean;
}

/** blocked: it waits in the queue of the file, and `onGranted` tells when it has its lock. */
export type LockResult =
  | { readonly status: "granted" | "blocked" }
  | { readonly status: "denied"; readonly holder: LockHolder };

/** A lock that was given to a request that had waited. It counts from now on; `settle` says whether the client wants it. */
export interface LockGrant extends LockRequest {
  readonly id: number;
  readonly ino: number;
  /** What the request left to be handed back, such as how to reach the client. */
  readonly note: Buffer;
}

/** A share reservation: what its owner does (`access`), and what nobody else may do meanwhile (`deny`). Bits: 1 read, 2 write. */
export interface ShareRequest {
  /** `svid` is 0: share reservations belong to a host and an opaque. */
  readonly owner: LockOwner;
  readonly access: number;
  readonly deny: number;
}

/** held: the client has it. waiting: in the queue. offered: given to a request that waited, and not confirmed by the client. */
export type LockState = "held" | "waiting" | "offered" | "share";

export interface LockRow extends ByteRange {
  /** Rises with each entry that is made; no two have the same. */
  readonly id: number;
  readonly ino: number;
  readonly state: LockState;
  readonly owner: LockOwner;
  readonly exclusive: boolean;
}

/** Whose locks: of one address, of one name, or of one name at one address; null is any. */
export interface LockClient {
  readonly address: string | null;
  readonly host: string | null;
}

/** A client that has locks or waits for some, and on how many files. */
export interface LockClientRow {
  readonly address: string;
  readonly host: string;
  readonly files: number;
}

export interface FreedLocks {
  readonly held: number;
  readonly waiting: number;
  readonly shares: number;
}

/**
 * Rules for every mutation: it is applied as it is called, unless something is under way on the same file; then it is its turn after that. One that has much to do goes on in
 * later turns of the event loop, and nobody else changes the locks of this file meanwhile. `onApplied` is called in its last step, and its promise resolves when the
 * change is durable. It throws StorageError, and nothing has changed then: ESTALE (the inode is gone), EISDIR or EINVAL (no regular file), ENOSPC (too many
 * locks, or the metadata LU is full), EIO.
 *
 * Locks, waiting requests and reservations are rows of the file system: they survive a restart. They go with their inode.
 */
export interface FileLocks {
  /** Who would be in the way of this request; null: nobody. Not in the middle of what is under way on the file. */
  test(id: FileId, request: LockRequest): LockHolder | null | Promise<LockHolder | null>;
  /**
   * @param wait  null: a request that cannot be granted is denied. Otherwise it waits, behind those that came before it, and `wait` comes
   * back with its grant. A request that waits already goes on waiting; one whose grant was not confirmed has it confirmed by this.
   */
  lock(id: FileId, request: LockRequest, wait: Buffer | null, onApplied?: OnApplied<LockResult>): Promise<LockResult>;
  /** Wait no more. A grant that was not confirmed is given back. @returns false when there was no such request */
  cancel(id: FileId, request: LockRequest, onApplied?: OnApplied<boolean>): Promise<boolean>;
  /** What is not locked stays so. */
  unlock(id: FileId, request: Omit<LockRequest, "exclusive">, onApplied?: OnApplied<void>): Promise<void>;
  /** A reservation replaces an earlier one of the same owner. @returns false when another one is in the way */
  share(id: FileId, request: ShareRequest, onApplied?: OnApplied<boolean>): Promise<boolean>;
  unshare(id: FileId, owner: LockOwner, onApplied?: OnApplied<void>): Promise<void>;
  /** Everything of a client goes: it was restarted, or an administrator says that it is dead. */
  free(client: LockClient): Promise<FreedLocks>;
  /** The client has taken a grant, or does not want it: then the lock goes, and what the owner held there before is as it was. */
  settle(grant: LockGrant, accepted: boolean): Promise<void>;
  /**
   * A client takes a lock after all that it was granted once, and that was given up meanwhile.
   * @returns false when somebody else has it, or the file is gone
   */
  retake(grant: LockGrant): Promise<boolean>;
  /** The grant was neither confirmed nor given back. */
  pending(grant: LockGrant): boolean;
  /** In the order of their numbers, from after `after` on. */
  list(after?: number, limit?: number): LockRow[];
  /** From memory: it is asked every few seconds. */
  clients(limit?: number): LockClientRow[];
  /** The names that an address has locks under. */
  hostsAt(address: string): string[];
  /** Told of every grant as soon as it is durable; of those that are pending now, at once. @returns how to stop listening */
  onGranted(listener: (grant: LockGrant) => void): () => void;
}
