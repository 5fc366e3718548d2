import { createSocket } from "node:dgram";
import { encodeCall, NfsClient } from "../../support/nfs-client.js";
import { lockArgs, NLM, NlmProc, testArgs, unlockArgs } from "../../support/nlm-client.js";
import { type HostileContext, overTime, pick, type Scenario } from "../scenario.js";

const WAITERS = 200;
const FILE = "hostile-callbacks";

/** Questions as messages: each answer is a call to somebody who does not listen, or is not there. */
async function askByMessage(context: HostileContext): Promise<number> {
  const { target, random } = context;
  const socket = createSocket("udp4");
  socket.on("error", () => {});
  await new Promise<void>((resolve) =>
    socket.bind(0, pick(context, [...context.strangers, ...context.clients]), resolve),
  );
  for (let i = 0; i < 64; i++) {
    const args = testArgs({ handle: Buffer.alloc(random.below(40)), svid: i });
    const call = encodeCall(random.next(), NlmProc.testMsg, args, { program: NLM, version: 4 });
    await new Promise((resolve) => socket.send(call, target.port, target.host, resolve));
  }
  socket.close();
  return 64;
}

/** Many wait for a lock, at an address where nobody takes the call that tells them. */
async function waitInVain(context: HostileContext): Promise<void> {
  const { target } = context;
  const client = await NfsClient.connect(target.port, target.host, pick(context, context.clients));
  try {
    const { handle: root } = await client.mount("/data");
    const found = await client.lookup(root, FILE);
    const handle = found.status === 0 ? found.handle : (await client.create(root, FILE)).handle!;
    const call = (procedure: number, args: Buffer) => client.call(procedure, args, { program: NLM, version: 4 });
    const holder = { handle, host: "holder", svid: 1 };
    await call(NlmProc.lock, lockArgs(holder));
    const waiters = Array.from({ length: WAITERS }, (_, i) => ({ handle, host: "waiter", svid: 10 + i }));
    await Promise.all(waiters.map((one) => call(NlmProc.lock, lockArgs({ ...one, block: true, exclusive: false }))));
    await call(NlmProc.unlock, unlockArgs(holder));
    await Promise.all(waiters.map((one) => call(NlmProc.unlock, unlockArgs(one))));
  } finally {
    await client.close();
  }
}

/** Work for the caller-back: strangers that want to be called, clients that wait where nobody answers. */
export const callbacks: Scenario = {
  name: "callbacks",
  async run(context) {
    let [messages, rounds] = [0, 0];
    while (!overTime(context)) {
      messages += await askByMessage(context);
      await waitInVain(context);
      rounds++;
    }
    context.note(`${messages} messages, ${rounds} times ${WAITERS} waiters`);
  },
};
