import assert from "node:assert/strict";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { ProbeClient } from "../../../src/control/drill/probe-client.js";
import { encode, frame } from "../../support/nfs-client.js";

const CALL = { program: 100005, procedure: 0, args: () => {} };

/** Accepts connections; `answers` says which of them, by number, is answered on. */
async function server(t: TestContext, answers: (connection: number) => boolean) {
  const sockets: Socket[] = [];
  const listener = createServer((socket) => {
    const number = sockets.push(socket);
    socket.on("error", () => {});
    socket.on("data", (received) => {
      const words = [received.readUInt32BE(4), 1, 0, 0, 0, 0];
      if (answers(number)) socket.write(frame(encode((w) => words.forEach((word) => void w.u32(word)))));
    });
  });
  await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    listener.close();
  });
  return { port: (listener.address() as AddressInfo).port, sockets };
}

test("probe client: a call that nobody answers on a connection that stands goes over another one", {
  timeout: 10_000,
}, async (t) => {
  const { port, sockets } = await server(t, (connection) => connection !== 1);
  const client = new ProbeClient("127.0.0.1", port, { answerMs: 50, giveUpMs: 5_000 });
  t.after(() => client.close());
  await client.call(CALL);
  assert.deepEqual([client.calls, sockets.length], [1, 2]);
  assert.ok(client.slowestMs >= 50);
  // It is idle for longer than an answer may take, and its connection ends: the next call has another one.
  await sleep(150);
  await client.call(CALL);
  assert.equal(client.calls, 2);
});

test("probe client: it gives up when nobody ever answers", { timeout: 10_000 }, async (t) => {
  const { port } = await server(t, () => false);
  const client = new ProbeClient("127.0.0.1", port, { answerMs: 50, giveUpMs: 300 });
  t.after(() => client.close());
  await assert.rejects(client.call(CALL), { code: "EIO", message: `nobody answers at 127.0.0.1:${port}` });
});
