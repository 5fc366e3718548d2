import type { Socket } from "node:net";
import type { Clock } from "../../lib/clock.js";
import { messageOf } from "../../lib/errors.js";
import type { Logger } from "../../lib/log.js";
import { CALL_BYTES, type ProtocolLimits } from "../limits.js";
import type { ByteShare } from "../streams/byte-ledger.js";
import type { Client, Stream } from "../streams/client-table.js";
import { XdrError, type XdrReader } from "../xdr/reader.js";
import { type Auth, AuthParser } from "./auth.js";
import type { BufferPool } from "./buffer-pool.js";
import { RpcCall, type SetAsideReply } from "./call.js";
import { AcceptStatus, MessageType, RejectStatus, RPC_VERSION } from "./message.js";
import type { Peer } from "./peer.js";
import type { ProgramTable, VersionTable } from "./program-table.js";
import { type Chunk, receive, UNPOOLED, untakenBytes } from "./receiver.js";
import { RecordError, RecordReader, type RecordSink } from "./record.js";
import type { ReplyCache } from "./reply-cache.js";
import { replyKey } from "./reply-key.js";
import { type ReleaseBuffer, ReplyQueue } from "./reply-queue.js";
import { SLICE_MS, type Turn, type Turns } from "./turns.js";

/** What all connections of a server share. */
export interface ConnectionServices {
  readonly limits: ProtocolLimits;
  readonly clock: Clock;
  readonly log: Logger;
  readonly pool: BufferPool;
  /** Used only between two awaits: every handler takes what it needs from it before its first await. */
  readonly reader: XdrReader;
  readonly programs: ProgramTable;
  readonly replyCache: ReplyCache;
  readonly turns: Turns;
  /** Call `connection.flush()` when the running callbacks and microtasks are done. */
  scheduleFlush(connection: Connection): void;
  onUnexpected(error: unknown): void;
  onClosed(connection: Connection): void;
}

export interface ConnectionState {
  readonly address: string;
  readonly port: number;
  readonly requests: number;
  readonly inFlight: number;
  readonly queuedBytes: number;
  readonly openMs: number;
}

/**
 * One TCP connection: records in, replies out, in whatever order they finish. Requests that are answered synchronously cost no Promise; their
 * replies leave in one write per chunk that came in.
 *
 * It stops reading (`stalled`) while too much is in flight or too much output waits, its own or that of all connections of its address, and goes on where
 * it stopped: the rest of the last chunk is kept, the socket is paused, so TCP holds the client back.
 */
export class Connection implements RecordSink, Stream, Turn {
  readonly replies: ReplyQueue;
  inFlightCount = 0;
  inFlightBytes = 0;
  requestCount = 0;
  readonly #records: RecordReader;
  readonly #auth = new AuthParser();
  readonly #socket: Socket;
  /** What is being fed, and what `#rest` lies in. */
  #chunk: Chunk = UNPOOLED;
  #restChunk: Chunk = UNPOOLED;
  #rest: Buffer | null = null;
  #restAt = 0;
  #feeding = false;
  #halfClosed = false;
  #closing = false;
  #closed = false;
  #flushScheduled = false;
  readonly #openedMs: number;
  /** When the client last sent something, and when the kernel last took output or had none to take. */
  #heardMs: number;
  #sentMs: number;
  #takenAtSweep = 0;
  #writtenAtSweep = 0;
  #startedMs = 0;
  /** When it was seen first that a record was incomplete, or output not taken; in how manieth record. */
  #partialMs = 0;
  #partialRecord = -1;
  #unreadMs: number;
  /** The share that it waits for. */
  #waitsFor: ByteShare | null = null;
  /** When it answered last; and whether it lets others have their turn. */
  #answeredMs = 0;
  #yields = false;

