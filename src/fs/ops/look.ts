import { StorageError } from "../../lib/errors.js";
import { attributesOf } from "../attributes.js";
import type { Core } from "../core.js";
import type { Inode } from "../inode.js";
import { checkName, dotName } from "../names.js";
import { permitted, requirePermission, Want } from "../permission.js";
import { Access, type Attributes, type Credentials, type FileId, FileKind } from "../vfs.js";

/** Errors: EIO ESTALE. */
export function getattr(core: Core, id: FileId): Attributes {
  return attributesOf(core.inode(id));
}

function found(core: Core, directory: Inode, name: Buffer): Inode {
  const dot = dotName(name);
  if (dot === "self") return directory;
  if (dot === "parent") return core.inodes.child(directory.parentIno);
  const { ino } = core.dirents.find(directory.ino, name);
  if (ino === 0) throw new StorageError("ENOENT", "no such name");
  return core.inodes.child(ino);
}

/** One step of a path; ".." of the root is the root. Errors: EACCES EINVAL EIO ENAMETOOLONG ENOENT ENOTDIR ESTALE. */
export function lookup(core: Core, cred: Credentials, directoryId: FileId, name: Buffer): Attributes {
  const directory = core.directory(directoryId);
  checkName(name);
  requirePermission(directory, cred, Want.execute);
  return attributesOf(found(core, directory, name));
}

/** As readlink(2): whoever has the handle may read it. Errors: EINVAL (no symlink) EIO ESTALE. */
export function readlink(core: Core, id: FileId): { target: Buffer; attributes: Attributes } {
  const inode = core.inode(id);
  if (inode.kind !== FileKind.symlink || inode.linkTarget === null) throw new StorageError("EINVAL", "not a symlink");
  return { target: Buffer.from(inode.linkTarget, "latin1"), attributes: attributesOf(inode) };
}

/** What each bit of Access needs. To change a directory's entries one must be able to reach them too. */
const DIRECTORY_NEEDS: ReadonlyArray<readonly [bit: number, want: number]> = [
  [Access.read, Want.read],
  [Access.lookup, Want.execute],
  [Access.modify, Want.write | Want.execute],
  [Access.extend, Want.write | Want.execute],
  [Access.delete, Want.write | Want.execute],
];
const OTHER_NEEDS: ReadonlyArray<readonly [bit: number, want: number]> = [
  [Access.read, Want.read],
  [Access.modify, Want.write],
  [Access.extend, Want.write],
  [Access.execute, Want.execute],
];

/** Never granted: lookup and delete of a file, execute of a directory; they mean nothing there. Errors: EIO ESTALE. */
export function access(
  core: Core,
  cred: Credentials,
  id: FileId,
  wanted: number,
): { granted: number; attributes: Attributes } {
  const inode = core.inode(id);
  let granted = 0;
  for (const [bit, want] of inode.kind === FileKind.directory ? DIRECTORY_NEEDS : OTHER_NEEDS) {
    if ((wanted & bit) !== 0 && permitted(inode, cred, want)) granted |= bit;
  }
  return { granted, attributes: attributesOf(inode) };
}
