import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { type TestContext, test } from "node:test";
import { register, unregister } from "../../../src/control/rpcbind.js";

/** Answers every call with `answer`, in two pieces, and keeps what it was asked. */
async function fakeRpcbind(t: TestContext, answer: number) {
  const folder = mkdtempSync(path.join(os.tmpdir(), "stripeward-rpcbind-"));
  const socket = path.join(folder, "rpcbind.sock");
  const asked: { procedure: number; program: number; netId: string; address: string }[] = [];
  const server = net.createServer((connection) => {
    connection.on("data", (call) => {
      const addressBytes = call.readUInt32BE(60);
      const address = call.toString("latin1", 64, 64 + addressBytes);
      const netId = call.toString("latin1", 56, 59);
      asked.push({ procedure: call.readUInt32BE(24), program: call.readUInt32BE(44), netId, address });
      const reply = Buffer.alloc(32);
      reply.writeUInt32BE(0x80000000 + 28, 0);
      reply.writeUInt32BE(1, 4);
      reply.writeUInt32BE(1, 8);
      reply.writeUInt32BE(answer, 28);
      connection.write(reply.subarray(0, 10));
      setTimeout(() => connection.write(reply.subarray(10)), 5);
    });
  });
  await new Promise<void>((resolve) => server.listen(socket, resolve));
  t.after(() => {
    server.close();
    rmSync(folder, { recursive: true });
  });
  return { socket, asked };
}

const SERVICES = [
  { program: 100003, version: 3, name: "nfs" },
  { program: 100005, version: 3, name: "mountd", datagrams: true },
  { program: 100000, version: 2, name: "portmapper" },
];
const REGISTRATION = { services: SERVICES, host: "0.0.0.0", port: 2049 };

test("rpcbind: our programs are registered with port bytes in the address, the port mapper is left alone", async (t) => {
  const { socket, asked } = await fakeRpcbind(t, 1);
  await register(REGISTRATION, socket);
  assert.deepEqual(
    asked.map(({ procedure, program, netId, address }) => `${procedure} ${program} ${netId} ${address}`),
    [
      ...["2 100003 tcp ", "2 100005 tcp ", "2 100005 udp "],
      ...["1 100003 tcp 0.0.0.0.8.1", "1 100005 tcp 0.0.0.0.8.1", "1 100005 udp 0.0.0.0.8.1"],
    ],
  );
});

test("rpcbind: a refusal to register is an error, one to unregister is not", async (t) => {
  const { socket } = await fakeRpcbind(t, 0);
  await unregister(REGISTRATION, socket);
  await assert.rejects(register(REGISTRATION, socket), /rpcbind refuses to register nfs/);
});

test("rpcbind: nobody there", async () => {
  await assert.rejects(register(REGISTRATION, "/nonexistent/s"), /rpcbind does not answer at \/nonexistent\/s/);
});
