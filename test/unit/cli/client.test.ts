import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import http from "node:http";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { test } from "node:test";
import { ApiClient } from "../../../src/cli/client.js";

const folder = mkdtempSync(path.join(os.tmpdir(), "client-"));
test.after(() => rmSync(folder, { recursive: true }));
const PATIENCE = { askMs: 50, silentMs: 200 };

test("client: a daemon that is stopped takes connections: that is said after a while", {
  timeout: 20_000,
}, async (t) => {
  const socket = path.join(folder, "stopped");
  const server = net.createServer((peer) => peer.on("error", () => {}));
  await new Promise<void>((resolve) => server.listen(socket, resolve));
  t.after(() => server.close());
  await rejects(new ApiClient(socket, PATIENCE).get("/v1/status"), {
    name: "CliError",
    message: `the daemon at ${socket} takes connections and answers nothing: it is stopped (SIGSTOP) or hangs; look at its process`,
  });
});

test("client: a call that takes its time is waited for as long as the daemon answers other calls", async (t) => {
  const socket = path.join(folder, "busy");
  let asked = 0;
  let answer = (): void => {};
  const server = http.createServer((request, reply) => {
    // Also a daemon of an earlier version, which does not know the call.
    if (request.url !== "/v1/alive") answer = () => void reply.end('{"done":true}');
    else reply.writeHead(404).end();
    if (request.url === "/v1/alive" && ++asked === 8) answer();
  });
  await new Promise<void>((resolve) => server.listen(socket, resolve));
  t.after(() => server.close());
  deepEqual(await new ApiClient(socket, PATIENCE).get("/v1/long"), { done: true });
  equal(asked, 8);
  ok(asked * PATIENCE.askMs > PATIENCE.silentMs, "longer than a silent daemon would have been waited for");
});
