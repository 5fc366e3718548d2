import { createSocket, type Socket } from "node:dgram";
import { XdrReader } from "../../src/protocol/xdr/reader.js";
import type { XdrWriter } from "../../src/protocol/xdr/writer.js";
import { type CallOptions, encode, encodeCall, type NfsClient, type Reply } from "./nfs-client.js";

/** Raw calls to a lock manager and a status monitor, over any connection of NfsClient, and over UDP. */

export const NLM = 100021;
export const NSM = 100024;

export const NlmProc = {
  null: 0,
  test: 1,
  lock: 2,
  cancel: 3,
  unlock: 4,
  granted: 5,
  testMsg: 6,
  lockMsg: 7,
  cancelMsg: 8,
  unlockMsg: 9,
  grantedMsg: 10,
  testRes: 11,
  lockRes: 12,
  cancelRes: 13,
  unlockRes: 14,
  grantedRes: 15,
  share: 20,
  unshare: 21,
  nmLock: 22,
  freeAll: 23,
} as const;

/** nlm4_stats */
export const NlmStat = {
  granted: 0,
  denied: 1,
  noLocks: 2,
  blocked: 3,
  gracePeriod: 4,
  rofs: 6,
  stale: 7,
  fbig: 8,
  failed: 9,
} as const;

export interface LockArgs {
  readonly handle: Buffer;
  readonly host?: string;
  readonly svid?: number;
  readonly oh?: string;
  readonly offset?: bigint;
  readonly length?: bigint;
  readonly exclusive?: boolean;
  readonly block?: boolean;
  readonly reclaim?: boolean;
  readonly cookie?: string;
}

export interface Holder {
  readonly exclusive: boolean;
  readonly svid: number;
  readonly oh: string;
  readonly offset: bigint;
  readonly length: bigint;
}

export interface LockReply {
  readonly cookie: string;
  readonly status: number;
}

function writeLock(w: XdrWriter, args: LockArgs): void {
  const { host = "client", svid = 1 } = args;
  w.text(host);
  w.opaque(args.handle);
  w.text(args.oh ?? `${svid}@${host}`);
  w.u32(svid);
  w.bigU64(args.offset ?? 0n);
  w.bigU64(args.length ?? 0n);
}

function writeCookie(w: XdrWriter, { cookie = "cookie" }: LockArgs): void {
  w.text(cookie);
}

/** nlm4_testargs, also of GRANTED. */
export function testArgs(args: LockArgs): Buffer {
  return encode((w) => {
    writeCookie(w, args);
    w.bool(args.exclusive ?? true);
    writeLock(w, args);
  });
}

export function lockArgs(args: LockArgs): Buffer {
  return encode((w) => {
    writeCookie(w, args);
    w.bool(args.block ?? false);
    w.bool(args.exclusive ?? true);
    writeLock(w, args);
    w.bool(args.reclaim ?? false);
    w.u32(1);
  });
}

export function cancelArgs(args: LockArgs): Buffer {
  return encode((w) => {
    writeCookie(w, args);
    w.bool(args.block ?? true);
    w.bool(args.exclusive ?? true);
    writeLock(w, args);
  });
}

export function unlockArgs(args: LockArgs): Buffer {
  return encode((w) => {
    writeCookie(w, args);
    writeLock(w, args);
  });
}

export function shareArgs(args: LockArgs, deny: number, access: number): Buffer {
  const { host = "client" } = args;
  return encode((w) => {
    writeCookie(w, args);
    w.text(host);
    w.opaque(args.handle);
    w.text(args.oh ?? host);
    w.u32(deny);
    w.u32(access);
    w.bool(false);
  });
}

export function readU64(reader: XdrReader): bigint {
  const high = BigInt(reader.u32());
  return (high << 32n) | BigInt(reader.u32());
}

/** nlm4_res */
export function readResult(body: XdrReader): LockReply {
  return { cookie: body.opaque(1024).toString(), status: body.u32() };
}

/** nlm4_testres */
export function readTestResult(body: XdrReader): LockReply & { readonly holder: Holder | null } {
  const reply = readResult(body);
  return { ...reply, holder: reply.status === NlmStat.denied ? readHolder(body) : null };
}

