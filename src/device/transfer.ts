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

/** @param byteCount  moved, perhaps fewer than asked for; 0 at the end of the file */
type Moved = (error: Error | null, byteCount: number) => void;

/** One system call. */
export type TransferSome = (fd: number, buffers: readonly Buffer[], position: number, moved: Moved) => void;

export function readSome(fd: number, buffers: readonly Buffer[], position: number, moved: Moved): void {
  const [first] = buffers;
  if (buffers.length === 1 && first !== undefined) {
    fs.read(fd, first, 0, Math.min(first.length, CALL_BYTES_MAX), position, moved);
  } else fs.readv(fd, buffers, position, moved);
}

export function writeSome(fd: number, buffers: readonly Buffer[], position: number, moved: Moved): void {
  const [first] = buffers;
  if (buffers.length === 1 && first !== undefined) {
    fs.write(fd, first, 0, Math.min(first.length, CALL_BYTES_MAX), position, moved);
  } else fs.writev(fd, buffers, position, moved);
}

/**
 * Move all of the buffers, however many calls it takes: nearly always one.
 * @param buffers  contiguous on the device from `position` (bytes)
 * @throws EndOfFile when the file ends early; otherwise what the system call threw
 */
export function transferAll(
  some: TransferSome,
  fd: number,
  buffers: readonly Buffer[],
  position: number,
): Promise<void> {
  return new Promise((resolve, reject) => {
    let left = totalBytes(buffers);
    let rest = skip(buffers, 0);
    let at = position;
    const moved = (error: Error | null, byteCount: number): void => {
      if (error !== null) reject(error);
      else if (byteCount === left) resolve();
      else if (byteCount === 0) reject(new EndOfFile("the file has become shorter than it was"));
      else goOn(byteCount);
    };
    const goOn = (byteCount: number): void => {
      try {
        assert(byteCount < left, "a call moves no more than asked for");
        at += byteCount;
        left -= byteCount;
        rest = skip(rest, byteCount);
        call();
      } catch (error) {
        reject(error as Error);
      }
    };
    const call = (): void => some(fd, rest.length > IOV_MAX ? rest.slice(0, IOV_MAX) : rest, at, moved);
    if (left === 0) resolve();
    else call();
  });
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