  constructor(
    private readonly services: ConnectionServices,
    accepted: Socket,
    readonly peer: Peer,
    /** All connections of this peer's address, and what they hold. */
    readonly client: Client,
    /** All connections that came in at the same address of ours. */
    readonly siblings: Set<Connection>,
  ) {
    const { limits, pool } = services;
    this.replies = new ReplyQueue(pool, () => this.#written(), client.replies);
    this.#records = new RecordReader(this, pool, limits.fragmentsMax);
    this.#openedMs = services.clock.monotonicMs();
    this.#heardMs = this.#openedMs;
    this.#sentMs = this.#openedMs;
    this.#unreadMs = this.#openedMs;
    const socket = receive(accepted, pool, client.requests, (bytes, chunk) => this.#onData(bytes, chunk));
    this.#socket = socket;
    socket.on("end", () => this.#onEnd());
    socket.on("error", (error) => services.log.debug({ peer: peer.address, error: messageOf(error) }, "connection"));
    socket.on("close", () => this.#onClose());
  }

  get stalled(): boolean {
    const { limits } = this.services;
    return (
      this.inFlightCount >= limits.inFlightMax ||
      this.inFlightBytes >= limits.inFlightBytesMax ||
      this.replies.queuedBytes >= limits.outputBytesMax ||
      this.client.requests.full ||
      this.client.replies.full ||
      this.#yields ||
      this.#answeredMs - this.#startedMs > SLICE_MS ||
      this.#closing
    );
  }

  /** It is its turn again. */
  goOn(): void {
    this.#yields = false;
    this.#progress();
  }

  get busy(): boolean {
    return this.inFlightCount > 0 || this.replies.queuedBytes > 0;
  }

  get heardMs(): number {
    return this.#heardMs;
  }

  get closed(): boolean {
    return this.#closed;
  }

  get recordBytesMax(): number {
    const { recordBytesMax, strangerRecordBytesMax } = this.services.limits;
    return this.client.admitted ? recordBytesMax : strangerRecordBytesMax;
  }

  /** Bytes of a record that is not complete. */
  get receivedBytes(): number {
    return this.#records.roomBytes;
  }

  takeRoom(byteCount: number): boolean {
    const { requests } = this.client;
    if (requests.tryTake(byteCount)) return true;
    requests.whenRoom(byteCount, () => {
      if (this.#closed) requests.give(byteCount);
      else {
        this.#records.roomGranted();
        this.#progress();
      }
    });
    return false;
  }

  giveRoom(byteCount: number): void {
    this.client.requests.give(byteCount);
  }

  get state(): ConnectionState {
    return {
      address: this.peer.address,
      port: this.peer.port,
      requests: this.requestCount,
      inFlight: this.inFlightCount,
      queuedBytes: this.replies.queuedBytes,
      openMs: this.services.clock.monotonicMs() - this.#openedMs,
    };
  }

  /** Read nothing more, finish what is in flight, send it, close. */
  drain(): void {
    this.#closing = true;
    this.#socket.pause();
    this.#endWhenQuiet();
  }

  destroy(): void {
    this.#socket.destroy();
  }

  flush(): void {
    this.#flushScheduled = false;
    if (this.#closed) this.replies.close();
    else this.replies.flush(this.#socket);
  }

  /** Called now and then: close what is idle, stuck or half-open, and what others wait for. */
  sweep(nowMs: number): void {
    const { limits } = this.services;
    const { client } = this;
    if (this.#unread(nowMs)) this.#closeFor("unread");
    else if (this.#incomplete(nowMs)) this.#closeFor("incomplete");
    else if (!this.busy) {
      const quietMs = nowMs - this.#heardMs;
      if (quietMs > (client.admitted ? limits.idleMsMax : limits.strangerIdleMsMax)) this.#closeFor("idle");
    }
  }

  /** Whether it has taken none of its replies for too long; or not all of them, while others want the memory. */
  #unread(nowMs: number): boolean {
    const { stuckMsMax, pressedMsMax, strangerStuckMsMax } = this.services.limits;
    const { queuedBytes, writtenBytes } = this.replies;
    const taken = writtenBytes - untakenBytes(this.#socket);
    if (queuedBytes === 0 || taken !== this.#takenAtSweep) this.#sentMs = nowMs;
    this.#takenAtSweep = taken;
    // A write has ended, or there is none.
    if (queuedBytes === 0 || writtenBytes !== this.#writtenAtSweep) this.#unreadMs = nowMs;
    this.#writtenAtSweep = writtenBytes;
    const { admitted, replies } = this.client;
    const waitedMs = nowMs - this.#unreadMs;
    if (!admitted) return waitedMs > strangerStuckMsMax;
    return nowMs - this.#sentMs > stuckMsMax || (replies.ledger.pressed && waitedMs > pressedMsMax);
  }

  #incomplete(nowMs: number): boolean {
    const { stuckMsMax, pressedMsMax, strangerStuckMsMax } = this.services.limits;
    // What is not read is not the peer's fault.
    if (!this.#records.partial || this.#socket.isPaused() || this.busy) {
      this.#partialRecord = -1;
      return false;
    }
    if (this.#partialRecord !== this.requestCount) {
      this.#partialRecord = this.requestCount;
      this.#partialMs = nowMs;
    }
    const { admitted, requests } = this.client;
    const waitedMs = nowMs - this.#partialMs;
    if (!admitted) return waitedMs >= strangerStuckMsMax;
    return nowMs - this.#heardMs > stuckMsMax || (requests.ledger.pressed && waitedMs > pressedMsMax);
  }

  /** A record of one request: see RecordSink. */
  onRecord(buffer: Buffer, start: number, end: number, lease: Buffer | null): void {
    const { reader } = this.services;
    reader.reset(buffer, start, end);
    if (end - start < 8) throw new RecordError("record too short for a call");
    const xid = reader.u32();
    if (reader.u32() !== MessageType.call) throw new RecordError("not a call");
    this.requestCount++;
    let call: RpcCall | null = null;
    try {
      call = this.#header(reader, xid, end - start, lease);
    } catch (error) {
      if (!(error instanceof XdrError)) throw error;
      this.#refuse(xid, AcceptStatus.garbageArguments);
    }
    if (call !== null) this.#dispatch(call, reader);
    else if (lease !== null) this.services.pool.release(lease);
  }

  /** The reply that `call` began is complete. */
  finishReply(call: RpcCall): void {
    const kept = call.cacheKey === null ? null : this.replies.copyReply();
    this.replies.finish();
    this.#answered(call);
    // Behind `finish`: one who waits for the same reply may stand on this very connection.
    call.tellCache(this.services.replyCache, kept);
  }

  /** A reply that was encoded when the change was applied, and may leave now. */
  finishReplyWith(call: RpcCall, { key, reply }: SetAsideReply): void {
    this.replies.repeat(reply);
    this.#answered(call);
    call.cacheKey = null;
    this.services.replyCache.complete(key, reply);
  }

  finishReplyWithData(call: RpcCall, data: Buffer, byteCount: number, release: ReleaseBuffer): void {
    this.replies.finishWithData(data, byteCount, release);
    this.#answered(call);
  }

  /** Decode the call header, RFC 5531 section 9. @returns null when it was refused and answered */
  #header(reader: XdrReader, xid: number, requestBytes: number, lease: Buffer | null): RpcCall | null {
    if (reader.u32() !== RPC_VERSION) return this.#deny(xid, RejectStatus.rpcMismatch, 0);
    const program = reader.u32();
    const version = reader.u32();
    const procedure = reader.u32();
    const auth = this.#auth.parse(reader);
    if (typeof auth === "number") return this.#deny(xid, RejectStatus.authError, auth);
    const entry = this.services.programs.find(program);
    if (entry === undefined) return this.#refuse(xid, AcceptStatus.programUnavailable);
    const table = entry.versions[version - entry.program.versionLow];
    if (table === undefined) return this.#mismatch(xid, entry.program.versionLow, entry.program.versionHigh);
    if (table.procedures[procedure] === undefined) return this.#refuse(xid, AcceptStatus.procedureUnavailable);
    return this.#newCall(table, xid, procedure, auth, requestBytes, lease);
  }

  #newCall(table: VersionTable, xid: number, procedure: number, auth: Auth, bytes: number, lease: Buffer | null) {
    return new RpcCall(this, xid, table, procedure, auth, bytes, lease, this.#startedMs);
  }

  #dispatch(call: RpcCall, reader: XdrReader): void {
    if (call.table.procedures[call.procedure]?.nonIdempotent === true && !this.#firstTime(call, reader)) {
      this.#settled(call);
      return;
    }
    try {
      const pending = call.table.program.invoke(call, reader);
      if (pending !== undefined) {
        this.#goAsynchronous(call, pending);
        return;
      }
    } catch (error) {
      this.#failed(call, error);
    }
    this.#ended(call);
  }

  #goAsynchronous(call: RpcCall, pending: Promise<void>): void {
    call.asynchronous = true;
    const { lease } = call;
    if (lease === null && !call.argumentsDone) {
      call.chunk = this.#chunk;
      call.chunk.hold();
    }
    this.inFlightCount++;
    this.inFlightBytes += call.chargedBytes;
    call.countedBytes = CALL_BYTES + (lease === null ? 0 : lease.length);
    this.client.requests.take(call.countedBytes);
    this.client.replies.take(call.replyBytes);
    pending.then(
      () => this.#ended(call),
      (error) => {
        this.#failed(call, error);
        this.#ended(call);
      },
    );
  }

  /** A client that got no answer sends its call again over another connection, and over none that stands (RFC 5531 section 4): it waits a minute for it. */
  #ended(call: RpcCall): void {
    if (!call.answered) this.destroy();
    this.#settled(call);
  }

  /** The handler is done with the call's memory. */
  #settled(call: RpcCall): void {
    if (call.lease !== null) this.services.pool.release(call.lease);
    call.chunk?.release();
    if (call.cacheKey !== null) this.services.replyCache.abandon(call.cacheKey, null);
    if (!call.asynchronous) return;
    this.inFlightCount--;
    this.inFlightBytes -= call.chargedBytes;
    this.client.requests.give(call.countedBytes);
    this.client.replies.give(call.replyBytes);
    this.#progress();
  }

  #failed(call: RpcCall, error: unknown): void {
    const garbage = error instanceof XdrError;
    if (!garbage) {
      this.services.log.error({ procedure: call.name, error: messageOf(error) }, "rpc: call failed unexpectedly");
      this.services.onUnexpected(error);
    }
    if (call.answered) return;
    call.failed = true;
    call.isTransient = true;
    this.replies.beginAccepted(call.xid, garbage ? AcceptStatus.garbageArguments : AcceptStatus.systemError, 0);
    this.finishReply(call);
  }

  /** @returns false when the call is a repetition: it has been, or will be, answered from the cache */
  #firstTime(call: RpcCall, reader: XdrReader): boolean {
    const key = replyKey(this.peer.address, call, reader);
    const known = this.services.replyCache.begin(key, (reply) => this.#repeat(reply));
    if (known === "new") call.cacheKey = key;
    else if (known !== "waiting") this.#repeat(known);
    return known === "new";
  }

  #repeat(reply: Buffer): void {
    this.replies.repeat(reply);
    if (!this.#feeding) this.#scheduleFlush();
  }

  #answered(call: RpcCall): void {
    call.answered = true;
    const counter = call.table.counters[call.procedure];
    if (counter !== undefined) {
      const nowMs = this.services.clock.monotonicMs();
      counter.record(nowMs - call.startedMs);
      // A reply that is ready later is no part of the piece that is being fed.
      if (this.#feeding) this.#answeredMs = nowMs;
      if (call.failed) counter.errors++;
    }
    if (!this.#feeding) this.#scheduleFlush();
  }

  #refuse(xid: number, acceptStatus: number): null {
    this.replies.beginAccepted(xid, acceptStatus, 0);
    this.replies.finish();
    return null;
  }

  #mismatch(xid: number, low: number, high: number): null {
    this.replies.beginAccepted(xid, AcceptStatus.programMismatch, 8);
    this.replies.u32(low);
    this.replies.u32(high);
    this.replies.finish();
    return null;
  }

  #deny(xid: number, reject: number, authStatus: number): null {
    this.replies.denied(xid, reject, authStatus);
    return null;
  }

  #onData(bytes: Buffer, chunk: Chunk): void {
    this.#heardMs = this.services.clock.monotonicMs();
    // A paused socket may still hand over what it had read: it waits behind the rest.
    const rest = this.#rest;
    if (rest === null) {
      if (this.services.turns.over) this.#yieldTurn();
      this.#feed(bytes, 0, chunk);
    } else this.#keepRest(Buffer.concat([rest.subarray(this.#restAt), bytes]), 0, UNPOOLED);
  }

  #keepRest(rest: Buffer | null, at: number, chunk: Chunk): void {
    chunk.hold();
    this.#restChunk.release();
    this.#rest = rest;
    this.#restAt = at;
    this.#restChunk = chunk;
  }

