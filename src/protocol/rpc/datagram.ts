import { createSocket, type RemoteInfo, type Socket } from "node:dgram";
import type { Clock } from "../../lib/clock.js";
import { messageOf } from "../../lib/errors.js";
import type { Logger } from "../../lib/log.js";
import { KIB, MIB } from "../../lib/units.js";
import { XdrError, XdrReader } from "../xdr/reader.js";
import { AuthParser } from "./auth.js";
import { BufferPool } from "./buffer-pool.js";
import { type CallOrigin, RpcCall, type SetAsideReply } from "./call.js";
import { AcceptStatus, MessageType, RejectStatus, RPC_VERSION } from "./message.js";
import { normalAddress, type Peer } from "./peer.js";
import type { ProgramTable, VersionTable } from "./program-table.js";
import type { ReplyCache } from "./reply-cache.js";
import { replyKey } from "./reply-key.js";
import { type OutputStream, ReplyQueue } from "./reply-queue.js";

/** Calls under way; a client repeats what was dropped. */
const IN_FLIGHT_MAX = 64;
/** What IPv4 carries in one datagram. A reply that does not fit is not sent: the client may ask over TCP. */
const REPLY_BYTES_MAX = 65_507;
const POOL_CLASSES = [4 * KIB, 64 * KIB];
const POOL_FREE_BYTES_MAX = 1 * MIB;
const RECORD_MARK_BYTES = 4;

export interface DatagramOptions {
  /** Those of the TCP side, with its counters; a program is served here only when it says `datagrams`. */
  readonly programs: ProgramTable;
  readonly clock: Clock;
  readonly log: Logger;
  readonly replyCache: ReplyCache;
  readonly onUnexpected: (error: unknown) => void;
}

/** The bytes of one reply, without the record mark that TCP needs. */
class ReplyBytes implements OutputStream {
  readonly #pieces: Buffer[] = [];

  cork(): void {}
  uncork(): void {}

  write(bytes: Uint8Array, written?: (error?: Error | null) => void): boolean {
    this.#pieces.push(Buffer.from(bytes));
    written?.();
    return true;
  }

  get message(): Buffer {
    return Buffer.concat(this.#pieces).subarray(RECORD_MARK_BYTES);
  }
}

/** One call and its one reply: stands where a connection stands on TCP. */
class DatagramOrigin implements CallOrigin {
  readonly replies: ReplyQueue;
  inFlightBytes = 0;

  constructor(
    readonly peer: Peer,
    pool: BufferPool,
    private readonly answered: (call: RpcCall, kept: Buffer | null) => void,
    private readonly forgotten: (key: string) => void,
  ) {
    this.replies = new ReplyQueue(pool, () => {});
  }

  finishReply(call: RpcCall): void {
    const kept = call.cacheKey === null ? null : this.replies.copyReply();
    this.replies.finish();
    this.answered(call, kept);
  }

  finishReplyWith(call: RpcCall, { reply }: SetAsideReply): void {
    this.replies.repeat(reply);
    this.answered(call, reply);
  }

  forgetReply(call: RpcCall): void {
    if (call.cacheKey !== null) this.forgotten(call.cacheKey);
    call.cacheKey = null;
  }

  finishReplyWithData(call: RpcCall, data: Buffer, byteCount: number, release: (buffer: Buffer) => void): void {
    this.replies.finishWithData(data, byteCount, release);
    this.answered(call, null);
  }

  get message(): Buffer {
    const bytes = new ReplyBytes();
    this.replies.flush(bytes);
    return bytes.message;
  }
}

/**
 * RPC over UDP (RFC 5531 section 10: a message is a datagram), for the small programs that lock managers and status monitors reach this way.
 * What does not look like a call is dropped without an answer.
 */
export class DatagramServer {
  readonly #pool = new BufferPool(POOL_CLASSES, POOL_FREE_BYTES_MAX);
  /** By address and port. */
  readonly #sockets = new Map<string, Socket>();
  #inFlight = 0;

  constructor(private readonly options: DatagramOptions) {}

