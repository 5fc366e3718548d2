import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { ProbeClient } from "../../../src/control/drill/probe-client.js";
import { answeringServer } from "../../support/answering-server.js";

const CALL = { program: 100005, procedure: 0, args: () => {} };

test("probe client: a call that nobody answers on a connection that stands goes over another one", {
  timeout: 10_000,
}, async (t) => {
  const { port, sockets } = await answeringServer(t, (connection) => connection !== 1);
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
  const { port } = await answeringServer(t, () => false);
  const client = new ProbeClient("127.0.0.1", port, { answerMs: 50, giveUpMs: 300 });
  t.after(() => client.close());
  await assert.rejects(client.call(CALL), { code: "EIO", message: `nobody answers at 127.0.0.1:${port}` });
});
