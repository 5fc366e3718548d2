import type { Time } from "../../lib/clock.js";
import { StorageError } from "../../lib/errors.js";
import { attributesOf, beforeOf, changeOf, setAtime, setCtime, setMtime, unchanged } from "../attributes.js";
import type { Core } from "../core.js";
import type { Inode } from "../inode.js";
import { checkLinkTarget, checkNewName } from "../names.js";
import { inGroup, isRoot, MODE_MASK, ModeBit, requirePermission, Want } from "../permission.js";
import {
  type Attributes,
  type Change,
  type Created,
  type CreateHow,
  type Credentials,
  type FileId,
  FileKind,
  LIMITS,
  type OnApplied,
  type SetAttributes,
} from "../vfs.js";
import { checkSetAttributes, setattrInode, setSize } from "./setattr.js";

/** Where nothing is asked for. An exclusive create says no attributes: the owner sets them next. */
const MODE_DEFAULT = { file: 0o644, exclusive: 0o600, directory: 0o755, symlink: 0o777 } as const;

interface NewInode {
  readonly kind: FileKind;
  readonly set: SetAttributes;
  readonly modeDefault: number;
}

/** Everything that can refuse a new name, before anything changes. */
function requireCreatable(core: Core, cred: Credentials, directory: Inode, name: Buffer): void {
  requirePermission(directory, cred, Want.execute);
  if (core.dirents.find(directory.ino, name).ino !== 0) throw new StorageError("EEXIST", "the name exists");
  requirePermission(directory, cred, Want.write);
  core.requireMetadataSpace();
}

/**
 * Owner and group as Linux: the caller's; in a setgid directory the directory's group, and a new directory inherits the bit. Root may
 * name others; what anybody else names is not looked at (clients send their own idea of it), as Linux' server does.
 */
function setOwnerAndMode(inode: Inode, directory: Inode, cred: Credentials, spec: NewInode): void {
  const fromDirectory = (directory.mode & ModeBit.setgid) !== 0;
  const root = isRoot(cred);
  inode.uid = (root ? spec.set.uid : undefined) ?? cred.uid;
  inode.gid = (root ? spec.set.gid : undefined) ?? (fromDirectory ? directory.gid : cred.gid);
  let mode = (spec.set.mode ?? spec.modeDefault) & MODE_MASK;
  if (inode.kind === FileKind.directory) {
    if (fromDirectory) mode |= ModeBit.setgid;
  } else if (!root && !inGroup(cred, inode.gid) && (mode & ModeBit.groupExecute) !== 0) {
    mode &= ~ModeBit.setgid;
  }
  inode.mode = mode;
}

function setTimes(inode: Inode, set: SetAttributes, now: Time): void {
  setAtime(inode, typeof set.atime === "object" ? set.atime : now);
  setMtime(inode, typeof set.mtime === "object" ? set.mtime : now);
  setCtime(inode, now);
}

/** Make the inode and its entry. Called inside `core.apply`. */
function addInode(core: Core, cred: Credentials, directory: Inode, name: Buffer, spec: NewInode): Inode {
  const now = core.now();
  const inode = core.inodes.create(spec.kind);
  setOwnerAndMode(inode, directory, cred, spec);
  setTimes(inode, spec.set, now);
  inode.nlink = spec.kind === FileKind.directory ? 2 : 1;
  const cookie = core.dirents.insert(directory, name, inode);
  if (spec.kind === FileKind.directory) {
    inode.parentIno = directory.ino;
    inode.parentCookie = cookie;
    directory.nlink++;
  }
  core.touchDirectory(directory, now);
  return inode;
}

/** The part that all creating operations share; `finish` fills in what is special to the kind. */
async function createNew(
  core: Core,
  cred: Credentials,
  directory: Inode,
  name: Buffer,
  spec: NewInode,
  finish: (inode: Inode) => void,
  onApplied: OnApplied<Created> | undefined,
): Promise<Created> {
  const before = beforeOf(directory);
  const created = core.apply(() => {
    const inode = addInode(core, cred, directory, name, spec);
    finish(inode);
    return { attributes: attributesOf(inode), directory: changeOf(before, directory) };
  });
  return await core.conclude(created, onApplied);
}

/**
 * A regular file, as open(2) with O_CREAT. unchecked: an existing file is opened, and its size set when one is given. exclusive: the
 * verifier is kept in the row, so that a repeated call finds its own file (RFC 1813 section 3.3.8).
 * Errors: EACCES EEXIST (exists: guarded, exclusive, or no regular file) EFBIG EINVAL EIO ENAMETOOLONG ENOSPC ENOTDIR ESTALE.
 */
export async function create(
  core: Core,
  cred: Credentials,
  directoryId: FileId,
  name: Buffer,
  how: CreateHow,
  onApplied?: OnApplied<Created>,
): Promise<Created> {
  const directory = core.directory(directoryId);
  checkNewName(name);
  const set = how.mode === "exclusive" ? {} : how.attributes;
  checkSetAttributes(set);
  requirePermission(directory, cred, Want.execute);
  const existing = core.dirents.find(directory.ino, name);
  if (existing.ino !== 0)
    return await openExisting(core, cred, directory, core.inodes.child(existing.ino), how, onApplied);
  requireCreatable(core, cred, directory, name);
  const modeDefault = how.mode === "exclusive" ? MODE_DEFAULT.exclusive : MODE_DEFAULT.file;
  if (set.sizeBytes !== undefined && set.sizeBytes > 0) {
    const spec = { kind: FileKind.file, set, modeDefault };
    return await createSized(core, cred, directory, name, spec, set.sizeBytes, onApplied);
  }
  const finish = (inode: Inode) => {
    if (how.mode === "exclusive") inode.exclusiveVerifier = how.verifier.toString("latin1");
  };
  return await createNew(core, cred, directory, name, { kind: FileKind.file, set, modeDefault }, finish, onApplied);
}

