import type { Time } from "../../lib/clock.js";
import { StorageError } from "../../lib/errors.js";
import { type BeforeChange, beforeOf, changeOf, setAtime, setCtime, setMtime, unchanged } from "../attributes.js";
import type { ApplyObserver } from "../contents-contract.js";
import type { Core } from "../core.js";
import type { Inode } from "../inode.js";
import {
  inGroup,
  isOwner,
  isRoot,
  MODE_MASK,
  ModeBit,
  permitted,
  requireDataPermission,
  Want,
  withoutSetIds,
} from "../permission.js";
import {
  type Attributes,
  type Change,
  type Credentials,
  type FileId,
  FileKind,
  LIMITS,
  type OnApplied,
  type SetAttributes,
} from "../vfs.js";

function checkTime(time: Time | "now" | undefined): void {
  if (typeof time !== "object") return;
  const valid =
    Number.isSafeInteger(time.seconds) &&
    Number.isInteger(time.nanoseconds) &&
    time.nanoseconds >= 0 &&
    time.nanoseconds < 1e9;
  if (!valid) throw new StorageError("EINVAL", "not a time");
}

function checkId(id: number | undefined): void {
  if (id === undefined) return;
  if (!Number.isInteger(id) || id < 0 || id > 0xffff_ffff)
    throw new StorageError("EINVAL", "not a user or group number");
}

/** Values that no file can have. @throws StorageError EINVAL, EFBIG */
export function checkSetAttributes(set: SetAttributes): void {
  checkTime(set.atime);
  checkTime(set.mtime);
  checkId(set.uid);
  checkId(set.gid);
  if (set.mode !== undefined && !Number.isInteger(set.mode)) throw new StorageError("EINVAL", "not a mode");
  if (set.sizeBytes === undefined) return;
  if (!(set.sizeBytes >= 0)) throw new StorageError("EINVAL", "a negative size");
  if (!(set.sizeBytes <= LIMITS.fileBytesMax)) throw new StorageError("EFBIG", "larger than a file can be");
}

function requireOwnerForMode(inode: Inode, cred: Credentials, set: SetAttributes): void {
  if (set.mode !== undefined && !isOwner(inode, cred))
    throw new StorageError("EPERM", "chmod by another than the owner");
}

/** chown(2) with _POSIX_CHOWN_RESTRICTED: root gives files away; an owner may pick among its own groups. */
function requireChown(inode: Inode, cred: Credentials, set: SetAttributes): void {
  if (isRoot(cred)) return;
  const owner = cred.uid === inode.uid;
  if (set.uid !== undefined && !(owner && set.uid === inode.uid)) {
    throw new StorageError("EPERM", "only root gives a file to another user");
  }
  if (set.gid !== undefined && !(owner && (set.gid === inode.gid || inGroup(cred, set.gid)))) {
    throw new StorageError("EPERM", "not the owner, or not a member of the group");
  }
}

/** utimensat(2): the owner sets any time; whoever may write sets the present one. */
function requireTimes(inode: Inode, cred: Credentials, set: SetAttributes): void {
  if (isOwner(inode, cred)) return;
  if (typeof set.atime === "object" || typeof set.mtime === "object") {
    throw new StorageError("EPERM", "only the owner sets times");
  }
  const now = set.atime === "now" || set.mtime === "now";
  if (now && !permitted(inode, cred, Want.write)) throw new StorageError("EACCES", "permission denied");
}

function requireSize(inode: Inode, cred: Credentials, set: SetAttributes): void {
  if (set.sizeBytes === undefined) return;
  if (inode.kind === FileKind.directory) throw new StorageError("EISDIR", "a directory has no size to set");
  if (inode.kind !== FileKind.file) throw new StorageError("EINVAL", "only a regular file has a size to set");
  requireDataPermission(inode, cred, Want.write);
}

/** @throws StorageError EACCES, EPERM, EISDIR, EINVAL */
function requireSettable(inode: Inode, cred: Credentials, set: SetAttributes): void {
  requireSize(inode, cred, set);
  requireChown(inode, cred, set);
  requireOwnerForMode(inode, cred, set);
  requireTimes(inode, cred, set);
}

/**
 * The mode after the change. A new owner ends the setuid and setgid bits of everything but directories, whoever made the change, unless
 * root names the mode in the same call; a truncation by another than root does too (Linux' rules).
 */