  #feed(bytes: Buffer, at: number, chunk: Chunk): void {
    this.#rest = null;
    this.#chunk = chunk;
    this.#feeding = true;
    this.#startedMs = this.services.clock.monotonicMs();
    this.#answeredMs = this.#startedMs;
    let next = bytes.length;
    try {
      next = this.#records.feed(bytes, at);
    } catch (error) {
      this.#framingLost(error);
    } finally {
      this.#feeding = false;
    }
    this.#spentTurn();
    if (this.replies.unsent) this.flush();
    const left = next < bytes.length && !this.#closing;
    if (left) this.#keepRest(bytes, next, chunk);
    else this.#keepRest(null, 0, UNPOOLED);
    if (next === bytes.length && this.#mayRead) return;
    this.#socket.pause();
    this.#awaitShare();
  }

  get #mayRead(): boolean {
    const records = this.#records;
    if (this.#closing || this.#yields || records.waitsForRoom) return false;
    return records.midRecord || !this.stalled;
  }

  #spentTurn(): void {
    const { turns, clock } = this.services;
    this.#answeredMs = this.#startedMs;
    if (this.#yields) return;
    const spentMs = clock.monotonicMs() - this.#startedMs;
    turns.spent(spentMs);
    if (spentMs > SLICE_MS) this.#yieldTurn();
  }

