import type { BlockChecksums } from "../../lib/block-checksums.js";
import { StorageError } from "../../lib/errors.js";
import { atimeIsDue, attributesOf, setAtime, touchModified, unchanged } from "../attributes.js";
import type { Core } from "../core.js";
import type { Inode } from "../inode.js";
import { isRoot, requireDataPermission, Want, withoutSetIds } from "../permission.js";
import {
  type Change,
  type Credentials,
  type FileId,
  LIMITS,
  type OnApplied,
  type ReadResult,
  type Stability,
  type WriteResult,
} from "../vfs.js";
import { ContentsChange } from "./setattr.js";

function requireOffset(offset: number): void {
  if (!Number.isSafeInteger(offset) || offset < 0) throw new StorageError("EINVAL", "not an offset");
}

/** Reading moves the access time at most once a day (attributes.ts); the row follows with whatever commit comes next. */
export function touchAccessed(core: Core, inode: Inode): void {
  if (core.readOnly || core.failed !== null) return;
  const now = atimeIsDue(inode, core.clock);
  if (now === null || !core.hasLittleSpace()) return;
  setAtime(inode, now);
  core.markDirtyLazily(inode);
}

/**
 * As pread(2), into `target`. A short count means the end of the file; holes read as zero.
 * Errors: EACCES EINVAL EIO (no copy matches the checksum) EISDIR ESTALE.
 */
export function read(
  core: Core,
  cred: Credentials,
  id: FileId,
  offset: number,
  target: Buffer,
): ReadResult | Promise<ReadResult> {
  const inode = core.regularFile(id);
  requireOffset(offset);
  requireDataPermission(inode, cred, Want.read);
  if (offset >= inode.sizeBytes || target.length === 0) return readDone(core, inode, offset, 0);
  const count = core.contents.read(inode, offset, target);
  if (typeof count === "number") return readDone(core, inode, offset, count);
  return core.holding(
    inode,
    count.then((n) => readDone(core, inode, offset, n)),
  );
}

function readDone(core: Core, inode: Inode, offset: number, count: number): ReadResult {
  touchAccessed(core, inode);
  return { count, endOfFile: offset + count >= inode.sizeBytes, attributes: attributesOf(inode) };
}

function requireWritable(cred: Credentials, inode: Inode, offset: number, count: number): void {
  requireOffset(offset);
  if (offset + count > LIMITS.fileBytesMax) throw new StorageError("EFBIG", "past the largest file");
  requireDataPermission(inode, cred, Want.write);
}

/** Set in the piece in which the bytes become visible. A write by another than root ends setuid and setgid. */
function applyWrite(core: Core, cred: Credentials, inode: Inode): void {
  if (!isRoot(cred)) inode.mode = withoutSetIds(inode.mode);
  touchModified(inode, core.now());
  core.markDirtyLazily(inode);
}

/**
 * As pwrite(2). unstable: no promise when nothing had to be awaited; a write of no bytes changes nothing.
 * Errors: EACCES EBUSY EFBIG EINVAL EIO EISDIR ENOSPC ESTALE.
 */
export function write(
  core: Core,
  cred: Credentials,
  id: FileId,
  offset: number,
  source: Buffer,
  stability: Stability,
  onApplied?: OnApplied<WriteResult>,
  checksums: BlockChecksums | null = null,
): WriteResult | Promise<WriteResult> {
  const inode = core.regularFile(id);
  requireWritable(cred, inode, offset, source.length);
  if (source.length === 0) {
    const nothing = { count: 0, stability, change: unchanged(inode) };
    core.keepAnswer(nothing, onApplied);
    return nothing;
  }
  core.requireScratchRoom();
  core.requireLittleSpace();
  const observer = new ContentsChange(
    inode,
    () => applyWrite(core, cred, inode),
    (change) => {
      const kept = onApplied?.({ count: source.length, stability, change }) ?? null;
      if (kept !== null) core.contents.keepReply(inode, kept);
    },
    cred.client,
  );
  const pending = core.contents.write(inode, offset, source, observer, checksums);
  if (pending === undefined && stability === "unstable") return written(observer, source.length, stability);
  return finishWrite(core, observer, source.length, stability, pending);
}

function written(observer: ContentsChange, count: number, stability: Stability): WriteResult {
  return { count, stability, change: observer.change ?? unchanged(observer.inode) };
}

async function finishWrite(
  core: Core,
  observer: ContentsChange,
  count: number,
  stability: Stability,
  pending: Promise<void> | void,
): Promise<WriteResult> {
  if (pending !== undefined) await core.holding(observer.inode, pending);
  const result = written(observer, count, stability);
  if (stability === "stable") await core.stabilize(observer.inode);
  return result;
}

/**
 * As fsync(2) of one file: every write that was answered before is durable when it resolves. Nothing is read or changed, so nobody is
 * refused: a file may have been made read-only since it was opened. Errors: EINVAL EIO EISDIR ESTALE.
 */
export async function commit(core: Core, id: FileId, offset: number, count: number): Promise<Change> {
  const inode = core.regularFile(id);
  requireOffset(offset);
  requireOffset(count);
  const change = unchanged(inode);
  await core.stabilize(inode);
  return change;
}
