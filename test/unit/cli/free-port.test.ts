import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import net from "node:net";
import { test } from "node:test";
import { freePort } from "../../../src/cli/rig/free-port.js";

const [first] = readFileSync("/proc/sys/net/ipv4/ip_local_port_range", "latin1").split(/\s+/).map(Number);

test("free port: none that the system gives to connections, so that a daemon finds it again", async () => {
  for (let i = 0; i < 20; i++) {
    const port = await freePort();
    assert.ok(port >= 10_000 && port < first!, `${port}`);
  }
});

test("free port: one that is taken is passed over; where there is none below, the system chooses", async (t) => {
  const taken = await freePort();
  const server = net.createServer().listen(taken, "127.0.0.1");
  await once(server, "listening");
  t.after(() => server.close());
  assert.ok((await freePort(taken, taken + 1)) >= first!);
  assert.ok((await freePort(10_000, 0)) >= first!);
});
