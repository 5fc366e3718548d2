import { StorageError } from "../../lib/errors.js";
import { attributesOf, beforeOf, changeOf, setCtime } from "../attributes.js";
import type { Core } from "../core.js";
import type { Inode } from "../inode.js";
import { checkNewName, checkOldName, checkRmdirName } from "../names.js";
import { requirePermission, requireRemovable, Want } from "../permission.js";
import { type Change, type Credentials, type FileId, FileKind, LIMITS, type Linked, type OnApplied } from "../vfs.js";

/** As link(2); symlinks are linked themselves. Errors: EACCES EEXIST EIO EMLINK ENAMETOOLONG ENOSPC ENOTDIR EPERM (a directory) ESTALE. */
export async function link(
  core: Core,
  cred: Credentials,
  id: FileId,
  directoryId: FileId,
  name: Buffer,
  onApplied?: OnApplied<Linked>,
): Promise<Linked> {
  const inode = core.inode(id);
  const directory = core.directory(directoryId);
  checkNewName(name);
  requirePermission(directory, cred, Want.execute);
  if (core.dirents.find(directory.ino, name).ino !== 0) throw new StorageError("EEXIST", "the name exists");
  requirePermission(directory, cred, Want.write);
  if (inode.kind === FileKind.directory) throw new StorageError("EPERM", "a directory has one name");
  if (inode.nlink >= LIMITS.linksMax) throw new StorageError("EMLINK", "too many links");
  core.requireMetadataSpace();
  const result = core.apply(() => addLink(core, inode, directory, name));
  return await core.conclude(result, onApplied);
}

function addLink(core: Core, inode: Inode, directory: Inode, name: Buffer): Linked {
  const before = beforeOf(directory);
  const now = core.now();
  core.dirents.insert(directory, name, inode);
  inode.nlink++;
  setCtime(inode, now);
  core.inodes.markDirty(inode);
  core.touchDirectory(directory, now);
  return { file: attributesOf(inode), directory: changeOf(before, directory) };
}

/** An entry that is about to go, and the inode it leads to. */
interface Victim {
  readonly cookie: number;
  readonly inode: Inode;
}

/** @throws StorageError EACCES ENOENT EPERM EIO */
function findVictim(core: Core, cred: Credentials, directory: Inode, name: Buffer): Victim {
  requirePermission(directory, cred, Want.execute);
  const { ino, cookie } = core.dirents.find(directory.ino, name);
  if (ino === 0) throw new StorageError("ENOENT", "no such name");
  const inode = core.inodes.child(ino);
  requireRemovable(directory, inode, cred);
  return { cookie, inode };
}

/** As unlink(2); the last link frees the file. Errors: EACCES EINVAL EIO EISDIR ENAMETOOLONG ENOENT ENOTDIR EPERM (sticky) ESTALE. */
export async function remove(
  core: Core,
  cred: Credentials,
  directoryId: FileId,
  name: Buffer,
  onApplied?: OnApplied<Change>,
): Promise<Change> {
  const directory = core.directory(directoryId);
  checkOldName(name);
  const victim = findVictim(core, cred, directory, name);
  if (victim.inode.kind === FileKind.directory) throw new StorageError("EISDIR", "a directory is removed with rmdir");
  const change = core.apply(() => removeEntry(core, directory, name, victim));
  return await core.conclude(change, onApplied);
}

/** As rmdir(2). Errors: as remove, with ENOTEMPTY and ENOTDIR for EISDIR. */
export async function rmdir(
  core: Core,
  cred: Credentials,
  directoryId: FileId,
  name: Buffer,
  onApplied?: OnApplied<Change>,
): Promise<Change> {
  const directory = core.directory(directoryId);
  checkRmdirName(name);
  const victim = findVictim(core, cred, directory, name);
  if (victim.inode.kind !== FileKind.directory) throw new StorageError("ENOTDIR", "not a directory");
  if (!core.dirents.isEmpty(victim.inode.ino)) throw new StorageError("ENOTEMPTY", "the directory is not empty");
  const change = core.apply(() => removeEntry(core, directory, name, victim));
  return await core.conclude(change, onApplied);
}

function removeEntry(core: Core, directory: Inode, name: Buffer, victim: Victim): Change {
  const before = beforeOf(directory);
  core.dirents.remove(directory, name, victim.cookie, victim.inode);
  dropLink(core, directory, victim.inode);
  core.touchDirectory(directory, core.now());
  return changeOf(before, directory);
}

/** One entry of `directory` that led to the inode is gone. Also what rename does to the file it replaces. */
export function dropLink(core: Core, directory: Inode, inode: Inode): void {
  if (inode.kind === FileKind.directory) {
    directory.nlink--;
    core.drop(inode);
    return;
  }
  inode.nlink--;
  if (inode.nlink === 0) {
    core.drop(inode);
    return;
  }
  setCtime(inode, core.now());
  core.inodes.markDirty(inode);
}
