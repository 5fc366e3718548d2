import { createSocket, type Socket } from "node:dgram";
import { encode, encodeCall, MOUNT, NFS, PORTMAP } from "../../support/nfs-client.js";
import { lockArgs, NLM, NlmProc, NSM } from "../../support/nlm-client.js";
import { type HostileContext, overTime, pick, type Scenario } from "../scenario.js";

const BURST = 32;

/** A call that makes sense, or did before some of its bytes were changed. */
function message(context: HostileContext): Buffer {
  const { random } = context;
  const calls: (() => Buffer)[] = [
    () => encodeCall(random.next(), 4, Buffer.alloc(0), { program: PORTMAP, version: 2, auth: null }),
    () => encodeCall(random.next(), 4, Buffer.alloc(0), { program: PORTMAP, version: 4, auth: null }),
    () => encodeCall(random.next(), pick(context, [2, 5]), Buffer.alloc(0), { program: MOUNT }),
    () => encodeCall(random.next(), 1, mountPath(context), { program: MOUNT }),
    () => encodeCall(random.next(), NlmProc.testMsg, garbageLock(context), { program: NLM, version: 4 }),
    () => encodeCall(random.next(), NlmProc.lock, garbageLock(context), { program: NLM, version: 4 }),
    () => encodeCall(random.next(), 6, Buffer.alloc(40), { program: NSM, version: 1 }),
    () => encodeCall(random.next(), random.below(24), Buffer.alloc(random.below(64) * 4), { program: NFS }),
  ];
  const bytes = pick(context, calls)();
  if (random.below(2) === 0) return bytes;
  for (let i = random.below(6); i >= 0; i--) bytes[random.below(bytes.length)] = random.next() & 0xff;
  return random.below(4) === 0 ? bytes.subarray(0, random.below(bytes.length)) : bytes;
}

function mountPath({ random }: HostileContext): Buffer {
  return encode((w) => w.text(`/data${"/.".repeat(random.below(500))}`));
}

function garbageLock({ random }: HostileContext): Buffer {
  const handle = Buffer.alloc(random.below(64));
  random.fill(handle);
  const host = "x".repeat(random.below(1024));
  return lockArgs({ handle, host, block: true, offset: BigInt(random.next()) });
}

function bound(address: string): Promise<Socket> {
  return new Promise((resolve) => {
    const socket = createSocket("udp4");
    socket.on("error", () => {});
    socket.bind(0, address, () => resolve(socket));
  });
}

/** Calls by UDP, whole and broken, by strangers and clients; the answers to half of them find nobody any more (ICMP port unreachable). */
export const datagrams: Scenario = {
  name: "datagrams",
  async run(context) {
    const { target } = context;
    let [sent, answered] = [0, 0];
    while (!overTime(context)) {
      const socket = await bound(pick(context, [...context.strangers, ...context.clients]));
      socket.on("message", () => answered++);
      const sends = Array.from({ length: BURST }, () => message(context));
      await Promise.all(
        sends.map((bytes) => new Promise((resolve) => socket.send(bytes, target.port, target.host, resolve))),
      );
      sent += BURST;
      if (context.random.below(2) === 0) await new Promise((resolve) => setTimeout(resolve, 10));
      socket.close();
    }
    context.note(`${sent} datagrams, ${answered} answers`);
  },
};
