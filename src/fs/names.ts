import { StorageError } from "../lib/errors.js";
import { LIMITS } from "./vfs.js";

const SLASH = 0x2f;
const DOT = 0x2e;

/** "." or ".." or neither. */
export type DotName = "self" | "parent" | null;

export function dotName(name: Buffer): DotName {
  if (name.length > 2 || name[0] !== DOT) return null;
  if (name.length === 1) return "self";
  return name[1] === DOT ? "parent" : null;
}

/** @throws StorageError EINVAL: empty, or with "/" or NUL; ENAMETOOLONG: above 255 bytes */
export function checkName(name: Buffer): void {
  if (name.length === 0) throw new StorageError("EINVAL", "an empty name");
  if (name.length > LIMITS.nameBytesMax) throw new StorageError("ENAMETOOLONG", "a name above 255 bytes");
  if (name.includes(SLASH) || name.includes(0)) throw new StorageError("EINVAL", 'a name with "/" or NUL');
}

/** For an operation that makes a name: the dots exist in every directory. @throws StorageError EEXIST, and as checkName */
export function checkNewName(name: Buffer): void {
  checkName(name);
  if (dotName(name) !== null) throw new StorageError("EEXIST", '"." and ".." exist in every directory');
}

/** For remove and rename. @throws StorageError EINVAL for "." and "..", and as checkName */
export function checkOldName(name: Buffer): void {
  checkName(name);
  if (dotName(name) !== null) throw new StorageError("EINVAL", '"." and ".." cannot be removed or renamed');
}

/** For rmdir: "." is EINVAL and ".." ENOTEMPTY, as rmdir(2) says. */
export function checkRmdirName(name: Buffer): void {
  checkName(name);
  const dot = dotName(name);
  if (dot === "self") throw new StorageError("EINVAL", 'rmdir of "."');
  if (dot === "parent") throw new StorageError("ENOTEMPTY", 'rmdir of ".."');
}

/** Text of a symlink, as symlink(2): ENOENT when empty, ENAMETOOLONG above 4095 bytes, EINVAL with NUL. */
export function checkLinkTarget(target: Buffer): void {
  if (target.length === 0) throw new StorageError("ENOENT", "an empty link target");
  if (target.length > LIMITS.linkTargetBytesMax)
    throw new StorageError("ENAMETOOLONG", "a link target above 4095 bytes");
  if (target.includes(0)) throw new StorageError("EINVAL", "a link target with NUL");
}
