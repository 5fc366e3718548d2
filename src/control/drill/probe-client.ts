import { connect, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { StorageError } from "../../lib/errors.js";
import { LAST_FRAGMENT, MessageType, ReplyStatus, RPC_VERSION } from "../../protocol/rpc/message.js";
import { XdrReader } from "../../protocol/xdr/reader.js";
import { XdrWriter } from "../../protocol/xdr/writer.js";

const RETRY_MS = 100;
const GIVE_UP_MS = 120_000;
/** A connection on which no answer comes for so long is given up, and the call sent over another one. */
const ANSWER_MS = 60_000;
const AUTH_SYS = 1;

export interface ProbeCall {
  readonly program: number;
  readonly procedure: number;
  readonly args: (w: XdrWriter) => void;
}

/**
 * One call at a time, as a kernel's client makes it: with one xid (RFC 5531 section 9), sent again over a new connection until it is answered: 100 ms after the
 * last one has ended, and a minute after the call was sent when it stands.
 * It notes how long the slowest call took.
 */
export class ProbeClient {
  #socket: Socket | null = null;
  #received: Buffer = Buffer.alloc(0);
  #waiting: ((reply: Buffer | null) => void) | null = null;
  #xid = (Date.now() * 1000) >>> 0;
  slowestMs = 0;
  calls = 0;

  constructor(
    readonly host: string,
    readonly port: number,
    private readonly times = { answerMs: ANSWER_MS, giveUpMs: GIVE_UP_MS },
  ) {}

  /** Results of an accepted call, by root. @throws StorageError EIO when there is no answer for two minutes, or the call is refused */
  async call(call: ProbeCall): Promise<XdrReader> {
    this.#xid = (this.#xid + 1) >>> 0;
    const record = encode(this.#xid, call);
    const beganMs = performance.now();
    for (;;) {
      const reply = await this.#exchange(record, this.#xid);
      const tookMs = performance.now() - beganMs;
      if (reply !== null) {
        this.slowestMs = Math.max(this.slowestMs, tookMs);
        this.calls++;
        return results(reply);
      }
      if (tookMs > this.times.giveUpMs) throw new StorageError("EIO", `nobody answers at ${this.host}:${this.port}`);
      await sleep(RETRY_MS);
    }
  }

  close(): void {
    this.#socket?.destroy();
  }

  /** null: the connection broke, or cannot be had. */
  async #exchange(record: Buffer, xid: number): Promise<Buffer | null> {
    const socket = this.#socket ?? (await this.#connect());
    if (socket === null) return null;
    this.#socket = socket;
    for (;;) {
      const answer = new Promise<Buffer | null>((resolve) => {
        this.#waiting = resolve;
      });
      socket.write(record);
      const reply = await answer;
      if (reply === null || (reply.length >= 4 && reply.readUInt32BE(0) === xid)) return reply;
    }
  }

  #connect(): Promise<Socket | null> {
    return new Promise((resolve) => {
      const socket = connect({ host: this.host, port: this.port, noDelay: true });
      this.#received = Buffer.alloc(0);
      socket.setTimeout(this.times.answerMs, () => socket.destroy());
      socket.once("connect", () => resolve(socket));
      socket.on("data", (bytes: Buffer) => this.#onData(bytes));
      socket.on("error", () => {});
      socket.once("close", () => {
        this.#socket = null;
        resolve(null);
        this.#answer(null);
      });
    });
  }

  #onData(bytes: Buffer): void {
    this.#received = Buffer.concat([this.#received, bytes]);
    if (this.#received.length < 4) return;
    const end = 4 + this.#received.readUInt32BE(0) - LAST_FRAGMENT;
    if (this.#received.length < end) return;
    const reply = this.#received.subarray(4, end);
    this.#received = this.#received.subarray(end);
    this.#answer(reply);
  }

  #answer(reply: Buffer | null): void {
    const waiting = this.#waiting;
    this.#waiting = null;
    waiting?.(reply);
  }
}

function encode(xid: number, { program, procedure, args }: ProbeCall): Buffer {
  const w = new XdrWriter();
  for (const value of [0, xid, MessageType.call, RPC_VERSION, program, 3, procedure]) w.u32(value);
  const credentials = new XdrWriter();
  credentials.u32(0);
  credentials.text("stripeward-drill");
  for (const value of [0, 0, 0]) credentials.u32(value);
  w.u32(AUTH_SYS);
  w.opaque(credentials.bytes());
  w.u32(0);
  w.u32(0);
  args(w);
  const record = Buffer.from(w.bytes());
  record.writeUInt32BE(LAST_FRAGMENT + record.length - 4, 0);
  return record;
}

/** @throws StorageError EIO for a call that RPC refuses */
function results(reply: Buffer): XdrReader {
  const r = new XdrReader(reply);
  r.u32();
  r.u32();
  if (r.u32() !== ReplyStatus.accepted) throw new StorageError("EIO", "the server refuses the drill's calls");
  r.u32();
  r.opaque(400);
  const status = r.u32();
  if (status !== 0) throw new StorageError("EIO", `the server refuses the drill's calls (RPC status ${status})`);
  return r;
}
