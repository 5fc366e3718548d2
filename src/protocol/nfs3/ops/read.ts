import { LIMITS, type ReadResult } from "../../../fs/vfs.js";
import { COPIED_READ_BYTES_MAX, TRANSFER_BYTES_MAX } from "../../limits.js";
import { putOpaque, putU32 } from "../../xdr/writer.js";
import type { Nfs3Call, Operation, Target } from "../call.js";
import { POST_OP_ATTR_BYTES, putPostOp } from "../codec.js";
import { failAttributes } from "../failure.js";
import type { Scratch } from "../scratch.js";
import { NFS3_OK } from "../status.js";

/**
 * NFSv3 READ, RFC 1813 section 3.3.6. count is cut to 1 MiB. An offset behind the end, however far, is a success of 0 bytes with eof.
 * Up to 16 KiB the data is copied into the output buffer; above it leaves by reference from a buffer of `ReadBuffers`.
 * Errors: ACCES BADHANDLE INVAL (not a regular file) IO ISDIR NXIO STALE, with attributes.
 */
export const read: Operation = {
  name: "READ",
  run(call, args) {
    const target = call.target(args);
    const offset = Math.min(args.u64(), LIMITS.fileBytesMax);
    const count = Math.min(args.u32(), TRANSFER_BYTES_MAX);
    return count <= COPIED_READ_BYTES_MAX
      ? readCopied(call, target, offset, count)
      : readLent(call, target, offset, count);
  },
  fail: failAttributes,
};

function readCopied(call: Nfs3Call, target: Target, offset: number, count: number): void | Promise<void> {
  const { scratch: pool } = call.services;
  const scratch = pool.acquire();
  const data = scratch.view(count);
  let result: ReadResult | Promise<ReadResult>;
  try {
    result = target.fileSystem.read(target.credentials, target, offset, data);
  } catch (error) {
    pool.release(scratch);
    throw error;
  }
  if (result instanceof Promise) return readCopiedLater(call, target, scratch, data, result);
  replyCopied(call, target, result, data);
  pool.release(scratch);
}

async function readCopiedLater(
  call: Nfs3Call,
  target: Target,
  scratch: Scratch,
  data: Buffer,
  pending: Promise<ReadResult>,
): Promise<void> {
  try {
    replyCopied(call, target, await pending, data);
  } finally {
    call.services.scratch.release(scratch);
  }
}

function replyCopied(call: Nfs3Call, target: Target, result: ReadResult, data: Buffer): void {
  const w = call.begin(NFS3_OK, POST_OP_ATTR_BYTES + 16 + result.count);
  const at = putReadHead(w.buffer, w.at, target, result);
  w.at = putOpaque(w.buffer, at, result.count === data.length ? data : data.subarray(0, result.count));
  call.end();
}

function readLent(call: Nfs3Call, target: Target, offset: number, count: number): void | Promise<void> {
  const buffer = call.services.readBuffers.acquireReadBuffer(count);
  if (buffer instanceof Promise) return readLentLater(call, target, offset, count, buffer);
  const result = readInto(call, target, offset, count, buffer);
  if (result instanceof Promise) return replyLentLater(call, target, count, buffer, result);
  replyLent(call, target, result, buffer);
}

async function readLentLater(
  call: Nfs3Call,
  target: Target,
  offset: number,
  count: number,
  waited: Promise<Buffer>,
): Promise<void> {
  call.rpc.charge(count);
  const buffer = await waited;
  const result = readInto(call, target, offset, count, buffer);
  await replyLentLater(call, target, 0, buffer, Promise.resolve(result));
}

/** The buffer goes back when the file system refuses. */
function readInto(call: Nfs3Call, target: Target, offset: number, count: number, buffer: Buffer) {
  const data = buffer.length === count ? buffer : buffer.subarray(0, count);
  try {
    return target.fileSystem.read(target.credentials, target, offset, data);
  } catch (error) {
    call.services.readBuffers.releaseReadBuffer(buffer);
    throw error;
  }
}

async function replyLentLater(
  call: Nfs3Call,
  target: Target,
  charge: number,
  buffer: Buffer,
  pending: Promise<ReadResult>,
): Promise<void> {
  call.rpc.charge(charge);
  let result: ReadResult;
  try {
    result = await pending;
  } catch (error) {
    call.services.readBuffers.releaseReadBuffer(buffer);
    throw error;
  }
  replyLent(call, target, result, buffer);
}

function replyLent(call: Nfs3Call, target: Target, result: ReadResult, buffer: Buffer): void {
  const { readBuffers } = call.services;
  const w = call.begin(NFS3_OK, POST_OP_ATTR_BYTES + 12);
  const at = putReadHead(w.buffer, w.at, target, result);
  putU32(w.buffer, at, result.count);
  w.at = at + 4;
  call.rpc.finishWithData(buffer, result.count, (lent) => readBuffers.releaseReadBuffer(lent));
}

/** READ3resok up to the data's length: post_op_attr, count, eof. */
function putReadHead(b: Buffer, at: number, target: Target, result: ReadResult): number {
  const next = putPostOp(b, at, target.fileSystem.id, result.attributes);
  putU32(b, next, result.count);
  putU32(b, next + 4, result.endOfFile ? 1 : 0);
  return next + 8;
}
