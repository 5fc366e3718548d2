import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import net from "node:net";
import path from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const PROBE = path.join(path.dirname(fileURLToPath(import.meta.url)), "../support/address-probe.js");

test("address probe: connections that are closed without a word do not end it", async (t) => {
  let count = 0;
  // All zeros: the status of a mount that is granted.
  const server = net.createServer((socket) => {
    socket.on("error", () => {}).once("data", () => socket.end(Buffer.alloc(++count > 3 ? 32 : 0)));
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  const { port } = server.address() as net.AddressInfo;
  const probe = spawn(process.execPath, [PROBE, "127.0.0.1", String(port)], { stdio: ["ignore", "pipe", "inherit"] });
  t.after(() => {
    probe.kill("SIGKILL");
    server.close();
  });
  const [first] = (await Promise.race([once(probe.stdout, "data"), once(probe, "exit")])) as [unknown];
  assert.equal(String(first), "answered\n");
  assert.equal(count, 4);
});
