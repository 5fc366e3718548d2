import fs from "node:fs";
import { assert } from "../lib/assert.js";
import { GIB } from "../lib/units.js";
import { totalBytes } from "./range.js";

/** UIO_MAXIOV of Linux: readv(2) and writev(2) refuse more. */
export const IOV_MAX = 1024;
/** The kernel moves less than 2 GiB a call (0x7ffff000), and fs.read takes an int32. */
const CALL_BYTES_MAX = GIB;

/** A transfer that ended at nothing: an I/O error by another name. */
export class EndOfFile extends Error {
  readonly code = "end of file";
}

/** One system call. @returns bytes moved, perhaps fewer than asked for; 0 at the end of the file */
export type TransferSome = (fd: number, buffers: readonly Buffer[], position: number) => Promise<number>;

export function readSome(fd: number, buffers: readonly Buffer[], position: number): Promise<number> {
  return new Promise((resolve, reject) => {
    const done = (error: Error | null, byteCount: number): void => (error ? reject(error) : resolve(byteCount));
    const [first] = buffers;
    if (buffers.length === 1 && first !== undefined) {
      fs.read(fd, first, 0, Math.min(first.length, CALL_BYTES_MAX), position, done);
    } else fs.readv(fd, buffers, position, done);
  });
}

export function writeSome(fd: number, buffers: readonly Buffer[], position: number): Promise<number> {
  return new Promise((resolve, reject) => {
    const done = (error: Error | null, byteCount: number): void => (error ? reject(error) : resolve(byteCount));
    const [first] = buffers;
    if (buffers.length === 1 && first !== undefined) {
      fs.write(fd, first, 0, Math.min(first.length, CALL_BYTES_MAX), position, done);
    } else fs.writev(fd, buffers, position, done);
  });
}

/**
 * Move all of the buffers, however many calls it takes.
 * @param buffers  contiguous on the device from `position` (bytes)
 * @throws EndOfFile when the file ends early; otherwise what the system call threw
 */
export async function transferAll(
  some: TransferSome,
  fd: number,
  buffers: readonly Buffer[],
  position: number,
): Promise<void> {
  let left = totalBytes(buffers);
  let rest = skip(buffers, 0);
  let at = position;
  while (left > 0) {
    const moved = await some(fd, rest.length > IOV_MAX ? rest.slice(0, IOV_MAX) : rest, at);
    if (moved === 0) throw new EndOfFile("the file has become shorter than it was");
    assert(moved <= left, "a call moves no more than asked for");
    at += moved;
    left -= moved;
    if (left > 0) rest = skip(rest, moved);
  }
}

/** What is left of a vector after its first `byteCount` bytes; never begins with an empty buffer. */
export function skip(buffers: readonly Buffer[], byteCount: number): readonly Buffer[] {
  let index = 0;
  let bytes = byteCount;
  for (; index < buffers.length; index++) {
    const length = (buffers[index] as Buffer).length;
    if (bytes < length) break;
    bytes -= length;
  }
  if (index === 0 && bytes === 0) return buffers;
  const rest = buffers.slice(index);
  const first = rest[0];
  if (bytes > 0 && first !== undefined) rest[0] = first.subarray(bytes);
  return rest;
}
