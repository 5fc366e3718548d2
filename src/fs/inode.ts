import type { FileKind } from "./vfs.js";

/**
 * One inode in memory: the authority while it is cached; its row follows at the next commit when it is dirty. Times are split into
 * whole seconds and nanoseconds. Inode numbers are never reused.
 */
export class Inode {
  mode = 0;
  nlink = 0;
  uid = 0;
  gid = 0;
  rdevMajor = 0;
  rdevMinor = 0;
  /** As clients see it: includes what unstable writes have added. */
  sizeBytes = 0;
  /** What the row says: runs with written-back data, so that a crash shows an unstable write whole or not at all. */
  durableSizeBytes = 0;
  /** Blocks allocated on the data LU and blocks that wait dirty without a place yet. */
  usedBlocks = 0;
  atimeSeconds = 0;
  atimeNanoseconds = 0;
  mtimeSeconds = 0;
  mtimeNanoseconds = 0;
  ctimeSeconds = 0;
  ctimeNanoseconds = 0;
  /** Directories: the parent's inode number; the next cookie to give out. */
  parentIno = 0;
  /** Directories: the cookie of the entry that names this one in its parent; 0 for the root. Exact, since a directory has one link. */
  parentCookie = 0;
  nextCookie = 3;
  /** Symlinks: bytes as latin1 text. A Buffer takes 300 bytes more, and thousands are kept. */
  linkTarget: string | null = null;
  /** Set by an exclusive create, compared when it is repeated (RFC 1813 section 3.3.8). As latin1 text. */
  exclusiveVerifier: string | null = null;
  /** The row must be written at the next commit. Set through InodeTable.markDirty. */
  dirty = false;
  /** Operations that wait in their middle and will go on with this very object: it stays in the table. */
  holders = 0;
  /** Looked at since the hand of the inode table's clock last passed. */
  recentlyUsed = false;
  /** nlink is 0 and the row is gone: handles are stale. */
  dead = false;
  /** In the ring of the inode table. */
  place = -1;
  /** State of the contents layer; null while it has none (then the inode may leave the cache). */
  contents: object | null = null;

  constructor(
    readonly ino: number,
    readonly generation: number,
    readonly kind: FileKind,
  ) {}
}

/** The part of the inode table that the contents layer needs. */
export interface InodeMarks {
  /** The row will be written at the next seal. */
  markDirty(inode: Inode): void;
  /** Load by number, also when it is not cached; null when there is no such row. For recovery and orphans. */
  load(ino: number): Inode | null;
}
