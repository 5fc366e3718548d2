import type { Time } from "../../lib/clock.js";
import { StorageError } from "../../lib/errors.js";
import { beforeOf, changeOf, setCtime, unchanged } from "../attributes.js";
import type { Core } from "../core.js";
import type { Inode } from "../inode.js";
import type { Dentry } from "../name-cache.js";
import { checkOldName } from "../names.js";
import { requirePermission, requireRemovable, Want } from "../permission.js";
import { type Credentials, type FileId, FileKind, LIMITS, type OnApplied, type Renamed } from "../vfs.js";
import { dropLink } from "./link.js";

/** All that a rename looks at; checked as a whole before anything changes. */
interface Move {
  readonly from: Inode;
  readonly fromName: Buffer;
  readonly fromCookie: number;
  readonly source: Inode;
  readonly to: Inode;
  readonly toName: Buffer;
  /** What the new name leads to now; null when it is free. */
  readonly target: Inode | null;
  readonly targetCookie: number;
}

/** No path is longer than 4096 bytes (PATH_MAX), so nothing deeper has a name; whoever nests directories without end must not make others wait for a walk to the root. */
const DEPTH_MAX = 2048;

/** Whether `ino` is `directory` itself or above it. As many steps as the tree is deep. @throws StorageError ENAMETOOLONG */
function isAncestor(core: Core, ino: number, directory: Inode): boolean {
  let at = directory;
  for (let depth = 0; at.ino !== ino; depth++) {
    if (at.parentIno === at.ino) return false;
    if (depth >= DEPTH_MAX) throw new StorageError("ENAMETOOLONG", "directories are nested too deep to be moved");
    at = core.inodes.child(at.parentIno);
  }
  return true;
}

function findSource(core: Core, from: Inode, name: Buffer): Dentry {
  const dentry = core.dirents.find(from.ino, name);
  if (dentry.ino === 0) throw new StorageError("ENOENT", "no such name");
  return dentry;
}

/** The tree stays a tree. @throws StorageError EINVAL (into itself), ENOTEMPTY (over one of its own parents), ENAMETOOLONG */
function requireNoLoop(core: Core, move: Move): void {
  if (move.from.ino === move.to.ino) return;
  if (move.source.kind === FileKind.directory && isAncestor(core, move.source.ino, move.to)) {
    throw new StorageError("EINVAL", "a directory cannot go into itself");
  }
  if (move.target?.kind === FileKind.directory && isAncestor(core, move.target.ino, move.from)) {
    throw new StorageError("ENOTEMPTY", "the target holds the source");
  }
}

/** @throws StorageError EACCES EPERM EISDIR ENOTDIR ENOTEMPTY */
function requireReplaceable(core: Core, cred: Credentials, move: Move, target: Inode): void {
  requireRemovable(move.to, target, cred);
  const sourceIsDirectory = move.source.kind === FileKind.directory;
  const targetIsDirectory = target.kind === FileKind.directory;
  if (sourceIsDirectory && !targetIsDirectory) throw new StorageError("ENOTDIR", "a directory over a file");
  if (!sourceIsDirectory && targetIsDirectory) throw new StorageError("EISDIR", "a file over a directory");
  if (targetIsDirectory && !core.dirents.isEmpty(target.ino)) {
    throw new StorageError("ENOTEMPTY", "the target directory is not empty");
  }
}

/** Permission and kinds, in the order in which rename(2) looks at them. */
function requireMovable(core: Core, cred: Credentials, move: Move): void {
  requireRemovable(move.from, move.source, cred);
  if (move.target === null) requirePermission(move.to, cred, Want.write | Want.execute);
  else requireReplaceable(core, cred, move, move.target);
  const changesParent = move.source.kind === FileKind.directory && move.from.ino !== move.to.ino;
  if (!changesParent) return;
  // Its ".." is rewritten.
  requirePermission(move.source, cred, Want.write);
  if (move.target === null && move.to.nlink >= LIMITS.linksMax) {
    throw new StorageError("EMLINK", "too many directories in one");
  }
}

function applyMove(core: Core, move: Move, now: Time): void {
  const { from, to, source, target } = move;
  core.dirents.remove(from, move.fromName, move.fromCookie, source);
  let cookie = move.targetCookie;
  if (target === null) cookie = core.dirents.insert(to, move.toName, source);
  else {
    core.dirents.replace(to, move.toName, cookie, target, source);
    dropLink(core, to, target);
  }
  if (source.kind === FileKind.directory) {
    from.nlink--;
    to.nlink++;
    source.parentIno = to.ino;
    source.parentCookie = cookie;
  }
  setCtime(source, now);
  core.inodes.markDirty(source);
  core.touchDirectory(from, now);
  core.touchDirectory(to, now);
}

function prepareMove(core: Core, from: Inode, fromName: Buffer, to: Inode, toName: Buffer): Move {
  const source = findSource(core, from, fromName);
  const target = core.dirents.find(to.ino, toName);
  return {
    from,
    fromName,
    fromCookie: source.cookie,
    source: core.inodes.child(source.ino),
    to,
    toName,
    target: target.ino === 0 ? null : core.inodes.child(target.ino),
    targetCookie: target.cookie,
  };
}

/**
 * As rename(2): a file over a file, a directory over an empty directory; two names of one inode: success, nothing happens.
 * A replaced entry keeps its cookie, so that a listing under way does not miss the name.
 * Errors: EACCES EINVAL (dots; into itself) EIO EISDIR EMLINK ENAMETOOLONG ENOENT ENOSPC ENOTDIR ENOTEMPTY EPERM (sticky) ESTALE.
 */
export async function rename(
  core: Core,
  cred: Credentials,
  fromId: FileId,
  fromName: Buffer,
  toId: FileId,
  toName: Buffer,
  onApplied?: OnApplied<Renamed>,
): Promise<Renamed> {
  const from = core.directory(fromId);
  const to = core.directory(toId);
  checkOldName(fromName);
  checkOldName(toName);
  requirePermission(from, cred, Want.execute);
  requirePermission(to, cred, Want.execute);
  const move = prepareMove(core, from, fromName, to, toName);
  requireNoLoop(core, move);
  if (move.target === move.source) {
    return await core.conclude({ from: unchanged(from), to: unchanged(to) }, onApplied);
  }
  requireMovable(core, cred, move);
  core.requireMetadataSpace();
  const beforeFrom = beforeOf(from);
  const beforeTo = beforeOf(to);
  const change = core.apply(() => {
    applyMove(core, move, core.now());
    return { from: changeOf(beforeFrom, from), to: changeOf(beforeTo, to) };
  });
  return await core.conclude(change, onApplied);
}
