import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import http from "node:http";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { type TestContext, test } from "node:test";
import { ApiClient } from "../../../src/cli/client.js";
import { type ApiOptions, ManagementApi } from "../../../src/control/api.js";
import { Cabinet } from "../../../src/control/cabinet.js";
import { collectMetrics } from "../../../src/control/collect-metrics.js";
import { EventLog } from "../../../src/control/event-log.js";
import { LoopWatch } from "../../../src/control/loop-watch.js";
import { renderMetrics, samplesOf } from "../../../src/control/metrics.js";
import { PartHealth } from "../../../src/control/part-health.js";
import type { DiskRow, EventRow, LuRow, StatusReport, TaskReport } from "../../../src/control/types.js";
import { SystemClock } from "../../../src/lib/clock.js";
import { SILENT } from "../../../src/lib/log.js";
import { LIMITS } from "../../../src/limits.js";
import type { NfsStatistics } from "../../../src/protocol/server.js";
import { HandClock } from "../../support/hand-clock.js";
import { FakeWorld, fakeLayers } from "./fake-layers.js";
import { furnished } from "./furnished.js";

async function serve(t: TestContext, eventsMax = 50, more: Partial<ApiOptions> = {}) {
  const folder = mkdtempSync(path.join(os.tmpdir(), "stripeward-api-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const world = new FakeWorld(3);
  const events = new EventLog(new SystemClock(), SILENT, eventsMax);
  const cabinet = new Cabinet({
    ...{ node: "chn1", layers: fakeLayers(world), clock: world.clock, events, exports: world.exports },
    care: { spareDelaySeconds: 30, diskScanSeconds: 10 },
    ...{ diskPatterns: [...world.present, "/disks/d4", "/disks/d5"], knownDisksFile: path.join(folder, "known.json") },
  });
  await cabinet.open();
  const status = () => ({ node: "chn1" }) as StatusReport;
  const metrics = () => renderMetrics(samplesOf("process", { residentBytes: 5 }));
  const make = () => new ManagementApi({ cabinet, events, log: SILENT, status, metrics, ...more });
  const api = make();
  const socket = path.join(folder, "s.sock");
  await api.listen(socket, 0o600);
  t.after(() => api.close());
  return { world, folder, socket, events, make, client: new ApiClient(socket) };
}

/** The raw answer: status and body. */
function ask(socket: string, method: string, target: string, body?: string): Promise<{ code: number; text: string }> {
  return new Promise((resolve, reject) => {
    const headers = body === undefined ? {} : { "content-type": "application/json" };
    const request = http.request({ socketPath: socket, method, path: target, headers }, async (response) => {
      let text = "";
      for await (const piece of response.setEncoding("utf8")) text += piece;
      resolve({ code: response.statusCode ?? 0, text });
    });
    request.once("error", reject);
    request.end(body);
  });
}

test("api: the socket is closed to others, and a second daemon on it is refused", async (t) => {
  const { socket, make } = await serve(t);
  assert.equal(statSync(socket).mode & 0o777, 0o600);
  await assert.rejects(make().listen(socket, 0o600), /another daemon is serving the management socket/);
});

test("api: a stale socket is taken over, another kind of file is not", async (t) => {
  const { folder, make } = await serve(t);
  const stale = path.join(folder, "stale.sock");
  const server = net.createServer().listen(stale);
  await new Promise((resolve) => server.once("listening", resolve));
  // A killed process leaves its socket file; closing the descriptor behind Node's back plays that.
  const handle = (server as unknown as { _handle: { fd: number } })._handle;
  assert.ok(handle.fd > 0);
  const { linkSync } = await import("node:fs");
  linkSync(stale, `${stale}.kept`);
  await new Promise((resolve) => server.close(resolve));
  const second = make();
  await second.listen(`${stale}.kept`, 0o600);
  await second.close();
  const plain = path.join(folder, "plain");
  writeFileSync(plain, "");
  await assert.rejects(make().listen(plain, 0o600), /is in the way: it is not a socket/);
});

test("api: from disks to a file system over the socket, as the command line does", async (t) => {
  const { client } = await serve(t);
  for (const number of [1, 2, 3]) {
    const disk = await client.post<DiskRow>("/v1/disks", { path: `/disks/d${number}` });
    assert.equal(disk.number, number);
  }
  await client.post("/v1/groups", { name: "g", disks: [1, 2, 3] });
  await client.post("/v1/lus", { name: "raw", level: 1, sizeBytes: 1 });
  await client.delete("/v1/lus/raw");
  await client.post("/v1/file-systems", { name: "data" });
  const report = await client.post<{ clean: boolean }>("/v1/file-systems/data/check", {});
  assert.equal(report.clean, true);
  await client.post("/v1/exports", { path: "/data", client: "127.0.0.1" });
  assert.equal((await client.get<unknown[]>("/v1/exports")).length, 1);
  await client.delete("/v1/exports", { path: "/data" });
  const page = await client.get<{ next: string }>("/v1/file-systems/data/files");
  assert.equal(page.next, "b");
});

test("api: a disk's life and a group's background work over the socket", async (t) => {
  const { client, world } = await serve(t);
  for (const number of [4, 5]) world.present.add(`/disks/d${number}`);
  for (const number of [1, 2, 3, 4]) await client.post("/v1/disks", { path: `/disks/d${number}` });
  await client.post("/v1/groups", { name: "g", disks: [1, 2, 3] });
  await client.post("/v1/disks/4/spare", { spare: true });
  await client.post("/v1/disks/2/fail", {});
  const rebuild = await client.post<TaskReport>("/v1/tasks/rebuild", {});
  assert.deepEqual([rebuild.begun, rebuild.task?.kind, rebuild.task?.disk], [false, "rebuild", 4]);
  world.live.get("g")!.finish("rebuild");
  assert.equal((await client.delete<DiskRow>("/v1/disks/2")).path, "/disks/d2");
  await client.post("/v1/disks", { path: "/disks/d5" });
  assert.equal((await client.post<TaskReport>("/v1/tasks/grow", { disk: 2 })).groupState, "clean");
  await client.post("/v1/disks/1/fail", {});
  assert.equal((await client.post<DiskRow>("/v1/disks", { path: "/disks/d2", force: true })).number, 5);
  assert.equal((await client.post<DiskRow>("/v1/disks/1/replace", { with: 5 })).group, "g");
  world.live.get("g")!.finish("rebuild");
  assert.equal((await client.post<TaskReport>("/v1/tasks/scrub", { heal: false })).begun, true);
  assert.equal((await client.post<TaskReport>("/v1/tasks/scrub", { action: "cancel" })).task?.state, "cancelled");
  assert.equal((await client.post<TaskReport>("/v1/tasks/scrub", { everySeconds: 60 })).scrub.everySeconds, 60);
  await client.post("/v1/lus", { name: "raw", level: 1, sizeBytes: 1 });
  assert.equal((await client.post<LuRow>("/v1/lus/raw/resize", { sizeBytes: "max" })).name, "raw");
  await assert.rejects(client.post("/v1/groups/g/assemble", {}), /group g is assembled and clean/);
});

function quietNfs(): NfsStatistics {
  const refusals = { connections: 0, strangers: 0, idle: 0, record: 0, incomplete: 0, unread: 5 };
  const datagrams = { received: 7, malformed: 1, busy: 2, withheld: 3, unsent: 4 };
  const clients = { admitted: 1, strangers: 2, addresses: 3, requestBytes: 30, replyBytes: 40, refusals };
  return { procedures: [], connections: 3, receivedBytes: 10, datagrams, clients };
}

test("metrics: disks, tasks, scrubs, and how late the event loop was", async (t) => {
  const world = new FakeWorld(4);
  const { cabinet, group } = await furnished(t, world);
  await cabinet.diskAdmin.add({ path: "/disks/d4", spare: true });
  group().errors.set(2, { read: 3, write: 0, checksum: 1, repaired: 4 });
  group().slow.add(1);
  await cabinet.taskAdmin.scrub({});
  group().change("scrub", { doneBytes: 250 });
  const clock = new HandClock();
  const loop = new LoopWatch(clock);
  clock.jump(17);
  await clock.advance(0);
  const text = collectMetrics({
    cabinet,
    health: new PartHealth(),
    nfs: quietNfs(),
    io: { bouncedTransfers: 3, strayReads: 0 },
    loop,
    upSeconds: 1,
  });
  for (const line of [
    'disk_state{disk="002",group="g",state="online"} 1',
    "device_bounced_transfers_total 3",
    'client_connections{kind="stranger"} 2',
    'client_bytes{kind="received"} 10',
    'client_bytes{kind="queued"} 20',
    'client_bytes{kind="lent"} 40',
    'client_refusals_total{kind="unread"} 5',
    'disk_state{disk="004",state="spare"} 1',
    'disk_slow{disk="001",group="g"} 1',
    'disk_errors_total{disk="002",group="g",kind="read"} 3',
    'disk_errors_total{disk="002",group="g",kind="checksum"} 1',
    'disk_repaired_blocks_total{disk="002",group="g"} 4',
    'task_running{group="g",kind="scrub"} 1',
    'task_done_bytes{group="g",kind="scrub"} 250',
    'task_total_bytes{group="g",kind="scrub"} 1000',
    'event_loop_delay_seconds{quantile="1"} 0.012',
    "event_loop_delay_longest_seconds 0.012",
    'event_loop_delays_total{over="0.01"} 1',
    'event_loop_delays_total{over="0.02"} 0',
    'group_bitmap_writes_total{group="g"} 2',
    "nfs_datagrams_total 7",
    'nfs_datagrams_dropped_total{reason="withheld"} 3',
  ]) {
    assert.ok(text.includes(`\nstripeward_${line}\n`), line);
  }
});

test("api: every mistake has the one shape of an error", async (t) => {
  const { socket } = await serve(t);
  const cases: [string, string, string | undefined, number, RegExp][] = [
    ["GET", "/v1/nothing", undefined, 404, /no such call: GET \/v1\/nothing/],
    ["POST", "/v1/disks", "{", 400, /JSON/],
    ["POST", "/v1/disks", '{"path":"d1"}', 400, /path: wants an absolute path/],
    ["POST", "/v1/disks", '{"path":"/disks/d1","colour":1}', 400, /colour/],
    ["POST", "/v1/disks", '{"path":"/nowhere"}', 404, /\/nowhere is not there/],
    ["POST", "/v1/groups", '{"name":"a b","disks":[1,2]}', 400, /name: wants a name of letters/],
    ["POST", "/v1/groups", '{"name":"g","disks":[1]}', 400, /disks: wants at least two disks/],
    ["POST", "/v1/file-systems", '{"name":"x"}', 404, /there is no group yet/],
    ["POST", "/v1/file-systems/x/check", "{}", 404, /there is no file system x/],
    ["POST", "/v1/exports", '{"path":"/x","client":"300.1.1.1"}', 400, /client: wants an address or a network/],
    ["POST", "/v1/exports", '{"path":"/x/y","client":"10.0.0.1"}', 400, /path: wants \/ and the name/],
    ["POST", "/v1/disks/x/fail", "{}", 400, /disk: wants a disk number/],
    ["POST", "/v1/disks/9/fail", "{}", 404, /there is no disk #009/],
    ["POST", "/v1/disks/9/replace", '{"with":"d1"}', 400, /with: wants an absolute path/],
    ["DELETE", "/v1/disks/9?force=maybe", undefined, 400, /force: wants true or false/],
    ["POST", "/v1/tasks/rebuild", '{"action":"cancel"}', 400, /action/],
    ["POST", "/v1/tasks/scrub", '{"everySeconds":-1}', 400, /everySeconds/],
    ["POST", "/v1/tasks/grow", "{}", 404, /there is no group yet/],
    ["POST", "/v1/groups/g/assemble", "{}", 404, /there is no group g/],
    ["POST", "/v1/lus/raw/resize", '{"sizeBytes":0}', 400, /sizeBytes: wants a size in bytes/],
    ["DELETE", "/v1/exports?path=/x", undefined, 404, /there is no file system x/],
    ["POST", "/v1/disks", `{"path":"/${"x".repeat(70_000)}"}`, 413, /large/i],
  ];
  for (const [method, target, body, code, message] of cases) {
    const answer = await ask(socket, method, target, body);
    assert.equal(answer.code, code, `${method} ${target}: ${answer.text}`);
    const { error } = JSON.parse(answer.text) as { error: { code: string; message: string } };
    assert.match(error.code, /^E[A-Z]+$/);
    assert.match(error.message, message);
  }
});

test("api: events are a bounded ring and can be followed", async (t) => {
  const { client, events } = await serve(t);
  for (let i = 0; i < 60; i++) events.add({ severity: "info", kind: "test", what: `event ${i}` });
  const rows = await client.get<EventRow[]>("/v1/events");
  assert.equal(rows.length, 50);
  assert.equal(rows.at(-1)?.what, "event 59");
  const seen: string[] = [];
  const followed = new Promise<void>((resolve) => {
    const onLine = (line: string) => {
      seen.push((JSON.parse(line) as EventRow).what);
      if (seen.length === 1) events.add({ severity: "warning", kind: "test", what: "later" });
      if (seen.length === 2) resolve();
    };
    client.follow("/v1/events/follow", { last: 1 }, onLine).catch(() => {});
  });
  await followed;
  assert.deepEqual(seen, ["event 59", "later"]);
});

test("api: metrics are Prometheus text", async (t) => {
  const { socket } = await serve(t);
  const { text } = await ask(socket, "GET", "/metrics");
  assert.equal(text, "# TYPE stripeward_process_resident_bytes gauge\nstripeward_process_resident_bytes 5\n");
});

test("metrics: counters, labels and their escapes", () => {
  const text = renderMetrics([
    { name: "reads_total", value: 1, labels: { group: 'a"b\\' } },
    { name: "reads_total", value: 2, labels: { group: "c" } },
  ]);
  assert.equal(
    text,
    '# TYPE stripeward_reads_total counter\nstripeward_reads_total{group="a\\"b\\\\"} 1\nstripeward_reads_total{group="c"} 2\n',
  );
});

test("client: no daemon is one clear sentence", async () => {
  await assert.rejects(
    new ApiClient("/nonexistent/x.sock").get("/v1/status"),
    /no daemon answers at \/nonexistent\/x\.sock/,
  );
});

test("api: a follower that does not read, or hangs up, is dropped and disturbs nobody", async (t) => {
  const { socket, events, client } = await serve(t, 4096);
  const long = "x".repeat(2_000);
  const add = () => events.add({ severity: "info", kind: "noise", what: long });
  for (let i = 0; i < 2_000; i++) add();
  // The last events alone are more than is kept for one that does not read.
  for (let i = 0; i < 4; i++) {
    const follower = net.connect(socket);
    follower.on("error", () => {});
    follower.pause();
    follower.write("GET /v1/events/follow HTTP/1.1\r\nhost: x\r\n\r\n");
    if (i % 2 === 1) setImmediate(() => follower.destroy());
    await client.get("/v1/status");
    for (let j = 0; j < 50; j++) add();
    follower.destroy();
  }
  for (let i = 0; i < 2_000; i++) add();
  assert.equal((await client.get<StatusReport>("/v1/status")).node, "chn1");
});

test("api: an error of a file is answered like any other", async (t) => {
  const missing = () => readFileSync("/nonexistent/file", "utf8");
  const { socket } = await serve(t, 50, { metrics: missing });
  const { code, text } = await ask(socket, "GET", "/metrics");
  assert.equal(code, 500);
  assert.match(text, /ENOENT: no such file/);
});

test("api: connections are bounded; one more is closed, and those that are there are served", async (t) => {
  const { socket, client } = await serve(t);
  await client.get("/v1/disks");
  const open: net.Socket[] = [];
  t.after(() => open.forEach((one) => void one.destroy()));
  const closed = () => open.filter(({ destroyed, readableEnded }) => destroyed || readableEnded).length;
  for (let i = 0; i < LIMITS.managementConnectionsMax + 6; i++) {
    const one = net.connect(socket).resume();
    one.on("error", () => {});
    open.push(one);
    await new Promise((resolve) => one.once("connect", resolve).once("close", resolve));
  }
  while (closed() < 6) await new Promise((resolve) => setTimeout(resolve, 5));
  open[0]!.destroy();
  while (closed() < 7) await new Promise((resolve) => setTimeout(resolve, 5));
  assert.deepEqual(await ask(socket, "GET", "/v1/disks").then(({ code }) => code), 200);
});
