import { assert } from "../../lib/assert.js";
import { Slab } from "../../lib/slab.js";
import { putU32, XdrWriter } from "../xdr/writer.js";
import { type BufferPool, OUTPUT_CHUNK_BYTES } from "./buffer-pool.js";
import {
  ACCEPTED_HEADER_BYTES,
  LAST_FRAGMENT,
  MessageType,
  RejectStatus,
  ReplyStatus,
  RPC_VERSION,
} from "./message.js";

/** Takes back a buffer that left by reference. */
export type ReleaseBuffer = (buffer: Buffer) => void;

/** Where the memory of replies is counted. */
export interface MemoryAccount {
  take(byteCount: number): void;
  give(byteCount: number): void;
}

const UNCOUNTED: MemoryAccount = { take: () => {}, give: () => {} };

/** What is needed of a socket. */
export interface OutputStream {
  cork(): void;
  uncork(): void;
  write(bytes: Uint8Array, written?: (error?: Error | null) => void): boolean;
}

/** What left in one write: its buffers go back to their pools when the kernel has taken the bytes. */
class Batch {
  readonly segments: Buffer[] = [];
  readonly chunks: Buffer[] = [];
  readonly lent: Buffer[] = [];
  readonly releases: ReleaseBuffer[] = [];
  bytes = 0;
}

/** Replies for the duplicate-request cache, of all connections: they leave it about in the order in which they came. */
const KEPT = new Slab();

const NOTHING = Buffer.alloc(0);
const NO_REPLY = -1;

/**
 * The output of one connection. Replies are encoded one behind the other into a pooled chunk; READ data stands between them by reference.
 * `flush` sends everything at once. A reply is encoded synchronously between `begin…` and `finish…`; one that was begun and not finished
 * (its encoder threw) disappears when the next one begins.
 */
export class ReplyQueue extends XdrWriter {
  #segmentStart = 0;
  #replyStart = NO_REPLY;
  #open = new Batch();
  readonly #sent: Batch[] = [];
  #sentBytes = 0;
  /** Bytes that the kernel has taken since the connection began: shows progress of a slow reader. */
  writtenBytes = 0;

  /** @param account  of the buffers that replies are encoded in; what is lent is counted by who lends it */
  constructor(
    private readonly pool: BufferPool,
    private readonly onWritten: () => void,
    private readonly account: MemoryAccount = UNCOUNTED,
  ) {
    super();
  }

  /** Bytes that wait: encoded, or given to the socket and not yet taken by the kernel. */
  get queuedBytes(): number {
    return this.#sentBytes + this.#open.bytes + (this.at - this.#segmentStart);
  }

  /** Something is encoded that `flush` has not sent. */
  get unsent(): boolean {
    return this.#open.bytes > 0 || this.at > this.#segmentStart;
  }

  /** Begin an accepted reply (RFC 5531 section 9) with room for `bodyBytes` more; the body is written next. */
  beginAccepted(xid: number, acceptStatus: number, bodyBytes: number): void {
    this.abort();
    this.reserve(ACCEPTED_HEADER_BYTES + bodyBytes);
    const { buffer, at } = this;
    this.#replyStart = at;
    putU32(buffer, at + 4, xid);
    putU32(buffer, at + 8, MessageType.reply);
    putU32(buffer, at + 12, ReplyStatus.accepted);
    putU32(buffer, at + 16, 0); // Verifier: AUTH_NONE …
    putU32(buffer, at + 20, 0); // … of no bytes.
    putU32(buffer, at + 24, acceptStatus);
    this.at = at + ACCEPTED_HEADER_BYTES;
  }

  /** A whole denied reply: RPC_MISMATCH with our versions, or AUTH_ERROR with its reason. */
  denied(xid: number, reject: number, authStatus: number): void {
    this.abort();
    this.reserve(32);
    this.#replyStart = this.at;
    this.at += 4;
    this.u32(xid);
    this.u32(MessageType.reply);
    this.u32(ReplyStatus.denied);
    this.u32(reject);
    if (reject === RejectStatus.rpcMismatch) this.u32(RPC_VERSION);
    this.u32(reject === RejectStatus.rpcMismatch ? RPC_VERSION : authStatus);
    this.finish();
  }

