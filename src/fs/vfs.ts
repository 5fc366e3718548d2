import type { BlockChecksums } from "../lib/block-checksums.js";
import type { Time } from "../lib/clock.js";
import type { FileLocks } from "./locks/contract.js";

export * from "./locks/contract.js";
export { type ByteRange, lengthOf, rangeOf } from "./locks/range.js";

/** All that a protocol sees of a file system. Nothing here belongs to one protocol. */

/** Values as in RFC 1813 ftype3 and on disk. */
export const FileKind = { file: 1, directory: 2, block: 3, character: 4, symlink: 5, socket: 6, fifo: 7 } as const;
export type FileKind = (typeof FileKind)[keyof typeof FileKind];

export interface Credentials {
  readonly uid: number;
  readonly gid: number;
  /** Supplementary groups. */
  readonly groups: readonly number[];
  /** On whose behalf, in whatever words: clients take turns when they must wait for room. No part of any permission. */
  readonly client?: string | undefined;
}

export const ROOT_CREDENTIALS: Credentials = { uid: 0, gid: 0, groups: [] };

/** Names a file for ever: an inode number is reused only with another generation. A wrong generation is ESTALE. */
export interface FileId {
  readonly ino: number;
  readonly generation: number;
}

/** A snapshot, taken at the moment the operation was applied. */
export interface Attributes extends FileId {
  readonly kind: FileKind;
  /** Permission bits, 0 to 0o7777. */
  readonly mode: number;
  readonly nlink: number;
  readonly uid: number;
  readonly gid: number;
  readonly sizeBytes: number;
  /** Allocated, a multiple of 4096. */
  readonly usedBytes: number;
  readonly rdevMajor: number;
  readonly rdevMinor: number;
  readonly atime: Time;
  readonly mtime: Time;
  readonly ctime: Time;
}

/** One inode just before and just after an operation (RFC 1813 wcc_data), both taken synchronously as it was applied. */
export interface Change {
  readonly before: { readonly sizeBytes: number; readonly mtime: Time; readonly ctime: Time };
  readonly after: Attributes;
}

/** A field that is absent stays as it is; "now" is the server's time. */
export interface SetAttributes {
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly sizeBytes?: number;
  readonly atime?: Time | "now";
  readonly mtime?: Time | "now";
}

/** unchecked: open an existing file (a size of 0 truncates it); guarded: EEXIST; exclusive: EEXIST unless the stored verifier is equal. */
export type CreateHow =
  | { readonly mode: "unchecked" | "guarded"; readonly attributes: SetAttributes }
  | { readonly mode: "exclusive"; readonly verifier: Buffer };

export const Access = { read: 1, lookup: 2, modify: 4, extend: 8, delete: 16, execute: 32 } as const;

/** unstable: may wait in memory until `commit`. stable: data and all metadata are durable when the promise resolves. */
export type Stability = "unstable" | "stable";

export interface ReadResult {
  readonly count: number;
  readonly endOfFile: boolean;
  readonly attributes: Attributes;
}

export interface WriteResult {
  readonly count: number;
  readonly stability: Stability;
  readonly change: Change;
}

export interface Created {
  readonly attributes: Attributes;
  readonly directory: Change;
}

export interface Linked {
  readonly file: Attributes;
  readonly directory: Change;
}

/** Both directories; the same one twice when the name stayed in it. */
export interface Renamed {
  readonly from: Change;
  readonly to: Change;
}

export interface DirectoryEntry {
  readonly ino: number;
  readonly name: Buffer;
  /** Where to go on after this entry. 1 is ".", 2 is ".."; stable for as long as the entry lives. Below 2^53. */
  readonly cookie: number;
  /** Present when asked for. */
  readonly attributes?: Attributes;
}

export interface DirectoryPage {
  readonly entries: readonly DirectoryEntry[];
  readonly endOfDirectory: boolean;
  readonly attributes: Attributes;
}

export interface SpaceUsage {
  readonly totalBytes: number;
  readonly freeBytes: number;
  /** Free for others than root. */
  readonly availableBytes: number;
  readonly totalFiles: number;
  readonly freeFiles: number;
}

/** An encoded answer, and what names its request: the file system keeps it beside the change and asks nothing more of it. */
export interface KeptReply {
  /** Up to 255 bytes. */
  readonly key: string;
  readonly reply: Buffer;
}

export interface FoundReply {
  readonly reply: Buffer;
  /** How long before the newest of them it was given. */
  readonly ageMs: number;
}

/** Answers that were kept before a file system was mounted. */
export interface KeptReplies {
  readonly count: number;
  find(key: string): FoundReply | null;
}

export const NO_REPLIES: KeptReplies = { count: 0, find: () => null };

/**
 * Called in the synchronous piece in which a change is applied, with what the operation's promise will give once the change is durable. What it returns is kept
 * in the same commit (for a write: in the commit that makes its bytes durable): after a crash there are both, or neither. It must not throw.
 */
export type OnApplied<T> = (result: T) => KeptReply | null;

/**
 * Memory for the data of large reads, where it is read best: aligned for direct I/O, and parity can be computed in it. Whoever borrows bounds what it has.
 */
export interface ReadMemory {
  /** What a buffer for so many bytes takes. */
  sizeOf(byteCount: number): number;
  /** @returns at least `byteCount` bytes, their content arbitrary. It never refuses; from elsewhere, when there is no better memory left. */
  borrow(byteCount: number): Buffer;
  /** Nobody reads or writes it any more. Also after the file system was closed. */
  giveBack(buffer: Buffer): void;
}