function readHolder(body: XdrReader): Holder {
  const exclusive = body.bool();
  const svid = body.u32();
  const oh = body.opaque(1024).toString();
  return { exclusive, svid, oh, offset: readU64(body), length: readU64(body) };
}

/** What a server calls GRANTED with. */
export function readGranted(args: XdrReader) {
  const cookie = args.opaque(1024).toString("latin1");
  const exclusive = args.bool();
  const server = args.opaque(1024).toString();
  const handle = Buffer.from(args.opaque(64));
  const oh = args.opaque(1024).toString();
  const svid = args.u32();
  return { cookie, exclusive, server, handle, oh, svid, offset: readU64(args), length: readU64(args) };
}

export class NlmClient {
  constructor(private readonly client: NfsClient) {}

  /** A call that RPC accepts. @returns its results */
  async call(procedure: number, args: Buffer, options: CallOptions = {}): Promise<XdrReader> {
    const reply = await this.client.call(procedure, args, { program: NLM, version: 4, ...options });
    if (reply.denied || reply.status !== 0) throw new Error(`RPC status ${reply.status} (denied: ${reply.denied})`);
    return reply.body;
  }

  async test(args: LockArgs) {
    return readTestResult(await this.call(NlmProc.test, testArgs(args)));
  }

  async lock(args: LockArgs): Promise<number> {
    return readResult(await this.call(NlmProc.lock, lockArgs(args))).status;
  }

  async cancel(args: LockArgs): Promise<number> {
    return readResult(await this.call(NlmProc.cancel, cancelArgs(args))).status;
  }

  async unlock(args: LockArgs): Promise<number> {
    return readResult(await this.call(NlmProc.unlock, unlockArgs(args))).status;
  }

  async share(args: LockArgs, deny: number, access: number): Promise<number> {
    return readResult(await this.call(NlmProc.share, shareArgs(args, deny, access))).status;
  }

  async unshare(args: LockArgs): Promise<number> {
    return readResult(await this.call(NlmProc.unshare, shareArgs(args, 0, 0))).status;
  }

  async freeAll(host: string): Promise<void> {
    await this.call(
      NlmProc.freeAll,
      encode((w) => {
        w.text(host);
        w.u32(3);
      }),
    );
  }

  /** SM_NOTIFY */
  async notify(host: string, state: number): Promise<void> {
    await this.call(6, notifyArgs(host, state), { program: NSM, version: 1 });
  }
}

export function notifyArgs(host: string, state: number): Buffer {
  return encode((w) => {
    w.text(host);
    w.u32(state);
  });
}

/** One call in one datagram; null: no answer within the time. */
export async function callOverUdp(
  port: number,
  procedure: number,
  args: Buffer,
  options: CallOptions = {},
  timeMs = 2000,
): Promise<Reply | null> {
  const answer = await sendDatagram(port, encodeCall(options.xid ?? 7, procedure, args, options), timeMs);
  if (answer === null) return null;
  const body = new XdrReader(answer);
  const xid = body.u32();
  body.u32();
  const denied = body.u32() === 1;
  if (!denied) {
    body.u32();
    body.opaque(400);
  }
  return { xid, denied, status: body.u32(), body };
}

/** Bytes as they are. @returns the answer, which counts only when it comes from where the question went; null: none came */
export function sendDatagram(
  port: number,
  message: Buffer,
  timeMs = 2000,
  { to = "127.0.0.1", from }: { to?: string; from?: string } = {},
): Promise<Buffer | null> {
  return new Promise((resolve, reject) => {
    const socket: Socket = createSocket(to.includes(":") ? "udp6" : "udp4");
    const end = (answer: Buffer | null) => {
      clearTimeout(timer);
      socket.close(() => resolve(answer));
    };
    const timer = setTimeout(() => end(null), timeMs);
    socket.once("error", reject);
    socket.on("message", (answer, sender) => {
      if (sender.address === to && sender.port === port) end(answer);
    });
    socket.bind({ port: 0, ...(from === undefined ? {} : { address: from }) }, () => socket.send(message, port, to));
  });
}
