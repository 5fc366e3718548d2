import type { Clock } from "../../lib/clock.js";
import { messageOf } from "../../lib/errors.js";
import type { Logger } from "../../lib/log.js";
import { KIB, MIB } from "../../lib/units.js";
import { XdrError, XdrReader } from "../xdr/reader.js";
import { AuthParser } from "./auth.js";
import { BufferPool } from "./buffer-pool.js";
import { type CallOrigin, RpcCall, type SetAsideReply } from "./call.js";
import {
  type DatagramPlace,
  DatagramSockets,
  type DatagramSocketsParts,
  type DatagramSource,
} from "./datagram-sockets.js";
import { AcceptStatus, MessageType, RejectStatus, RPC_VERSION } from "./message.js";
import { normalAddress, type Peer } from "./peer.js";
import type { ProgramTable, VersionTable } from "./program-table.js";
import type { ReplyCache } from "./reply-cache.js";
import { replyKey } from "./reply-key.js";
import { type OutputStream, ReplyQueue } from "./reply-queue.js";

/** Calls under way, of all and of one address; a client repeats what was dropped. */
const IN_FLIGHT_MAX = 64;
const IN_FLIGHT_OF_ADDRESS_MAX = 24;
/** A call's header with AUTH_NONE (RFC 5531 section 9): ten words. */
const CALL_BYTES_MIN = 40;
/** What IPv4 carries in one datagram. A reply that does not fit is not sent: the client may ask over TCP. */
const REPLY_BYTES_MAX = 65_507;
const POOL_CLASSES = [4 * KIB, 64 * KIB];
const POOL_BYTES_MAX = 1 * MIB;
const RECORD_MARK_BYTES = 4;

export interface DatagramOptions {
  /** Those of the TCP side, with its counters; a program is served here only when it says `datagrams`. */
  readonly programs: ProgramTable;
  readonly clock: Clock;
  readonly log: Logger;
  readonly replyCache: ReplyCache;
  /** Whether any export is for this address. */
  readonly admits: (peer: Peer) => boolean;
  /** How the network is reached; tests put their own in place. */
  readonly network?: Pick<DatagramSocketsParts, "openSocket" | "interfaces"> | undefined;
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

/** What became of datagrams, since the start. */
export interface DatagramStatistics {
  readonly received: number;
  /** No call, or from a port that is none: dropped without an answer. */
  readonly malformed: number;
  /** More calls were under way than are taken at once, of all or of one address. */
  readonly busy: number;
  /** Answers to strangers that would have been larger than what was asked. */
  readonly withheld: number;
  /** Answers that the system did not take. */
  readonly unsent: number;
}

/**
 * RPC over UDP (RFC 5531 section 10: a message is a datagram), for the small programs that lock managers and status monitors reach this way.
 * What does not look like a call is dropped without an answer. Nobody has shown that he is at the address that he writes as his, so whoever no
 * export allows is answered with no more bytes than he sent: nothing is gained by writing somebody else's.
 */
export class DatagramServer {
  readonly #pool = new BufferPool(POOL_CLASSES, POOL_BYTES_MAX);
  readonly #sockets: DatagramSockets;
  #inFlight = 0;
  /** Of the addresses that have any. */
  readonly #inFlightOf = new Map<string, number>();
  #received = 0;
  #malformed = 0;
  #busy = 0;
  #withheld = 0;

  constructor(private readonly options: DatagramOptions) {
    const { clock, log, network } = options;
    const onMessage = (message: Buffer, source: DatagramSource) => this.#onMessage(message, source);
    this.#sockets = new DatagramSockets({ clock, log, onMessage, ...network });
  }

  /** On one more address. @throws the socket's error (EADDRINUSE, EACCES) */
  listen(place: DatagramPlace): Promise<DatagramPlace> {
    return this.#sockets.listen(place);
  }

  /** Calls under way end without a reply. */
  unlisten(place: DatagramPlace): Promise<void> {
    return this.#sockets.close(place);
  }