/**
 * Rules for every operation:
 * - It checks the caller's permission (POSIX: owner, group, other; uid 0 passes, except execute on a file with no x bit; sticky directories).
 * - It throws StorageError; when it throws, nothing has changed.
 * - A synchronous operation only reads. A mutation is applied synchronously, in one piece, as it is called (unless it must first read
 *   data, then in the order of the calls on that file), and its promise resolves when the change is durable (group commit).
 * - Names are bytes, 1 to 255, without "/" and NUL: ENAMETOOLONG, EINVAL otherwise. "." and ".." can be looked up, never created (EEXIST)
 *   or removed (EINVAL; ENOTEMPTY for rmdir "..").
 * - The name of a lookup is borrowed until it returns. Names and link targets given to mutations are the file system's to keep.
 */
export interface FileSystem {
  /** Stable across mounts; below 2^32. */
  readonly id: number;
  readonly name: string;
  readonly root: FileId;
  /** Key of this file system's handles (32 bytes, kept in its page store). */
  readonly handleKey: Buffer;
  /** 8 bytes; changes exactly when unflushed data may have been lost (RFC 1813 section 3.3.7). */
  readonly writeVerifier: Buffer;
  /** Byte-range locks and share reservations. */
  readonly locks: FileLocks;
  /** For `read`. */
  readonly readMemory: ReadMemory;

  getattr(id: FileId): Attributes;
  setattr(
    cred: Credentials,
    id: FileId,
    set: SetAttributes,
    guardCtime?: Time,
    onApplied?: OnApplied<Change>,
  ): Promise<Change>;
  /** The subset of `wanted` (bits of Access) that is granted. */
  access(cred: Credentials, id: FileId, wanted: number): { granted: number; attributes: Attributes };
  lookup(cred: Credentials, directory: FileId, name: Buffer): Attributes;
  readlink(cred: Credentials, id: FileId): { target: Buffer; attributes: Attributes };

  /**
   * Read into `target` (its length is the count wanted). Returns at once when everything is cached.
   * A regular file only: EISDIR for a directory, EINVAL for the others.
   */
  read(cred: Credentials, id: FileId, offset: number, target: Buffer): ReadResult | Promise<ReadResult>;
  /**
   * `source` is borrowed until the promise resolves (or until the call returns, when it returns no promise). EFBIG past maxFileBytes.
   * @param checksums  of the whole blocks of `source`, when the caller had to work them out anyhow
   */
  write(
    cred: Credentials,
    id: FileId,
    offset: number,
    source: Buffer,
    stability: Stability,
    onApplied?: OnApplied<WriteResult>,
    checksums?: BlockChecksums | null,
  ): WriteResult | Promise<WriteResult>;
  /** Make earlier unstable writes of the file durable. count 0 means to the end; a larger range than asked may be flushed. */
  commit(cred: Credentials, id: FileId, offset: number, count: number): Promise<Change>;

  create(
    cred: Credentials,
    directory: FileId,
    name: Buffer,
    how: CreateHow,
    onApplied?: OnApplied<Created>,
  ): Promise<Created>;
  mkdir(
    cred: Credentials,
    directory: FileId,
    name: Buffer,
    set: SetAttributes,
    onApplied?: OnApplied<Created>,
  ): Promise<Created>;
  symlink(
    cred: Credentials,
    directory: FileId,
    name: Buffer,
    target: Buffer,
    set: SetAttributes,
    onApplied?: OnApplied<Created>,
  ): Promise<Created>;
  mknod(
    cred: Credentials,
    directory: FileId,
    name: Buffer,
    kind: FileKind,
    rdev: { major: number; minor: number },
    set: SetAttributes,
    onApplied?: OnApplied<Created>,
  ): Promise<Created>;
  link(cred: Credentials, id: FileId, directory: FileId, name: Buffer, onApplied?: OnApplied<Linked>): Promise<Linked>;
  remove(cred: Credentials, directory: FileId, name: Buffer, onApplied?: OnApplied<Change>): Promise<Change>;
  rmdir(cred: Credentials, directory: FileId, name: Buffer, onApplied?: OnApplied<Change>): Promise<Change>;
  /** Replaces an existing target as rename(2) does; the same inode on both sides is a success that does nothing. */
  rename(
    cred: Credentials,
    from: FileId,
    fromName: Buffer,
    to: FileId,
    toName: Buffer,
    onApplied?: OnApplied<Renamed>,
  ): Promise<Renamed>;

  /**
   * Entries after `cookie` (0: from the start, with "." and ".."), at most `limit`. EBADCOOKIE for a cookie that this directory never gave out.
   */
  readdir(cred: Credentials, directory: FileId, cookie: number, limit: number, withAttributes: boolean): DirectoryPage;

  space(): SpaceUsage;

  /** Keep the answer of a request that changed nothing: with the next commit, for which nobody waits. Nothing once the file system has stopped. */
  keepReply(kept: KeptReply): void;
  /** The answers that were kept when it was mounted; the caller's from here on, a second call finds none. */
  takeKeptReplies(): KeptReplies;
}

export const LIMITS = {
  nameBytesMax: 255,
  linkTargetBytesMax: 4095,
  /** 16 TiB: u48 blocks would allow more, 2^44 keeps every byte offset and block product exact in a Number. */
  fileBytesMax: 2 ** 44,
  linksMax: 2 ** 31 - 1,
} as const;
