import { connect, type Socket } from "node:net";
import { encodeCall, frame, MOUNT, NFS } from "../../support/nfs-client.js";
import { crowd, type HostileContext, pick, type Scenario } from "../scenario.js";

const AT_ONCE = 40;

function open(context: HostileContext): Promise<Socket | null> {
  const { target } = context;
  const localAddress = pick(context, [...context.strangers, ...context.clients]);
  return new Promise((resolve) => {
    const socket = connect({ host: target.host, port: target.port, localAddress, allowHalfOpen: true });
    socket.on("error", () => {});
    socket.on("data", () => {});
    socket.once("connect", () => resolve(socket));
    socket.once("close", () => resolve(null));
  });
}

function someCalls({ random }: HostileContext): Buffer {
  const calls = Array.from({ length: 1 + random.below(20) }, () => {
    const options = random.below(2) === 0 ? { program: NFS } : { program: MOUNT };
    return frame(encodeCall(random.next(), random.below(6), Buffer.alloc(4 * random.below(16)), options));
  });
  return Buffer.concat(calls);
}

function later({ random }: HostileContext, ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, random.below(ms)));
}

/** One connection that ends as no good client's does. */
async function misbehave(context: HostileContext): Promise<void> {
  const { random } = context;
  const socket = await open(context);
  if (socket === null) return;
  const calls = someCalls(context);
  switch (random.below(7)) {
    case 0:
      // It goes at once.
      socket.destroy();
      return;
    case 1:
      // RST behind the calls, before or while they are answered.
      socket.write(calls);
      if (random.below(2) === 0) await later(context, 5);
      socket.resetAndDestroy();
      return;
    case 2:
      // RST in the middle of a record.
      socket.write(calls.subarray(0, random.below(calls.length)));
      await later(context, 10);
      socket.resetAndDestroy();
      return;
    case 3:
      // Half-closed: it still reads, or says so.
      socket.end(calls);
      await later(context, 100);
      socket.destroy();
      return;
    case 4:
      // It asks, and does not read.
      socket.pause();
      socket.write(calls);
      await later(context, 200);
      socket.destroy();
      return;
    case 5:
      // Byte by byte.
      for (const byte of calls.subarray(0, 60)) {
        socket.write(Buffer.from([byte]));
        await later(context, 3);
      }
      socket.destroy();
      return;
    default:
      // Silence.
      await later(context, 300);
      socket.resetAndDestroy();
  }
}

/** Connections that end in every way but the ordinary one. */
export const connections: Scenario = {
  name: "connections",
  async run(context) {
    const made = await crowd(context, AT_ONCE, () => misbehave(context));
    context.note(`${made} connections`);
  },
};