  #yieldTurn(): void {
    this.#yields = true;
    this.services.turns.later(this);
  }

  /** What all connections of the address hold is too much: told when it is not. */
  #awaitShare(): void {
    const { requests, replies } = this.client;
    if (this.#waitsFor !== null || this.#closing) return;
    if (!requests.full && !replies.full) return;
    const share = requests.full ? requests : replies;
    this.#waitsFor = share;
    share.whenRoom(0, () => {
      this.#waitsFor = null;
      this.#progress();
    });
    this.client.holdBack();
  }

  holdBack(): void {
    if (this.#closed || this.#feeding || this.#socket.isPaused() || this.#mayRead) return;
    this.#socket.pause();
    this.#awaitShare();
  }

  #written(): void {
    if (this.replies.unsent) this.flush();
    this.#progress();
  }

  /** Something finished or left: go on reading where it stopped. */
  #progress(): void {
    if (this.#closing || this.#halfClosed) this.#endWhenQuiet();
    if (this.#feeding || this.#closed || !this.#socket.isPaused()) return;
    if (!this.#mayRead) {
      this.#awaitShare();
      return;
    }
    if (this.#rest !== null) this.#feed(this.#rest, this.#restAt, this.#restChunk);
    if (this.#rest === null && this.#mayRead) this.#socket.resume();
  }

  #framingLost(error: unknown): void {
    this.#closing = true;
    const expected = error instanceof RecordError;
    if (expected && !this.client.admitted) this.client.refuse("record");
    const fields = { peer: this.peer.address, error: messageOf(error) };
    if (expected) this.services.log.debug(fields, "rpc: framing lost, closing");
    else {
      this.services.log.error(fields, "rpc: unexpected, closing");
      this.services.onUnexpected(error);
    }
    if (this.replies.unsent) this.flush();
    this.#socket.destroySoon();
  }

  #scheduleFlush(): void {
    if (this.#flushScheduled) return;
    this.#flushScheduled = true;
    this.services.scheduleFlush(this);
  }

  /** The client sends no more but may still read (TCP half-close). */
  #onEnd(): void {
    this.#halfClosed = true;
    this.#endWhenQuiet();
  }

  #endWhenQuiet(): void {
    if (this.#closed || this.inFlightCount > 0 || this.replies.queuedBytes > 0) return;
    this.#socket.end();
    // Whoever drains does not wait for the client to close its side.
    if (this.#closing) this.#socket.destroySoon();
  }

  #closeFor(reason: "unread" | "incomplete" | "idle"): void {
    this.services.log.debug({ peer: this.peer.address, port: this.peer.port, reason }, "connection closed");
    // That nothing came for hours is nobody's fault.
    if (reason !== "idle") this.client.refuse(reason);
    this.#socket.destroy();
  }

  #onClose(): void {
    this.#closed = true;
    this.#closing = true;
    this.#keepRest(null, 0, UNPOOLED);
    this.#records.close();
    this.replies.close();
    this.services.onClosed(this);
  }
}