  /** On one more address. @throws the socket's error (EADDRINUSE, EACCES) */
  listen(place: { host: string; port: number }): Promise<{ host: string; port: number }> {
    const socket = createSocket({ type: place.host.includes(":") ? "udp6" : "udp4" });
    return new Promise((resolve, reject) => {
      const refused = (error: Error) => {
        socket.close();
        reject(error);
      };
      socket.once("error", refused);
      socket.bind({ address: place.host, port: place.port }, () => {
        socket.off("error", refused);
        socket.on("error", (error) => this.options.log.error({ error: error.message }, "rpc: datagram socket"));
        const { address, port } = socket.address();
        const local = normalAddress(address);
        socket.on("message", (message, from) => this.#onMessage(socket, message, peerOf(from, local)));
        this.#sockets.set(`${address} ${port}`, socket);
        resolve({ host: address, port });
      });
    });
  }

  /** Calls under way end without a reply. */
  async unlisten({ host, port }: { host: string; port: number }): Promise<void> {
    const key = `${host} ${port}`;
    const socket = this.#sockets.get(key);
    this.#sockets.delete(key);
    if (socket !== undefined) await new Promise<void>((resolve) => socket.close(resolve));
  }

  /** All addresses. */
  async close(): Promise<void> {
    const sockets = [...this.#sockets.values()];
    this.#sockets.clear();
    await Promise.all(sockets.map((socket) => new Promise<void>((resolve) => socket.close(resolve))));
  }

  #onMessage(socket: Socket, message: Buffer, peer: Peer): void {
    if (this.#inFlight >= IN_FLIGHT_MAX) return;
    const reader = new XdrReader(message);
    const send = (reply: Buffer) => {
      if (reply.length > REPLY_BYTES_MAX || ![...this.#sockets.values()].includes(socket)) return;
      socket.send(reply, peer.port, peer.address, (error) => {
        if (error !== null) this.options.log.debug({ error: messageOf(error) }, "rpc: datagram not sent");
      });
    };
    const answered = (call: RpcCall, kept: Buffer | null) => {
      this.#answered(call, kept);
      send(origin.message);
    };
    const forgotten = (key: string) => this.options.replyCache.abandon(key);
    const origin = new DatagramOrigin(peer, this.#pool, answered, forgotten);
    try {
      const call = this.#header(reader, origin, message.length);
      if (call === null) send(origin.message);
      else this.#dispatch(call, origin, reader, send);
    } catch (error) {
      if (!(error instanceof XdrError)) this.#unexpected("header", error);
    }
  }

  /** @returns null when a refusal is written. @throws XdrError for what is no call: it gets no answer */
  #header(reader: XdrReader, origin: DatagramOrigin, byteCount: number): RpcCall | null {
    const { replies } = origin;
    const xid = reader.u32();
    if (reader.u32() !== MessageType.call) throw new XdrError("not a call", 4);
    if (reader.u32() !== RPC_VERSION) {
      replies.denied(xid, RejectStatus.rpcMismatch, 0);
      return null;
    }
    const [program, version, procedure] = [reader.u32(), reader.u32(), reader.u32()];
    const auth = new AuthParser().parse(reader);
    if (typeof auth === "number") {
      replies.denied(xid, RejectStatus.authError, auth);
      return null;
    }
    const table = this.#find(origin, xid, program, version, procedure);
    if (table === null) return null;
    return new RpcCall(origin, xid, table, procedure, auth, byteCount, null, this.options.clock.monotonicMs());
  }

  #find(origin: DatagramOrigin, xid: number, program: number, version: number, procedure: number): VersionTable | null {
    const { replies } = origin;
    const refuse = (status: number, ...words: number[]) => {
      replies.beginAccepted(xid, status, 4 * words.length);
      for (const word of words) replies.u32(word);
      replies.finish();
      return null;
    };
    const entry = this.options.programs.find(program);
    if (entry?.program.datagrams !== true) return refuse(AcceptStatus.programUnavailable);
    const { versionLow, versionHigh } = entry.program;
    const table = entry.versions[version - versionLow];
    if (table === undefined) return refuse(AcceptStatus.programMismatch, versionLow, versionHigh);
    return table.procedures[procedure] === undefined ? refuse(AcceptStatus.procedureUnavailable) : table;
  }

  #dispatch(call: RpcCall, origin: DatagramOrigin, reader: XdrReader, send: (reply: Buffer) => void): void {
    const { replyCache } = this.options;
    if (call.table.procedures[call.procedure]?.nonIdempotent === true) {
      const key = replyKey(origin.peer.address, call, reader);
      const known = replyCache.begin(key, send);
      if (known !== "new") {
        if (known !== "waiting") send(known);
        return;
      }
      call.cacheKey = key;
    }
    this.#inFlight++;
    void this.#invoke(call, origin, reader, send);
  }

  async #invoke(call: RpcCall, origin: DatagramOrigin, reader: XdrReader, send: (reply: Buffer) => void) {
    try {
      await call.table.program.invoke(call, reader);
    } catch (error) {
      const garbage = error instanceof XdrError;
      if (!garbage) this.#unexpected(call.name, error);
      if (!call.answered) {
        origin.replies.beginAccepted(call.xid, garbage ? AcceptStatus.garbageArguments : AcceptStatus.systemError, 0);
        origin.replies.finish();
        call.failed = true;
        send(origin.message);
      }
    } finally {
      this.#inFlight--;
      if (call.cacheKey !== null) this.options.replyCache.abandon(call.cacheKey);
    }
  }

  #answered(call: RpcCall, kept: Buffer | null): void {
    call.answered = true;
    const counter = call.table.counters[call.procedure];
    counter?.record(this.options.clock.monotonicMs() - call.startedMs);
    if (call.failed && counter !== undefined) counter.errors++;
    const key = call.cacheKey;
    call.cacheKey = null;
    if (key === null || kept === null) return;
    call.keptReply = { key, reply: kept };
    this.options.replyCache.complete(key, kept);
  }

  #unexpected(what: string, error: unknown): void {
    this.options.log.error({ call: what, error: messageOf(error) }, "rpc: call failed unexpectedly");
    this.options.onUnexpected(error);
  }
}

function peerOf({ address, port }: RemoteInfo, localAddress: string): Peer {
  const normal = normalAddress(address);
  return { address: normal, family: normal.includes(":") ? "ipv6" : "ipv4", port, localAddress };
}
