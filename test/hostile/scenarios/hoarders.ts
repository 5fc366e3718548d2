import { connect, type Socket } from "node:net";
import { nextTurn } from "../../../src/lib/next-turn.js";
import { encode, encodeCall, frame, MOUNT, NfsClient, Proc, writeU64 } from "../../support/nfs-client.js";
import { type HostileContext, overTime, pick, type Scenario } from "../scenario.js";

const MIB = 1024 * 1024;
const FILE = "hostile-hoard";
const FILE_MIB = 8;

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

async function sharedFile(context: HostileContext): Promise<{ root: Buffer; file: Buffer }> {
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

/** Calls whose replies are never taken: large ones by reference, listings, and very many small ones. */
export const deaf: Scenario = {
  name: "deaf",
  async run(context) {
    const { root, file } = await sharedFile(context);
    const kind = pick(context, ["READ", "small READ", "READDIRPLUS", "DUMP", "NULL"] as const);
    const listing = encode((w) => {
      w.opaque(root);
      w.fixed(Buffer.alloc(16));
      w.u32(65536);
      w.u32(65536);
    });
    const calls: Record<typeof kind, () => Buffer> = {
      READ: () => encodeCall(1, Proc.read, readArgs(file, context.random.below(FILE_MIB) * MIB, MIB)),
      "small READ": () => encodeCall(1, Proc.read, readArgs(file, 0, 16384)),
      READDIRPLUS: () => encodeCall(1, Proc.readdirplus, listing),
      DUMP: () => encodeCall(1, 2, Buffer.alloc(0), { program: MOUNT }),
      NULL: () => encodeCall(1, Proc.null, Buffer.alloc(0)),
    };
    const from = pick(context, context.clients);
    await holding(context, from, 60, async (sockets) => {
      for (const socket of sockets) {
        socket.pause();
        const many = Array.from({ length: kind === "NULL" ? 20_000 : 300 }, () => frame(calls[kind]()));
        for (const call of many.splice(0, 50)) socket.write(call);
        socket.write(Buffer.concat(many));
        await nextTurn();
      }
    });
    context.note(`${kind} from ${from}`);
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
