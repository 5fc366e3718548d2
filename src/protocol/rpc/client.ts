import { createSocket } from "node:dgram";
import { connect, type Socket } from "node:net";
import type { Clock } from "../../lib/clock.js";
import { messageOf } from "../../lib/errors.js";
import { XdrReader } from "../xdr/reader.js";
import { XdrWriter } from "../xdr/writer.js";
import { CallSlots, type SlotBounds, type Urgency } from "./call-slots.js";
import { AcceptStatus, AUTH_BODY_BYTES_MAX, LAST_FRAGMENT, MessageType, ReplyStatus, RPC_VERSION } from "./message.js";

/** RFC 1833 section 3: PMAPPROC_GETPORT of the port mapper. */
const PORTMAP = { program: 100000, version: 2, getPort: 3, port: 111 } as const;
const PROTOCOL_NUMBER = { tcp: 6, udp: 17 } as const;
type Transport = keyof typeof PROTOCOL_NUMBER;

const CALL_MS_MAX = 5_000;
/** A datagram may be lost: it goes again so often within the time limit. */
const DATAGRAM_MS = 1_200;
const REPLY_BYTES_MAX = 8_192;
/** A host that is gone takes up to half a minute to be given up (its port mapper over TCP and UDP, twice), so such have a share of their own. */
const SLOTS: SlotBounds = { total: 96, answers: 32, ofHost: 8, suspects: 48 };
const PORTS_KEPT_MAX = 1_024;

/** Why a call was not made. */
const NO_TURN = { answer: "too many calls are under way", news: "nobody waits for it any more" } as const;

export interface Place {
  readonly host: string;
  readonly port: number;
  /** Our own end: a client knows us by the address that it called. Empty: any. */
  readonly from: string;
}

/** How the network is reached; tests put their own in place. */
export interface Dialer {
  /** Send one message and give back the next one with this xid. @throws any error, also when the time is over */
  exchange(transport: Transport, place: Place, message: Buffer, xid: number, timeMs: number): Promise<Buffer>;
}

export interface ClientCall {
  readonly host: string;
  readonly from: string;
  readonly program: number;
  readonly version: number;
  readonly procedure: number;
  readonly args: Buffer;
  /** Default: an answer, which is refused at once when too many calls are under way; news wait for their turn. */
  readonly urgency?: Urgency;
  /** Asked when the turn has come, and now and then before that. Default: yes. */
  readonly isWanted?: () => boolean;
}

export type ClientResult =
  | { readonly ok: true; readonly results: XdrReader }
  | {
      readonly ok: false;
      readonly why: string;
      /** The call may have come to the program all the same, which then knows what it was told. */
      readonly mayHaveArrived: boolean;
    };

/** There was no way to the other host or its program: nothing of the call has left. */
export class NotSent extends Error {}

export interface RpcClientOptions {
  readonly clock: Clock;
  readonly dialer?: Dialer;
  /** Where the port mapper of a host answers. Default: 111. */
  readonly portmapPort?: number;
  readonly callMsMax?: number;
  readonly slots?: SlotBounds;
}

interface KnownPort {
  readonly transport: Transport;
  readonly port: number;
}

/**
 * Calls programs on other hosts: asks the host's port mapper where the program is (TCP before UDP) and remembers the answer as long as
 * it is good. Nothing is thrown: what went wrong is in the result.
 */
export class RpcClient {
  readonly #dialer: Dialer;
  readonly #ports = new Map<string, KnownPort>();
  readonly #slots: CallSlots;
  #nextXid: number;

  constructor(private readonly options: RpcClientOptions) {
    this.#dialer = options.dialer ?? new SystemDialer();
    this.#slots = new CallSlots(options.slots ?? SLOTS);
    // Another start of the daemon uses other numbers, so that no old reply is taken for a new one.
    this.#nextXid = options.clock.wallTime().seconds * 4096;
  }

  async call(call: ClientCall): Promise<ClientResult> {
    const { host, urgency = "answer", isWanted } = call;
    if (!(await this.#slots.take(host, urgency, isWanted)))
      return { ok: false, why: NO_TURN[urgency], mayHaveArrived: false };
    let wasAnswered = true;
    try {
      return { ok: true, results: await this.#call(call) };
    } catch (error) {
      wasAnswered = false;
      this.#ports.delete(keyOf(call));
      return { ok: false, why: messageOf(error), mayHaveArrived: !(error instanceof NotSent) };
    } finally {
      this.#slots.release(host, urgency, wasAnswered);
    }
  }

  async #call(call: ClientCall): Promise<XdrReader> {
    const { host, from } = call;
    const known = this.#ports.get(keyOf(call)) ?? (await this.#find(call).catch(asNotSent));
    return await this.#exchange(known.transport, { host, from, port: known.port }, call);
  }

  async #find(call: ClientCall): Promise<KnownPort> {
    for (const transport of ["tcp", "udp"] as const) {
      const port = await this.#ask(call, transport);
      if (port === 0) continue;
      const found = { transport, port };
      if (this.#ports.size >= PORTS_KEPT_MAX) this.#ports.clear();
      this.#ports.set(keyOf(call), found);
      return found;
    }
    throw new Error(`program ${call.program} version ${call.version} is not registered on ${call.host}`);
  }

  /** @returns 0: not registered */
  async #ask({ host, from, program, version }: ClientCall, wanted: Transport): Promise<number> {
    const args = new XdrWriter();
    for (const word of [program, version, PROTOCOL_NUMBER[wanted], 0]) args.u32(word);
    const place = { host, from, port: this.options.portmapPort ?? PORTMAP.port };
    const call = { ...{ host, from, program: PORTMAP.program, version: PORTMAP.version }, procedure: PORTMAP.getPort };
    const ask = (over: Transport) => this.#exchange(over, place, { ...call, args: args.bytes() });
    const answer = await ask("tcp").catch(() => ask("udp"));
    const port = answer.u32();
    return port < 65536 ? port : 0;
  }

  async #exchange(transport: Transport, place: Place, call: ClientCall): Promise<XdrReader> {
    const xid = this.#nextXid++ >>> 0;
    const timeMs = this.options.callMsMax ?? CALL_MS_MAX;
    const reply = await this.#dialer.exchange(transport, place, encodeCall(xid, call), xid, timeMs);
    return resultsOf(reply);
  }
}

