import type { SpaceUsage } from "../fs/vfs.js";
import { isStorageError } from "../lib/errors.js";
import { isScratchTrouble } from "../pagestore/scratch.js";
import type { FileSystemLus, ServedFileSystem } from "./layers.js";
import type { FileSystemRow } from "./types.js";

/** One file system, mounted or known to be broken. */
export interface Kept {
  readonly name: string;
  readonly group: string;
  readonly level: 1 | 5;
  readonly served: ServedFileSystem | null;
  reason: string | null;
  /** It is mounted, and has ended its service: it is shown, and asked nothing more. */
  stopped?: boolean;
  /** It is served for reading only. */
  readonly readOnly?: boolean;
  /** It is not served for a reason of this node's own: its disks are well. */
  hindered?: boolean;
  /** As it was when it last said so: it is shown also when it says nothing more. */
  space?: SpaceUsage;
  /** Why it has stopped. */
  cause?: string;
  /** Open as long as it is mounted. */
  readonly lus?: FileSystemLus;
  /** Mounted, and served to nobody: what it holds is half of a backup. */
  readonly refilling?: boolean;
}

export function isServing(kept: Kept): kept is Kept & { readonly served: ServedFileSystem } {
  return kept.served !== null && kept.refilling !== true && kept.stopped !== true;
}

export function troubleOf(served: ServedFileSystem): string | null {
  try {
    return served.trouble?.() ?? null;
  } catch (error) {
    if (!isStorageError(error)) throw error;
    return error.message;
  }
}

/** What it says of its space now, or said last. */
function spaceOf(kept: Kept): SpaceUsage | undefined {
  if (kept.served === null || kept.stopped === true) return kept.space;
  try {
    kept.space = kept.served.fileSystem.space();
  } catch (error) {
    // It has just stopped, and is about to say so.
    if (!isStorageError(error)) throw error;
  }
  return kept.space;
}

export function rowOf(kept: Kept): FileSystemRow {
  const space = spaceOf(kept);
  return {
    name: kept.name,
    group: kept.group,
    state: !isServing(kept) ? "failed" : kept.readOnly === true ? "read-only" : "mounted",
    level: kept.level,
    totalBytes: space?.totalBytes ?? 0,
    freeBytes: space?.freeBytes ?? 0,
    totalFiles: space?.totalFiles ?? 0,
    freeFiles: space?.freeFiles ?? 0,
    reason: kept.reason ?? (isServing(kept) ? troubleOf(kept.served) : null),
  };
}

/** Something could not be written, or has no room: the log may be sound all the same. A newer owner or a foreign LU is another matter. */
export function mayBeReadable(error: unknown): boolean {
  if (isScratchTrouble(error)) return false;
  return !isStorageError(error) || error.code === "EIO" || error.code === "ENOSPC" || error.code === "EFBIG";
}
