import { type Attributes, type Change, LIMITS, type SetAttributes } from "../../fs/vfs.js";
import type { Time } from "../../lib/clock.js";
import { StorageError } from "../../lib/errors.js";
import type { XdrReader } from "../xdr/reader.js";
import { putU32, putU64, type XdrWriter } from "../xdr/writer.js";

/** Structures of RFC 1813 section 2.6. The `put…` functions need their bytes reserved and return the offset behind what they stored. */
export const FATTR_BYTES = 84;
export const POST_OP_ATTR_BYTES = 4 + FATTR_BYTES;
const WCC_ATTR_BYTES = 24;
export const WCC_DATA_BYTES = 4 + WCC_ATTR_BYTES + POST_OP_ATTR_BYTES;

/** fattr3. A kind has the value of ftype3. */
export function putAttributes(b: Buffer, at: number, fileSystemId: number, a: Attributes): number {
  putU32(b, at, a.kind);
  putU32(b, at + 4, a.mode);
  putU32(b, at + 8, a.nlink);
  putU32(b, at + 12, a.uid);
  putU32(b, at + 16, a.gid);
  putU64(b, at + 20, a.sizeBytes);
  putU64(b, at + 28, a.usedBytes);
  putU32(b, at + 36, a.rdevMajor);
  putU32(b, at + 40, a.rdevMinor);
  putU64(b, at + 44, fileSystemId);
  putU64(b, at + 52, a.ino);
  putTime(b, at + 60, a.atime);
  putTime(b, at + 68, a.mtime);
  putTime(b, at + 76, a.ctime);
  return at + FATTR_BYTES;
}

/** nfstime3: unsigned 32-bit seconds. */
function putTime(b: Buffer, at: number, time: Time): void {
  putU32(b, at, time.seconds);
  putU32(b, at + 4, time.nanoseconds);
}

/** post_op_attr; null: not known. */
export function putPostOp(b: Buffer, at: number, fileSystemId: number, a: Attributes | null): number {
  if (a === null) {
    putU32(b, at, 0);
    return at + 4;
  }
  putU32(b, at, 1);
  return putAttributes(b, at + 4, fileSystemId, a);
}

/** wcc_data; null: nothing is known. */
export function putChange(b: Buffer, at: number, fileSystemId: number, change: Change | null): number {
  if (change === null) {
    putU32(b, at, 0);
    putU32(b, at + 4, 0);
    return at + 8;
  }
  putU32(b, at, 1);
  putU64(b, at + 4, change.before.sizeBytes);
  putTime(b, at + 12, change.before.mtime);
  putTime(b, at + 20, change.before.ctime);
  return putPostOp(b, at + 28, fileSystemId, change.after);
}

export function writePostOp(w: XdrWriter, fileSystemId: number, a: Attributes | null): void {
  w.reserve(POST_OP_ATTR_BYTES);
  w.at = putPostOp(w.buffer, w.at, fileSystemId, a);
}

export function writeChange(w: XdrWriter, fileSystemId: number, change: Change | null): void {
  w.reserve(WCC_DATA_BYTES);
  w.at = putChange(w.buffer, w.at, fileSystemId, change);
}

/** An inode that did not change: what wcc_data says after a failure, for "when it throws, nothing has changed". */
export function unchanged(attributes: Attributes): Change {
  return { before: attributes, after: attributes };
}

/**
 * nfstime3.
 * @throws StorageError EINVAL for a nanosecond of 10^9 or more
 */
export function readTime(reader: XdrReader): Time {
  const seconds = reader.u32();
  const nanoseconds = reader.u32();
  if (nanoseconds >= 1e9) throw new StorageError("EINVAL", "nanoseconds out of range");
  return { seconds, nanoseconds };
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/**
 * sattr3. Mode bits above 0o7777 are the file type on some clients and are dropped.
 * @throws StorageError EFBIG for a size past the largest file, EINVAL for a time that is none
 */
export function readSetAttributes(reader: XdrReader): SetAttributes {
  const set: Mutable<SetAttributes> = {};
  if (reader.bool()) set.mode = reader.u32() & 0o7777;
  if (reader.bool()) set.uid = reader.u32();
  if (reader.bool()) set.gid = reader.u32();
  if (reader.bool()) set.sizeBytes = reader.u64();
  const atime = readTimeHow(reader);
  if (atime !== null) set.atime = atime;
  const mtime = readTimeHow(reader);
  if (mtime !== null) set.mtime = mtime;
  if (set.sizeBytes !== undefined && set.sizeBytes > LIMITS.fileBytesMax) {
    throw new StorageError("EFBIG", "size past the largest file");
  }
  return set;
}

/** set_atime, set_mtime: DONT_CHANGE, SET_TO_SERVER_TIME, SET_TO_CLIENT_TIME. */
function readTimeHow(reader: XdrReader): Time | "now" | null {
  const how = reader.choice(2);
  if (how === 0) return null;
  return how === 1 ? "now" : readTime(reader);
}

/**
 * filename3, as the file system takes it: 1 to 255 bytes without "/" and NUL.
 * @returns a view into the record
 * @throws StorageError ENAMETOOLONG, EINVAL
 */
export function readName(reader: XdrReader): Buffer {
  const name = reader.opaque(reader.remaining);
  if (name.length > LIMITS.nameBytesMax) throw new StorageError("ENAMETOOLONG", "name too long");
  if (name.length === 0) throw new StorageError("EINVAL", "empty name");
  for (let i = 0; i < name.length; i++) {
    if (name[i] === 0x2f || name[i] === 0) throw new StorageError("EINVAL", "name with a slash or NUL");
  }
  return name;
}

/** A name that the file system keeps: a copy, so that it does not hold the whole record, nor see its buffer used again. */
export function readKeptName(reader: XdrReader): Buffer {
  return Buffer.from(readName(reader));
}
