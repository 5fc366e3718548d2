import assert from "node:assert/strict";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { encode, frame } from "../../support/nfs-client.js";
import { RetryClient } from "../../support/retry-client.js";

/** Accepts every call, and says nothing more. */
function answer(socket: Socket, received: Buffer): void {
  const xid = received.readUInt32BE(4);
  socket.write(frame(encode((w) => [xid, 1, 0, 0, 0, 0].forEach((word) => void w.u32(word)))));
}

async function server(t: TestContext) {
  const sockets: Socket[] = [];
  const listener = createServer((socket) => {
    sockets.push(socket);
    socket.on("error", () => {});
    socket.on("data", (received) => answer(socket, received));
  });
  await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    listener.close();
  });
  return { port: (listener.address() as AddressInfo).port, sockets };
}

for (const how of ["end", "destroy", "resetAndDestroy"] as const)
  test(`retry client: a connection that was closed between two calls is replaced: ${how}`, {
    timeout: 10_000,
  }, async (t) => {
    const { port, sockets } = await server(t);
    const client = new RetryClient("127.0.0.1", port);
    t.after(() => client.close());
    await client.call(0, Buffer.alloc(0));
    sockets[0]?.[how]();
    await sleep(50);
    await client.call(0, Buffer.alloc(0));
    assert.deepEqual([client.calls, sockets.length], [2, 2]);
  });
