import { connect, type Socket } from "node:net";
import { nextTurn } from "../../../src/lib/next-turn.js";
import { encode, encodeCall, frame, MOUNT, NfsClient, Proc, writeU64 } from "../../support/nfs-client.js";
import { type HostileContext, overTime, pick, type Scenario } from "../scenario.js";

const MIB = 1024 * 1024;
const FILE = "hostile-hoard";
const FILE_MIB = 8;
const THRONG_EACH = 137;
const THRONG_HALVES = 37;

/** Opens connections of one address, and leaves none behind. */
async function holding(
  context: HostileContext,
  from: string,
  count: number,
  action: (sockets: readonly Socket[]) => Promise<void> | void,
): Promise<void> {
  const { target } = context;
  const sockets = Array.from({ length: count }, () => {
    const socket = connect({ host: target.host, port: target.port, localAddress: from });
    return socket.on("error", () => {});
  });
  await Promise.all(
    sockets.map((one) => new Promise((resolve) => one.once("connect", resolve).once("close", resolve))),
  );
  await action(sockets);
  while (!overTime(context)) await new Promise((resolve) => setTimeout(resolve, 50));
  for (const socket of sockets) socket.destroy();
}

function readArgs(handle: Buffer, offset: number, byteCount: number): Buffer {
  return encode((w) => {
    w.opaque(handle);
    writeU64(w, offset);
    w.u32(byteCount);
  });
}

function writeArgs(handle: Buffer, offset: number, data: Buffer): Buffer {
  return encode((w) => {
    w.opaque(handle);
    writeU64(w, offset);
    w.u32(data.length);
    w.u32(0);
    w.opaque(data);
  });
}

interface Shared {
  readonly root: Buffer;
  readonly file: Buffer;
}

async function sharedFile(context: HostileContext): Promise<Shared> {
  const { target } = context;
  const client = await NfsClient.connect(target.port, target.host, pick(context, context.clients));
  try {
    const { handle: root } = await client.mount("/data");
    const found = await client.lookup(root, FILE);
    if (found.status === 0) return { root, file: found.handle };
    const { handle } = await client.create(root, FILE);
    for (let i = 0; i < FILE_MIB; i++) await client.write(handle!, i * MIB, Buffer.alloc(MIB, i), 0);
    return { root, file: handle! };
  } finally {
    await client.close();
  }
}

/** More connections than there are places, from somebody whom nobody knows, or does. */
export const idlers: Scenario = {
  name: "idlers",
  async run(context) {
    const from = pick(context, [...context.strangers, ...context.clients]);
    await holding(context, from, 600, () => {});
    context.note(`600 connections of ${from}`);
  },
};

/** Records that begin and do not end. */
export const halves: Scenario = {
  name: "halves",
  async run(context) {
    const from = pick(context, [...context.strangers, ...context.clients]);
    const sentBytes = context.random.below(MIB);
    const half = Buffer.alloc(4 + sentBytes);
    half.writeUInt32BE(pick(context, [0x80000000, 0]) + MIB);
    await holding(context, from, 250, (sockets) => {
      for (const socket of sockets) socket.write(half);
    });
    context.note(`250 halves of ${sentBytes} bytes from ${from}`);
  },
};

type DeafKind = "READ" | "small READ" | "READDIRPLUS" | "DUMP" | "NULL";
const DEAF_KINDS: readonly DeafKind[] = ["READ", "small READ", "READDIRPLUS", "DUMP", "NULL"];

/** Calls of a kind, and nobody who takes their replies. */
async function ask(context: HostileContext, { root, file }: Shared, sockets: readonly Socket[], kind: DeafKind) {
  const listing = encode((w) => {
    w.opaque(root);
    w.fixed(Buffer.alloc(16));
    w.u32(65536);
    w.u32(65536);
  });
  const calls: Record<DeafKind, () => Buffer> = {
    READ: () => encodeCall(1, Proc.read, readArgs(file, context.random.below(FILE_MIB) * MIB, MIB)),
    "small READ": () => encodeCall(1, Proc.read, readArgs(file, 0, 16384)),
    READDIRPLUS: () => encodeCall(1, Proc.readdirplus, listing),
    DUMP: () => encodeCall(1, 2, Buffer.alloc(0), { program: MOUNT }),
    NULL: () => encodeCall(1, Proc.null, Buffer.alloc(0)),
  };
  for (const socket of sockets) {
    socket.pause();
    const many = Array.from({ length: kind === "NULL" ? 20_000 : 300 }, () => frame(calls[kind]()));
    for (const call of many.splice(0, 50)) socket.write(call);
    socket.write(Buffer.concat(many));
    await nextTurn();
  }
}

/** Replies that are never taken: large ones by reference, listings, and very many small ones. */
export const deaf: Scenario = {
  name: "deaf",
  async run(context) {
    const shared = await sharedFile(context);
    const kind = pick(context, DEAF_KINDS);
    const from = pick(context, context.clients);
    await holding(context, from, 60, (sockets) => ask(context, shared, sockets, kind));
    context.note(`${kind} from ${from}`);
  },
};

/** All that clients may hold at once: every address has replies of all kinds that are not taken, and records that do not end. */
export const throng: Scenario = {
  name: "throng",
  async run(context) {
    const shared = await sharedFile(context);
    const half = Buffer.alloc(4 + MIB / 2);
    half.writeUInt32BE(0x80000000 + MIB);
    const crowd = (from: string) =>
      holding(context, from, THRONG_EACH, async (sockets) => {
        const halves = sockets.slice(0, THRONG_HALVES);
        const others = sockets.slice(THRONG_HALVES);
        for (const socket of halves) socket.write(half);
        for (const [i, kind] of DEAF_KINDS.entries())
          await ask(
            context,
            shared,
            others.filter((_, at) => at % DEAF_KINDS.length === i),
            kind,
          );
      });
    await Promise.all(context.clients.map(crowd));
    context.note(`${THRONG_EACH} connections each of ${context.clients.length} addresses`);
  },
};

/** Many large writes at once, from all clients, whose replies are taken. */
export const writers: Scenario = {
  name: "writers",
  async run(context) {
    const { file } = await sharedFile(context);
    const data = Buffer.alloc(MIB, 7);
    let sent = 0;
    const one = async (from: string): Promise<void> => {
      const client = await NfsClient.connect(context.target.port, context.target.host, from);
      try {
        while (!overTime(context)) {
          const args = writeArgs(file, context.random.below(FILE_MIB) * MIB, data);
          await client.call(Proc.write, args);
          sent++;
        }
      } finally {
        await client.close();
      }
    };
    await Promise.all(context.clients.flatMap((from) => Array.from({ length: 8 }, () => one(from))));
    context.note(`${sent} MiB written`);
  },
};
