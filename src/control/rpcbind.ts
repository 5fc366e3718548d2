import net from "node:net";
import { messageOf, StorageError } from "../lib/errors.js";
import { PORTMAP_PROGRAM, type Service } from "../protocol/portmap/program.js";
import { AcceptStatus, LAST_FRAGMENT, MessageType, ReplyStatus, RPC_VERSION } from "../protocol/rpc/message.js";
import { XdrError, XdrReader } from "../protocol/xdr/reader.js";
import { XdrWriter } from "../protocol/xdr/writer.js";

/** rpcbind takes registrations over its Unix socket from any local account; over TCP only from privileged ports. */
const RPCBIND_SOCKET = "/run/rpcbind.sock";
/** RPCBIND version 4, RFC 1833 section 2.2. */
const RPCBIND_VERSION = 4;
const Procedure = { set: 1, unset: 2 } as const;
type NetId = "tcp" | "udp";
const ANSWER_MS = 5000;
const ANSWER_BYTES_MAX = 1024;

export interface Registration {
  readonly services: readonly Service[];
  readonly host: string;
  readonly port: number;
}

/**
 * Tell this machine's rpcbind on which port our programs answer, so that clients find them without `port=` and `mountport=`.
 * What is registered under their numbers is replaced. The port mapper itself is rpcbind's own and is left out.
 * @throws StorageError ENODEV when rpcbind does not answer, EACCES when it refuses
 */
export async function register(registration: Registration, socket = RPCBIND_SOCKET): Promise<void> {
  await unregister(registration, socket);
  for (const service of ours(registration)) {
    for (const netId of netIdsOf(service)) {
      const done = await ask(socket, Procedure.set, service, netId, universalAddress(registration));
      if (!done)
        throw new StorageError("EACCES", `rpcbind refuses to register ${service.name} (program ${service.program})`);
    }
  }
}

/** What was not registered, or belongs to another account, is passed over. */
export async function unregister(registration: Registration, socket = RPCBIND_SOCKET): Promise<void> {
  for (const service of ours(registration))
    for (const netId of netIdsOf(service)) await ask(socket, Procedure.unset, service, netId, "");
}

function netIdsOf({ datagrams }: Service): NetId[] {
  return datagrams === true ? ["tcp", "udp"] : ["tcp"];
}

function ours({ services }: Registration): Service[] {
  return services.filter(({ program }) => program !== PORTMAP_PROGRAM);
}

/** RFC 5665 section 5.2.3.3: the address with the port's two bytes behind it. */
function universalAddress({ host, port }: Registration): string {
  return `${host}.${Math.floor(port / 256)}.${port % 256}`;
}

async function ask(
  socket: string,
  procedure: number,
  service: Service,
  netId: NetId,
  address: string,
): Promise<boolean> {
  const reply = await exchange(socket, encodeCall(procedure, service, netId, address));
  try {
    return decodeReply(reply);
  } catch (error) {
    if (!(error instanceof XdrError)) throw error;
    throw new StorageError("ENODEV", `what answers at ${socket} is no rpcbind`, {}, error);
  }
}

function encodeCall(procedure: number, { program, version }: Service, netId: NetId, address: string): Buffer {
  const call = new XdrWriter();
  for (const word of [1, MessageType.call, RPC_VERSION, PORTMAP_PROGRAM, RPCBIND_VERSION, procedure]) call.u32(word);
  // AUTH_NONE twice: rpcbind takes the caller's identity from the socket.
  for (const word of [0, 0, 0, 0]) call.u32(word);
  call.u32(program);
  call.u32(version);
  for (const text of [netId, address, ""]) call.text(text);
  const body = call.bytes();
  const header = Buffer.alloc(4);
  header.writeUInt32BE(LAST_FRAGMENT + body.length);
  return Buffer.concat([header, body]);
}

function decodeReply(record: Buffer): boolean {
  const reply = new XdrReader(record);
  reply.u32();
  const isReply = reply.u32() === MessageType.reply && reply.u32() === ReplyStatus.accepted;
  if (!isReply) return false;
  reply.u32();
  reply.opaque(400);
  return reply.u32() === AcceptStatus.success && reply.bool();
}

/** One call, one reply, in one fragment each: both are a hundred bytes. */
function exchange(socket: string, call: Buffer): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    let received = Buffer.alloc(0);
    const connection = net.connect(socket, () => connection.write(call));
    const fail = (why: string) => {
      connection.destroy();
      reject(new StorageError("ENODEV", `rpcbind does not answer at ${socket}: ${why}`));
    };
    connection.setTimeout(ANSWER_MS, () => fail("no answer"));
    connection.on("error", (error) => fail(messageOf(error)));
    connection.on("end", () => fail("it hung up"));
    connection.on("data", (piece: Buffer) => {
      received = Buffer.concat([received, piece]);
      if (received.length > ANSWER_BYTES_MAX) return fail("it says too much");
      const wanted = received.length < 4 ? Number.POSITIVE_INFINITY : received.readUInt32BE(0) - LAST_FRAGMENT + 4;
      if (received.length < wanted) return;
      connection.destroy();
      resolve(received.subarray(4, wanted));
    });
  });
}