/** A new file that begins with a hole. Rare: the size is set as a second step of the same call. */
async function createSized(
  core: Core,
  cred: Credentials,
  directory: Inode,
  name: Buffer,
  spec: NewInode,
  sizeBytes: number,
  onApplied: OnApplied<Created> | undefined,
): Promise<Created> {
  const before = beforeOf(directory);
  const inode = core.apply(() => addInode(core, cred, directory, name, spec));
  const change = changeOf(before, directory);
  const explicitMtime = typeof spec.set.mtime === "object";
  const fields = () => {
    if (!explicitMtime) setMtime(inode, core.now());
    core.inodes.markDirty(inode);
  };
  const applied = ({ after }: Change) => core.keepAnswer({ attributes: after, directory: change }, onApplied);
  const sized = await setSize(core, inode, sizeBytes, fields, applied);
  await core.durable();
  return { attributes: sized.after, directory: change };
}

async function openExisting(
  core: Core,
  cred: Credentials,
  directory: Inode,
  inode: Inode,
  how: CreateHow,
  onApplied: OnApplied<Created> | undefined,
): Promise<Created> {
  const change = unchanged(directory);
  const regular = inode.kind === FileKind.file;
  const repeated = how.mode === "exclusive" && inode.exclusiveVerifier === how.verifier.toString("latin1");
  if (!regular || (how.mode !== "unchecked" && !repeated)) throw new StorageError("EEXIST", "the name exists");
  if (how.mode === "unchecked" && how.attributes.sizeBytes !== undefined) {
    const set = { sizeBytes: how.attributes.sizeBytes };
    const opened = (after: Attributes): Created => ({ attributes: after, directory: change });
    const applied = onApplied && ((change: Change) => onApplied(opened(change.after)));
    return opened((await setattrInode(core, cred, inode, set, applied)).after);
  }
  // The first call may still be on its way to the LU: this answer promises the same.
  return await core.conclude({ attributes: attributesOf(inode), directory: change }, onApplied);
}

/** As mkdir(2). Errors: EACCES EEXIST EINVAL EIO EMLINK ENAMETOOLONG ENOSPC ENOTDIR ESTALE. */
export async function mkdir(
  core: Core,
  cred: Credentials,
  directoryId: FileId,
  name: Buffer,
  set: SetAttributes,
  onApplied?: OnApplied<Created>,
): Promise<Created> {
  const directory = core.directory(directoryId);
  checkNewName(name);
  checkSetAttributes(set);
  requireCreatable(core, cred, directory, name);
  if (directory.nlink >= LIMITS.linksMax) throw new StorageError("EMLINK", "too many directories in one");
  const spec = { kind: FileKind.directory, set, modeDefault: MODE_DEFAULT.directory };
  const finish = (inode: Inode) => {
    inode.sizeBytes = DIRECTORY_SIZE_BYTES;
  };
  return await createNew(core, cred, directory, name, spec, finish, onApplied);
}

/** What a directory says of its size: its entries are rows, so the number means nothing, but some programs take 0 for "empty". */
export const DIRECTORY_SIZE_BYTES = 4096;

/** As symlink(2). Errors: EACCES EEXIST EINVAL EIO ENAMETOOLONG (name or target) ENOENT (empty target) ENOSPC ENOTDIR ESTALE. */
export async function symlink(
  core: Core,
  cred: Credentials,
  directoryId: FileId,
  name: Buffer,
  target: Buffer,
  set: SetAttributes,
  onApplied?: OnApplied<Created>,
): Promise<Created> {
  const directory = core.directory(directoryId);
  checkNewName(name);
  checkLinkTarget(target);
  checkSetAttributes(set);
  requireCreatable(core, cred, directory, name);
  const spec = { kind: FileKind.symlink, set, modeDefault: MODE_DEFAULT.symlink };
  const finish = (inode: Inode) => {
    core.inodes.setTarget(inode, target.toString("latin1"));
    inode.sizeBytes = target.length;
  };
  return await createNew(core, cred, directory, name, spec, finish, onApplied);
}

function isU32(value: number): boolean {
  return Number.isInteger(value) && value >= 0 && value <= 0xffff_ffff;
}

/** As mknod(2): devices (root only: EPERM), sockets, FIFOs; EINVAL for other kinds. Errors else: as mkdir, without EMLINK. */
export async function mknod(
  core: Core,
  cred: Credentials,
  directoryId: FileId,
  name: Buffer,
  kind: FileKind,
  rdev: { major: number; minor: number },
  set: SetAttributes,
  onApplied?: OnApplied<Created>,
): Promise<Created> {
  const directory = core.directory(directoryId);
  checkNewName(name);
  checkSetAttributes(set);
  const device = kind === FileKind.block || kind === FileKind.character;
  if (!device && kind !== FileKind.socket && kind !== FileKind.fifo) {
    throw new StorageError("EINVAL", "mknod makes devices, sockets and FIFOs");
  }
  if (device && !(isU32(rdev.major) && isU32(rdev.minor)))
    throw new StorageError("EINVAL", "a device number above u32");
  requireCreatable(core, cred, directory, name);
  if (device && !isRoot(cred)) throw new StorageError("EPERM", "only root makes devices");
  const spec = { kind, set, modeDefault: MODE_DEFAULT.file };
  const finish = (inode: Inode) => {
    if (!device) return;
    inode.rdevMajor = rdev.major;
    inode.rdevMinor = rdev.minor;
  };
  return await createNew(core, cred, directory, name, spec, finish, onApplied);
}
