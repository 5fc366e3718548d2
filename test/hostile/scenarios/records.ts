import { encodeCall, frame, MOUNT, NFS, NfsClient, PORTMAP } from "../../support/nfs-client.js";
import { NLM, NSM } from "../../support/nlm-client.js";
import { type HostileContext, overTime, pick, type Scenario } from "../scenario.js";

const LAST_FRAGMENT = 0x80000000;

function garbledCall(context: HostileContext, handle: Buffer): Buffer {
  const { random } = context;
  const args = Buffer.concat([Buffer.from([0, 0, 0, handle.length]), handle, Buffer.alloc(4 * random.below(64))]);
  const [program, version] = pick(context, [
    [NFS, 3],
    [MOUNT, 3],
    [PORTMAP, 2],
    [PORTMAP, 4],
    [NLM, 4],
    [NSM, 1],
  ] as const);
  const call = encodeCall(random.next(), random.below(25), args, { program, version });
  for (let i = random.below(8); i > 0; i--) call[random.below(call.length)] = random.next() & 0xff;
  return call;
}

/** What stands where a record should be. */
function bytesOf(context: HostileContext, handle: Buffer): Buffer {
  const { random } = context;
  const call = garbledCall(context, handle);
  const mark = Buffer.alloc(4);
  switch (random.below(8)) {
    case 0:
      // A size that nobody has.
      mark.writeUInt32BE(pick(context, [0xffffffff, LAST_FRAGMENT + 0x7fffffff, 0x7fffffff, LAST_FRAGMENT]));
      return Buffer.concat([mark, call]);
    case 1:
      // One byte a fragment.
      return Buffer.concat(
        [...call.subarray(0, 200)].flatMap((byte) => [Buffer.from([0, 0, 0, 1]), Buffer.from([byte])]),
      );
    case 2:
      return Buffer.alloc(4 * (1 + random.below(2000)));
    case 3: {
      const noise = Buffer.alloc(random.below(3000));
      random.fill(noise);
      return noise;
    }
    default:
      return frame(call);
  }
}

/** Records over TCP that are no calls, or nearly: with a handle that is right, so that they get as far as they can. */
export const records: Scenario = {
  name: "records",
  async run(context) {
    let sent = 0;
    while (!overTime(context)) {
      const from = pick(context, [...context.clients, ...context.strangers]);
      try {
        const client = await NfsClient.connect(context.target.port, context.target.host, from);
        const { handle } = await client.mount("/data");
        for (let i = 0; i < 200 && !overTime(context) && !client.socket.destroyed; i++) {
          client.send(bytesOf(context, handle));
          sent++;
          if (i % 10 === 0) await new Promise((resolve) => setTimeout(resolve, 2));
        }
        await client.close();
      } catch {
        // Hung up on, rightly.
      }
    }
    context.note(`${sent} records`);
  },
};
