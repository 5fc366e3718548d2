import { LIMITS, type ReadResult } from "../../../fs/vfs.js";
import { must } from "../../../lib/assert.js";
import { COPIED_READ_BYTES_MAX, TRANSFER_BYTES_MAX } from "../../limits.js";
import { putOpaque, putU32 } from "../../xdr/writer.js";
import type { Nfs3Call, Operation, Target } from "../call.js";
import { POST_OP_ATTR_BYTES, putPostOp } from "../codec.js";
import { failAttributes } from "../failure.js";
import type { Scratch } from "../scratch.js";
import { NFS3_OK } from "../status.js";

/**
 * NFSv3 READ, RFC 1813 section 3.3.6. count is cut to 1 MiB. An offset behind the end, however far, is a success of 0 bytes with eof.
 * Up to 16 KiB the data is copied into the output buffer; above it leaves by reference from memory of the file system (`ReadMemory`), for which the
 * client's share must have room: a client that does not take its replies waits, nobody else.
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
      : new LentRead(call, target, offset, count).start();
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
  call.rpc.argumentsDone = true;
  call.rpc.replyBytes = COPIED_READ_BYTES_MAX;
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

/** Data of one READ: room in the client's share, and a buffer of the file system. */
class LentRead {
  #buffer: Buffer | null = null;

  constructor(
    readonly call: Nfs3Call,
    readonly target: Target,
    readonly offset: number,
    readonly count: number,
  ) {}

  get #roomBytes(): number {
    return this.target.fileSystem.readMemory.sizeOf(this.count);
  }

  start(): void | Promise<void> {
    const waited = this.call.rpc.takeReplyRoom(this.#roomBytes);
    if (waited !== null) return this.#startLater(waited);
    const result = this.#read();
    if (result instanceof Promise) return this.#replyLater(result);
    this.#reply(result);
  }

  async #startLater(waited: Promise<void>): Promise<void> {
    this.call.rpc.argumentsDone = true;
    this.call.rpc.charge(this.count);
    await waited;
    if (this.call.rpc.connection.closed === true) {
      this.call.rpc.giveReplyRoom(this.#roomBytes);
      return;
    }
    await this.#settle(this.#read());
  }

  #replyLater(pending: Promise<ReadResult>): Promise<void> {
    this.call.rpc.argumentsDone = true;
    this.call.rpc.charge(this.count);
    return this.#settle(pending);
  }

  async #settle(pending: ReadResult | Promise<ReadResult>): Promise<void> {
    let result: ReadResult;
    try {
      result = await pending;
    } catch (error) {
      this.#giveBack();
      throw error;
    }
    this.#reply(result);
  }

  /** Everything goes back when the file system refuses. */
  #read(): ReadResult | Promise<ReadResult> {
    const { target, count } = this;
    const { fileSystem } = target;
    const buffer = fileSystem.readMemory.borrow(count);
    this.#buffer = buffer;
    const data = buffer.length === count ? buffer : buffer.subarray(0, count);
    try {
      return fileSystem.read(target.credentials, target, this.offset, data);
    } catch (error) {
      this.#giveBack();
      throw error;
    }
  }

  #reply(result: ReadResult): void {
    const { call, target } = this;
    const w = call.begin(NFS3_OK, POST_OP_ATTR_BYTES + 12);
    const at = putReadHead(w.buffer, w.at, target, result);
    putU32(w.buffer, at, result.count);
    w.at = at + 4;
    call.rpc.finishWithData(must(this.#buffer, "data was read"), result.count, this.#giveBack);
  }

  readonly #giveBack = (): void => {
    this.target.fileSystem.readMemory.giveBack(must(this.#buffer, "a buffer is given back once"));
    this.#buffer = null;
    this.call.rpc.giveReplyRoom(this.#roomBytes);
  };
}

/** READ3resok up to the data's length: post_op_attr, count, eof. */
function putReadHead(b: Buffer, at: number, target: Target, result: ReadResult): number {
  const next = putPostOp(b, at, target.fileSystem.id, result.attributes);
  putU32(b, next, result.count);
  putU32(b, next + 4, result.endOfFile ? 1 : 0);
  return next + 8;
}
