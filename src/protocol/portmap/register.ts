import { connect } from "node:net";
import { StorageError } from "../../lib/errors.js";
import { LAST_FRAGMENT, MessageType, RPC_VERSION } from "../rpc/message.js";
import { XdrReader } from "../xdr/reader.js";
import { XdrWriter } from "../xdr/writer.js";
import { IPPROTO_TCP, PORTMAP_PROGRAM, type Service } from "./program.js";

const PMAP_VERSION = 2;
const PMAP_SET = 1;
const PMAP_UNSET = 2;
const ANSWER_BYTES = 4 + 7 * 4;

export interface RpcbindPlace {
  readonly host: string;
  readonly port: number;
  readonly timeoutMs: number;
}

export const LOCAL_RPCBIND: RpcbindPlace = { host: "127.0.0.1", port: 111, timeoutMs: 2000 };

/**
 * Tell a running rpcbind where our programs are (PMAP_UNSET, then PMAP_SET, RFC 1833 section 3.2), so that clients need no port option.
 * rpcbind takes this from the local host only, and usually only from a privileged port.
 * @throws StorageError EACCES when rpcbind refuses, ENODEV when none answers
 */
export async function registerWithRpcbind(
  services: readonly Service[],
  port: number,
  at = LOCAL_RPCBIND,
): Promise<void> {
  await unregisterFromRpcbind(services, at);
  const set = services.map(({ program, version }) => encodeCall(PMAP_SET, program, version, port));
  const answers = await exchange(set, at);
  if (answers.some((answer) => !answer)) throw new StorageError("EACCES", "rpcbind refused the registration", { port });
}

/** @throws StorageError ENODEV when no rpcbind answers */
export async function unregisterFromRpcbind(services: readonly Service[], at = LOCAL_RPCBIND): Promise<void> {
  await exchange(
    services.map(({ program, version }) => encodeCall(PMAP_UNSET, program, version, 0)),
    at,
  );
}

function encodeCall(procedure: number, program: number, version: number, port: number): Buffer {
  const w = new XdrWriter();
  const body = [1, MessageType.call, RPC_VERSION, PORTMAP_PROGRAM, PMAP_VERSION, procedure];
  const auth = [0, 0, 0, 0];
  const mapping = [program, version, IPPROTO_TCP, port];
  w.u32(LAST_FRAGMENT + 4 * (body.length + auth.length + mapping.length));
  for (const value of [...body, ...auth, ...mapping]) w.u32(value);
  return w.bytes();
}

/** Send the calls over one connection. @returns the boolean that each was answered with */
function exchange(calls: readonly Buffer[], at: RpcbindPlace): Promise<boolean[]> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: at.host, port: at.port });
    const wantedBytes = calls.length * ANSWER_BYTES;
    let received = Buffer.alloc(0);
    const fail = (cause?: unknown) => {
      socket.destroy();
      reject(new StorageError("ENODEV", "no rpcbind answers", { host: at.host, port: at.port }, cause));
    };
    socket.setTimeout(at.timeoutMs, fail);
    socket.on("error", fail);
    socket.on("close", () => fail());
    socket.on("data", (chunk: Buffer) => {
      received = Buffer.concat([received, chunk]);
      if (received.length < wantedBytes) return;
      socket.removeAllListeners("close");
      socket.destroy();
      resolve(calls.map((_call, index) => succeeded(received, index * ANSWER_BYTES)));
    });
    socket.write(Buffer.concat(calls));
  });
}

/** Reply words: xid, REPLY, accepted, verifier (2), accept status, boolean. */
function succeeded(answers: Buffer, start: number): boolean {
  const reader = new XdrReader(answers, start + 4, start + ANSWER_BYTES);
  const [, , denied, , , status, result] = Array.from({ length: 7 }, () => reader.u32());
  return denied === 0 && status === 0 && result === 1;
}