  /** Take back a reply that was begun. */
  abort(): void {
    if (this.#replyStart === NO_REPLY) return;
    this.at = this.#replyStart;
    this.#replyStart = NO_REPLY;
  }

  finish(): void {
    assert(this.#replyStart !== NO_REPLY, "a reply was begun");
    putU32(this.buffer, this.#replyStart, LAST_FRAGMENT + (this.at - this.#replyStart - 4));
    this.#replyStart = NO_REPLY;
  }

  /** A copy of the reply that is being encoded, from its xid on: for the duplicate-request cache. Call before `finish`. */
  copyReply(): Buffer {
    assert(this.#replyStart !== NO_REPLY, "a reply was begun");
    return KEPT.copy(this.buffer.subarray(this.#replyStart + 4, this.at));
  }

  /** A whole reply from the cache. */
  repeat(reply: Buffer): void {
    this.abort();
    this.reserve(4 + reply.length);
    this.#replyStart = this.at;
    this.at += 4;
    this.fixed(reply);
    this.finish();
  }

  /**
   * End the reply with the first `byteCount` bytes of `data` and their padding, by reference.
   * @param release  called with `data` once it is not read any more
   */
  finishWithData(data: Buffer, byteCount: number, release: ReleaseBuffer): void {
    assert(this.#replyStart !== NO_REPLY, "a reply was begun");
    const padBytes = (4 - (byteCount % 4)) % 4;
    putU32(this.buffer, this.#replyStart, LAST_FRAGMENT + (this.at - this.#replyStart - 4 + byteCount + padBytes));
    this.#replyStart = NO_REPLY;
    this.#cut(this.at);
    const open = this.#open;
    open.segments.push(data.subarray(0, byteCount));
    open.lent.push(data);
    open.releases.push(release);
    open.bytes += byteCount;
    if (padBytes === 0) return;
    this.reserve(4);
    for (let i = 0; i < padBytes; i++) this.buffer[this.at++] = 0;
  }

  /**
   * Send what is encoded, in one write. While the kernel has not taken all of the last one, what follows is gathered: a peer that takes nothing would have
   * a buffer for each little reply otherwise. `onWritten` is the time to call again.
   */
  flush(stream: OutputStream): void {
    this.abort();
    if (this.#sent.length > 0) return;
    this.#cut(this.at);
    this.#retireChunk();
    const batch = this.#open;
    if (batch.bytes === 0) return;
    this.#open = new Batch();
    this.#sent.push(batch);
    this.#sentBytes += batch.bytes;
    const { segments } = batch;
    const lastIndex = segments.length - 1;
    if (lastIndex > 0) stream.cork();
    for (let i = 0; i < lastIndex; i++) stream.write(segments[i] ?? NOTHING);
    stream.write(segments[lastIndex] ?? NOTHING, this.#batchWritten);
    if (lastIndex > 0) stream.uncork();
  }

  /** The socket is closed and reads nothing any more: everything goes back. */
  close(): void {
    this.abort();
    this.#cut(this.at);
    this.#retireChunk();
    this.#sent.push(this.#open);
    this.#open = new Batch();
    for (const batch of this.#sent.splice(0)) this.#giveBack(batch);
    this.#sentBytes = 0;
  }

  /** Writes end in order, so the oldest batch is the one. After an error `close` follows, and it gives everything back. */
  readonly #batchWritten = (error?: Error | null): void => {
    if (error) return;
    const batch = this.#sent.shift();
    if (batch === undefined) return;
    this.#sentBytes -= batch.bytes;
    this.writtenBytes += batch.bytes;
    this.#giveBack(batch);
    this.onWritten();
  };

  #giveBack(batch: Batch): void {
    for (const chunk of batch.chunks) {
      this.account.give(chunk.length);
      this.pool.release(chunk);
    }
    for (let i = 0; i < batch.lent.length; i++) batch.releases[i]?.(batch.lent[i] ?? NOTHING);
  }

  /** Make the bytes up to `end` a segment of their own. */
  #cut(end: number): void {
    if (end === this.#segmentStart) return;
    this.#open.segments.push(this.buffer.subarray(this.#segmentStart, end));
    this.#open.bytes += end - this.#segmentStart;
    this.#segmentStart = end;
  }

  #retireChunk(): void {
    if (this.buffer.length > 0) this.#open.chunks.push(this.buffer);
    this.buffer = NOTHING;
    this.at = 0;
    this.end = 0;
    this.#segmentStart = 0;
  }

  /** A new chunk; a reply that is being encoded moves into it, what is before it stays. */
  protected override grow(byteCount: number): void {
    const partialStart = this.#replyStart === NO_REPLY ? this.at : this.#replyStart;
    const partialBytes = this.at - partialStart;
    const next = this.pool.acquire(
      Math.max(OUTPUT_CHUNK_BYTES, (partialBytes + byteCount) * (partialBytes > 0 ? 2 : 1)),
    );
    this.account.take(next.length);
    this.buffer.copy(next, 0, partialStart, this.at);
    this.#cut(partialStart);
    this.#retireChunk();
    this.buffer = next;
    this.at = partialBytes;
    this.end = next.length;
    if (this.#replyStart !== NO_REPLY) this.#replyStart = 0;
  }
}