/** Where the program is could not be learnt. */
function asNotSent(error: unknown): never {
  throw new NotSent(messageOf(error), { cause: error });
}

function keyOf({ host, program, version }: ClientCall): string {
  return `${host} ${program} ${version}`;
}

/** RFC 5531 section 9, with AUTH_NONE: lock managers take these calls from anybody. */
function encodeCall(xid: number, { program, version, procedure, args }: ClientCall): Buffer {
  const w = new XdrWriter();
  for (const word of [xid, MessageType.call, RPC_VERSION, program, version, procedure, 0, 0, 0, 0]) w.u32(word);
  w.fixed(args);
  return w.bytes();
}

/** @throws XdrError, Error */
function resultsOf(reply: Buffer): XdrReader {
  const reader = new XdrReader(reply);
  reader.u32(); // xid
  if (reader.u32() !== MessageType.reply) throw new Error("not a reply");
  if (reader.u32() !== ReplyStatus.accepted) throw new Error("the call was denied");
  reader.u32();
  reader.opaque(AUTH_BODY_BYTES_MAX);
  const status = reader.u32();
  if (status !== AcceptStatus.success) throw new Error(`the call was not accepted (accept_stat ${status})`);
  return reader;
}

/** Real sockets: one connection for each call. They are rare, and a client may be gone at any time. */
export class SystemDialer implements Dialer {
  exchange(transport: Transport, place: Place, message: Buffer, xid: number, timeMs: number): Promise<Buffer> {
    return transport === "tcp" ? overTcp(place, message, xid, timeMs) : overUdp(place, message, xid, timeMs);
  }
}

function overTcp({ host, port, from }: Place, message: Buffer, xid: number, timeMs: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port, ...(from === "" ? {} : { localAddress: from }) });
    let received: Buffer = Buffer.alloc(0);
    let connected = false;
    const fail = (why: string) => {
      clearTimeout(timer);
      socket.destroy();
      const what = `${host} port ${port}: ${why}`;
      reject(connected ? new Error(what) : new NotSent(what));
    };
    socket.on("connect", () => {
      connected = true;
    });
    const timer = setTimeout(() => fail("no answer"), timeMs);
    socket.on("error", (error) => fail(messageOf(error)));
    socket.on("close", () => fail("it hung up"));
    socket.on("data", (piece: Buffer) => {
      received = Buffer.concat([received, piece]);
      if (received.length > REPLY_BYTES_MAX) return fail("it says too much");
      const reply = wholeRecord(received);
      if (reply === null) return;
      if (reply.length < 4 || reply.readUInt32BE(0) !== xid) return fail("it answers something else");
      clearTimeout(timer);
      endQuietly(socket);
      resolve(reply);
    });
    const mark = Buffer.alloc(4);
    mark.writeUInt32BE(LAST_FRAGMENT + message.length);
    socket.write(Buffer.concat([mark, message]));
  });
}

function endQuietly(socket: Socket): void {
  socket.removeAllListeners("close");
  socket.destroy();
}

/** The first record, in one fragment or several; null: not all of it is here. */
function wholeRecord(received: Buffer): Buffer | null {
  const fragments: Buffer[] = [];
  for (let at = 0; at + 4 <= received.length; ) {
    const mark = received.readUInt32BE(at);
    const end = at + 4 + (mark % LAST_FRAGMENT);
    if (end > received.length) return null;
    fragments.push(received.subarray(at + 4, end));
    if (mark >= LAST_FRAGMENT) return Buffer.concat(fragments);
    at = end;
  }
  return null;
}

function overUdp({ host, port, from }: Place, message: Buffer, xid: number, timeMs: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const socket = createSocket(host.includes(":") ? "udp6" : "udp4");
    let ended = false;
    const end = (settle: () => void) => {
      if (ended) return;
      ended = true;
      clearTimeout(timer);
      clearInterval(again);
      socket.removeAllListeners("message");
      socket.close();
      settle();
    };
    const fail = (why: string) => end(() => reject(new Error(`${host} port ${port}: ${why}`)));
    const send = () => socket.send(message, port, host, (error) => error !== null && fail(messageOf(error)));
    const timer = setTimeout(() => fail("no answer"), timeMs);
    const again = setInterval(send, DATAGRAM_MS);
    socket.on("error", (error) => fail(messageOf(error)));
    socket.on("message", (reply, sender) => {
      const isAnswer = sender.port === port && reply.length >= 4 && reply.readUInt32BE(0) === xid;
      if (isAnswer) end(() => resolve(reply));
    });
    socket.bind({ port: 0, ...(from === "" ? {} : { address: from }) }, send);
  });
}
