import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { answeringServer } from "../../support/answering-server.js";
import { RetryClient } from "../../support/retry-client.js";

for (const how of ["end", "destroy", "resetAndDestroy"] as const)
  test(`retry client: a connection that was closed between two calls is replaced: ${how}`, {
    timeout: 10_000,
  }, async (t) => {
    const { port, sockets } = await answeringServer(t);
    const client = new RetryClient("127.0.0.1", port);
    t.after(() => client.close());
    await client.call(0, Buffer.alloc(0));
    sockets[0]?.[how]();
    await sleep(50);
    await client.call(0, Buffer.alloc(0));
    assert.deepEqual([client.calls, sockets.length], [2, 2]);
  });
