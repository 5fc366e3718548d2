import { StorageError } from "../lib/errors.js";
import type { Inode } from "./inode.js";
import { type Credentials, FileKind } from "./vfs.js";

/** Permission classes, as the three bits of an octal digit. */
export const Want = { execute: 1, write: 2, read: 4 } as const;

export const ModeBit = {
  setuid: 0o4000,
  setgid: 0o2000,
  sticky: 0o1000,
  groupExecute: 0o010,
  anyExecute: 0o111,
} as const;
export const MODE_MASK = 0o7777;

export function isRoot(cred: Credentials): boolean {
  return cred.uid === 0;
}

export function inGroup(cred: Credentials, gid: number): boolean {
  return cred.gid === gid || cred.groups.includes(gid);
}

export function isOwner(inode: Inode, cred: Credentials): boolean {
  return cred.uid === inode.uid || cred.uid === 0;
}

/**
 * POSIX file access permissions (IEEE 1003.1 section 4.7): the class of the caller alone counts, also when a wider class would grant
 * more. Root passes, except execute of a file with no execute bit at all.
 */
export function permitted(inode: Inode, cred: Credentials, want: number): boolean {
  if (cred.uid === 0) {
    const refused = inode.kind !== FileKind.directory && (inode.mode & ModeBit.anyExecute) === 0;
    return !refused || (want & Want.execute) === 0;
  }
  let bits = inode.mode;
  if (cred.uid === inode.uid) bits >>= 6;
  else if (inGroup(cred, inode.gid)) bits >>= 3;
  return (bits & want) === want;
}

/** @throws StorageError EACCES */
export function requirePermission(inode: Inode, cred: Credentials, want: number): void {
  if (!permitted(inode, cred, want)) throw new StorageError("EACCES", "permission denied");
}

/**
 * For data, which a stateless caller reads and writes long after it opened the file: the owner passes whatever the mode is now (a file
 * created read-only can be filled by its creator), and who may execute may read it in. The client's kernel checks open(2) itself.
 * @throws StorageError EACCES
 */
export function requireDataPermission(inode: Inode, cred: Credentials, want: number): void {
  if (isOwner(inode, cred) || permitted(inode, cred, want)) return;
  if (want === Want.read && permitted(inode, cred, Want.execute)) return;
  throw new StorageError("EACCES", "permission denied");
}

/** To take `victim`'s name out of a directory: write permission, and in a sticky one ownership. @throws StorageError EACCES, EPERM */
export function requireRemovable(directory: Inode, victim: Inode, cred: Credentials): void {
  requirePermission(directory, cred, Want.write | Want.execute);
  if ((directory.mode & ModeBit.sticky) === 0) return;
  if (isOwner(victim, cred) || isOwner(directory, cred)) return;
  throw new StorageError("EPERM", "a sticky directory: neither its owner nor the file's");
}

/** What is left of the mode when somebody without privilege changes the contents; and for everybody when the owner changes. */
export function withoutSetIds(mode: number): number {
  const kept = mode & ~ModeBit.setuid;
  // Without group execute the setgid bit is the old mark for mandatory locking, not a privilege.
  return (kept & ModeBit.groupExecute) === 0 ? kept : kept & ~ModeBit.setgid;
}
