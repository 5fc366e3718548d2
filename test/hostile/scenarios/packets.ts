import { encodeCall, MOUNT, NFS, PORTMAP } from "../../support/nfs-client.js";
import { NLM, NSM } from "../../support/nlm-client.js";
import type { Endpoint, RawSender } from "../raw.js";
import { udpHeader } from "../raw.js";
import { type HostileContext, overTime, pick, type Scenario } from "../scenario.js";

/** Sources that no answer can go to, or that it should not. */
const ODD_SOURCES = ["255.255.255.255", "224.0.0.1", "0.0.0.0", "127.255.255.255", "127.0.0.1", "203.0.113.5"];
const MORE_FRAGMENTS = 0x2000;
const ICMP = 1;
/** FIN, SYN, RST, PSH+ACK, everything (RFC 9293 section 3.1). */
const FLAGS = [0x01, 0x02, 0x04, 0x18, 0x3f];
const BURST = 64;

function anyCall(context: HostileContext): Buffer {
  const { random } = context;
  const program = pick(context, [NFS, MOUNT, PORTMAP, NLM, NSM, 12345]);
  const args = Buffer.alloc(4 * random.below(30));
  random.fill(args);
  const options = { program, version: random.below(6), auth: random.below(2) === 0 ? null : Buffer.alloc(16) };
  return encodeCall(random.next(), random.below(25), args, options);
}

/** ICMP "port unreachable" (RFC 792) about an answer of ours, to this port of the other. */
function unreachable({ target }: HostileContext, to: Endpoint): Buffer {
  const quoted = Buffer.alloc(28);
  quoted.writeUInt8(0x45, 0);
  quoted.writeUInt16BE(60, 2);
  quoted.writeUInt8(64, 8);
  quoted.writeUInt8(17, 9);
  Buffer.from([127, 0, 0, 1]).copy(quoted, 12);
  Buffer.from(to.address.split(".").map(Number)).copy(quoted, 16);
  udpHeader(target.port, to.port, 40).copy(quoted, 20);
  const message = Buffer.concat([Buffer.from([3, 3, 0, 0, 0, 0, 0, 0]), quoted]);
  let sum = 0;
  for (let at = 0; at < message.length; at += 2) sum += message.readUInt16BE(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  message.writeUInt16BE(~sum & 0xffff, 2);
  return message;
}

async function sendOne(context: HostileContext, raw: RawSender): Promise<void> {
  const { random, target } = context;
  const here = { address: target.host, port: target.port };
  const from = {
    address: pick(context, [...ODD_SOURCES, ...context.strangers, ...context.clients]),
    port: pick(context, [0, 0, 1, 111, 2049, target.port, 65535, random.below(65536)]),
  };
  const call = anyCall(context);
  switch (random.below(8)) {
    case 0:
    case 1:
      return await raw.datagram(from, here, call);
    case 2:
      // The header says another length than there is.
      return await raw.datagram(from, here, call, pick(context, [0, 7, 8, 9, 65535, random.below(2000)]));
    case 3:
      return await raw.datagram(from, here, Buffer.alloc(pick(context, [0, 1, 39, 40, 1400, 65_000])));
    case 4: {
      // Fragments that never become a datagram, overlap, or come the wrong way round.
      const whole = Buffer.concat([udpHeader(from.port, here.port, 8 + 4096), Buffer.alloc(4096)]);
      const pieces = [whole.subarray(0, 1024), whole.subarray(512, 2048), whole.subarray(2048)];
      const at = random.below(3);
      const offset = [0, 64, 256][at]!;
      return await raw.packet(from.address, here.address, 17, pieces[at]!, offset | (at < 2 ? MORE_FRAGMENTS : 0));
    }
    case 5:
      return await raw.segment(from, here, pick(context, FLAGS), random.next());
    case 6:
      return await raw.packet(from.address, here.address, ICMP, unreachable(context, from));
    default:
      return await raw.packet(from.address, here.address, pick(context, [6, 17, 1, 2, 132]), call);
  }
}

/** Packets that no socket sends: from port 0, from everybody and nobody, in pieces, with lengths that lie, about connections that are not there. */
export const packets: Scenario = {
  name: "packets",
  needsRaw: true,
  async run(context) {
    const { raw } = context;
    if (raw === null) return;
    let sent = 0;
    while (!overTime(context)) {
      for (let i = 0; i < BURST; i++) await sendOne(context, raw);
      sent += BURST;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    context.note(`${sent} packets`);
  },
};