  /** All addresses. */
  close(): Promise<void> {
    return this.#sockets.closeAll();
  }

  statistics(): DatagramStatistics {
    return {
      ...{ received: this.#received, malformed: this.#malformed, busy: this.#busy, withheld: this.#withheld },
      unsent: this.#sockets.unsent,
    };
  }

  #onMessage(message: Buffer, source: DatagramSource): void {
    this.#received++;
    const peer = peerOf(source);
    // RFC 768: port 0 wants no answer, and cannot have one.
    if (peer.port === 0 || message.length < CALL_BYTES_MIN) {
      this.#malformed++;
      return;
    }
    if (this.#inFlight >= IN_FLIGHT_MAX || (this.#inFlightOf.get(peer.address) ?? 0) >= IN_FLIGHT_OF_ADDRESS_MAX) {
      this.#busy++;
      return;
    }
    const replyBytesMax = this.options.admits(peer) ? REPLY_BYTES_MAX : message.length;
    const send = (reply: Buffer) => {
      if (reply.length > replyBytesMax) this.#withheld++;
      else source.send(reply);
    };
    this.#take(message, peer, send);
  }

  #take(message: Buffer, peer: Peer, send: (reply: Buffer) => void): void {
    const reader = new XdrReader(message);
    const answered = (call: RpcCall, kept: Buffer | null) => {
      this.#answered(call, kept);
      send(origin.message);
    };
    const origin = new DatagramOrigin(peer, this.#pool, answered);
    try {
      const call = this.#header(reader, origin, message.length);
      if (call === null) send(origin.message);
      else this.#dispatch(call, origin, reader, send);
    } catch (error) {
      if (error instanceof XdrError) this.#malformed++;
      else this.#unexpected("header", error);
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
    const called = table.procedures[procedure];
    return called === undefined || called.streamOnly === true ? refuse(AcceptStatus.procedureUnavailable) : table;
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
    this.#begun(origin.peer.address);
    void this.#invoke(call, origin, reader).finally(() => this.#ended(origin.peer.address));
  }

  async #invoke(call: RpcCall, origin: DatagramOrigin, reader: XdrReader): Promise<void> {
    try {
      await call.table.program.invoke(call, reader);
    } catch (error) {
      const garbage = error instanceof XdrError;
      if (!garbage) this.#unexpected(call.name, error);
      if (!call.answered) {
        call.failed = true;
        call.isTransient = true;
        origin.replies.beginAccepted(call.xid, garbage ? AcceptStatus.garbageArguments : AcceptStatus.systemError, 0);
        origin.finishReply(call);
      }
    } finally {
      if (call.cacheKey !== null) this.options.replyCache.abandon(call.cacheKey, null);
    }
  }

  #begun(address: string): void {
    this.#inFlight++;
    this.#inFlightOf.set(address, (this.#inFlightOf.get(address) ?? 0) + 1);
  }

  #ended(address: string): void {
    this.#inFlight--;
    const left = (this.#inFlightOf.get(address) ?? 1) - 1;
    if (left === 0) this.#inFlightOf.delete(address);
    else this.#inFlightOf.set(address, left);
  }

  #answered(call: RpcCall, kept: Buffer | null): void {
    call.answered = true;
    const counter = call.table.counters[call.procedure];
    counter?.record(this.options.clock.monotonicMs() - call.startedMs);
    if (call.failed && counter !== undefined) counter.errors++;
    call.tellCache(this.options.replyCache, kept);
  }

  #unexpected(what: string, error: unknown): void {
    this.options.log.error({ call: what, error: messageOf(error) }, "rpc: call failed unexpectedly");
    this.options.onUnexpected(error);
  }
}

function peerOf({ from: { address, port }, local }: DatagramSource): Peer {
  const normal = normalAddress(address);
  return { address: normal, family: normal.includes(":") ? "ipv6" : "ipv4", port, localAddress: normalAddress(local) };
}
