import { setTimeout as sleep } from "node:timers/promises";
import type { XdrReader } from "../../src/protocol/xdr/reader.js";
import { encodeCall, frame, NfsClient } from "./nfs-client.js";

/** What is sent again, after so long without a connection, or without an answer on one that is open. */
const RETRY_MS = 100;
const ANSWER_MS = 60_000;

/**
 * A client as the kernel's: every call is repeated with the same xid until it is answered, over a new connection from another port when the
 * old one is gone. It notes the longest time that a call had to wait.
 */
export class RetryClient {
  #client: NfsClient | null = null;
  #connecting: Promise<NfsClient> | null = null;
  #xid: number;
  #closed = false;
  /** Milliseconds. */
  longestMs = 0;
  calls = 0;
  repeated = 0;

  constructor(
    readonly host: string,
    readonly port: number,
    seed = 1,
    /** Our own address; the loopback has many. */
    private readonly from = "127.0.0.1",
  ) {
    this.#xid = (seed * 0x01000193 + Date.now()) >>> 0;
  }

  /** The answer to an accepted call. @throws when none comes within a minute, or the call is refused by RPC */
  async call(
    procedure: number,
    args: Buffer,
    options: { program?: number; version?: number } = {},
  ): Promise<XdrReader> {
    this.#xid = (this.#xid + 1) >>> 0;
    const xid = this.#xid;
    const record = frame(encodeCall(xid, procedure, args, options));
    const beganMs = performance.now();
    for (let attempt = 0; performance.now() - beganMs < ANSWER_MS && !this.#closed; attempt++) {
      if (attempt > 0) this.repeated++;
      const client = await this.#connection();
      if (client === null) continue;
      try {
        const reply = client.reply(xid, ANSWER_MS);
        client.send(record);
        const { denied, status, body } = await reply;
        if (denied || status !== 0)
          throw new RefusedError(`procedure ${procedure}: RPC status ${status}, denied ${denied}`);
        this.calls++;
        this.longestMs = Math.max(this.longestMs, performance.now() - beganMs);
        return body;
      } catch (error) {
        if (error instanceof RefusedError) throw error;
        if (this.#client === client) this.#client = null;
        await sleep(RETRY_MS);
      }
    }
    throw new Error(`no answer to procedure ${procedure} within ${ANSWER_MS} ms`);
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#client?.close();
  }

  async #connection(): Promise<NfsClient | null> {
    if (this.#client !== null) return this.#client;
    this.#connecting ??= NfsClient.connect(this.port, this.host, this.from);
    try {
      this.#client = await this.#connecting;
    } catch {
      await sleep(RETRY_MS);
    } finally {
      this.#connecting = null;
    }
    return this.#client;
  }
}

class RefusedError extends Error {}