function nextMode(inode: Inode, cred: Credentials, set: SetAttributes): number {
  let mode = inode.mode;
  const chowned = (set.uid !== undefined || set.gid !== undefined) && inode.kind !== FileKind.directory;
  if (chowned || (set.sizeBytes !== undefined && !isRoot(cred))) mode = withoutSetIds(mode);
  if (set.mode === undefined) return mode;
  mode = set.mode & MODE_MASK;
  if (isRoot(cred)) return mode;
  if (chowned) mode = withoutSetIds(mode);
  return inGroup(cred, set.gid ?? inode.gid) ? mode : mode & ~ModeBit.setgid;
}

/** Everything but the size. */
function applyFields(core: Core, cred: Credentials, inode: Inode, set: SetAttributes): void {
  const now = core.now();
  inode.mode = nextMode(inode, cred, set);
  inode.uid = set.uid ?? inode.uid;
  inode.gid = set.gid ?? inode.gid;
  if (set.atime !== undefined) setAtime(inode, set.atime === "now" ? now : set.atime);
  if (set.mtime !== undefined) setMtime(inode, set.mtime === "now" ? now : set.mtime);
  else if (set.sizeBytes !== undefined) setMtime(inode, now);
  setCtime(inode, now);
  core.inodes.markDirty(inode);
}

/** Takes the snapshots around a change of the contents, and sets the fields in the same piece. */
export class ContentsChange implements ApplyObserver {
  #before: BeforeChange | null = null;
  #after: Change | null = null;

  constructor(
    readonly inode: Inode,
    readonly fields: () => void,
    /** Told in the same piece. */
    readonly applied: (change: Change) => void = () => {},
    readonly client?: string,
  ) {}

  before(): void {
    // The file may have been removed while the change waited for data to be read.
    if (this.inode.dead) throw new StorageError("ESTALE", "the file was removed");
    this.#before = beforeOf(this.inode);
  }

  after(): void {
    if (this.#before === null) return;
    this.fields();
    this.#after = changeOf(this.#before, this.inode);
    this.applied(this.#after);
  }

  /** Undefined until the change was applied. */
  get change(): Change | undefined {
    return this.#after ?? undefined;
  }
}

/** Change an inode whose caller has checked name and values. Durable when it resolves. */
export async function setattrInode(
  core: Core,
  cred: Credentials,
  inode: Inode,
  set: SetAttributes,
  onApplied?: OnApplied<Change>,
): Promise<Change> {
  requireSettable(inode, cred, set);
  const applied = (change: Change) => core.keepAnswer(change, onApplied);
  if (Object.values(set).every((value) => value === undefined)) {
    const change = unchanged(inode);
    applied(change);
    return change;
  }
  if (set.sizeBytes !== undefined && set.sizeBytes < inode.sizeBytes) core.requireSpaceToShrink();
  else core.requireLittleSpace();
  const fields = () => applyFields(core, cred, inode, set);
  if (set.sizeBytes === undefined) return await core.conclude(setFields(inode, fields), onApplied);
  const change = await setSize(core, inode, set.sizeBytes, fields, applied);
  await core.durable();
  return change;
}

function setFields(inode: Inode, fields: () => void): Change {
  const before = beforeOf(inode);
  fields();
  return changeOf(before, inode);
}

/** Truncate or extend; `fields` runs in the same piece. The caller makes it durable. */
export async function setSize(
  core: Core,
  inode: Inode,
  sizeBytes: number,
  fields: () => void,
  applied?: (change: Change) => void,
): Promise<Change> {
  const observer = new ContentsChange(inode, fields, applied);
  const pending = core.contents.truncate(inode, sizeBytes, observer);
  if (pending !== undefined) await core.holding(inode, pending);
  return observer.change ?? unchanged(inode);
}

function sameTime(a: Attributes["ctime"], inode: Inode): boolean {
  return a.seconds === inode.ctimeSeconds && a.nanoseconds === inode.ctimeNanoseconds;
}

/**
 * chmod, chown, truncate and utimes in one (RFC 1813 section 3.3.2). All of it or nothing.
 * @param guardCtime  ENOTSYNC unless the inode's ctime is this one
 * Errors: EACCES EFBIG EINVAL EIO EISDIR (size of a directory) ENOSPC ENOTSYNC EPERM ESTALE.
 */
export async function setattr(
  core: Core,
  cred: Credentials,
  id: FileId,
  set: SetAttributes,
  guardCtime?: Time,
  onApplied?: OnApplied<Change>,
): Promise<Change> {
  const inode = core.inode(id);
  checkSetAttributes(set);
  if (guardCtime !== undefined && !sameTime(guardCtime, inode)) throw new StorageError("ENOTSYNC", "the ctime differs");
  return await setattrInode(core, cred, inode, set, onApplied);
}
