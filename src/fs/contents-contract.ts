import type { BlockChecksums } from "../lib/block-checksums.js";
import type { Inode } from "./inode.js";
import type { KeptReply } from "./vfs.js";

/**
 * Called synchronously around the moment at which a change to a file's contents is applied, so that the namespace layer can
 * take its snapshots and set times in the same piece. Both are called exactly once unless the operation throws.
 */
export interface ApplyObserver {
  /** Whose change it is (Credentials): clients take turns when they must wait for room. Default: one for all who do not say. */
  readonly client?: string | undefined;
  before(): void;
  after(): void;
}

export interface SpaceCount {
  readonly totalBlocks: number;
  /** Not allocated and not promised to dirty data. */
  readonly freeBlocks: number;
}

/** One fault that `check` found in the contents layer. */
export interface ContentsFault {
  readonly ino: number;
  readonly what: string;
}

/**
 * What files contain: extents, space, the data cache and its write-back. Implemented by fs/contents/; used by fs/file-system.ts only.
 * It knows inodes by number, size and allocation, and no names. All sizes in bytes.
 *
 * Fields of Inode that belong to this layer: `usedBlocks`, `durableSizeBytes`, `contents`; it also sets `sizeBytes` in write and truncate.
 * After changing any field that is in the row it calls `inodes.markDirty(inode)`.
 */
export interface Contents {
  /** @returns bytes read: less than target.length only at the end of the file. Holes read as zero. EIO when no copy matches the checksum. */
  read(inode: Inode, offset: number, target: Buffer): number | Promise<number>;
  /**
   * Into the cache; grows the file where it must. No promise when nothing had to be awaited. ENOSPC, EFBIG; `source` is copied.
   * @param checksums  of its whole blocks, where the caller has them
   */
  write(
    inode: Inode,
    offset: number,
    source: Buffer,
    observer: ApplyObserver,
    checksums?: BlockChecksums | null,
  ): void | Promise<void>;
  /** Shrink (freeing) or grow (a hole). The new size is durable with the next commit, whatever the state of unstable writes. */
  truncate(inode: Inode, sizeBytes: number, observer: ApplyObserver): void | Promise<void>;
  /** The last link is gone: free everything, at once or, for a large file, in bounded steps that survive a restart. */
  discard(inode: Inode): void;
  /** Resolves when every write of this file that was applied before the call is durable with its size. */
  stabilize(inode: Inode): Promise<void>;
  /** The answer of the write that was just applied: it becomes durable in the commit that makes the file's writes up to this one durable. */
  keepReply(inode: Inode, kept: KeptReply): void;
  /** First block of the file on the data LU, in bytes from its start; -1 when nothing is allocated (fs files: head address). */
  headAddress(ino: number): number;
  space(): SpaceCount;
}
