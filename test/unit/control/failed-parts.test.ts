import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import http from "node:http";
import os from "node:os";
import path from "node:path";
import { type TestContext, test } from "node:test";
import { ManagementApi } from "../../../src/control/api.js";
import { BackupAdmin } from "../../../src/control/backup/backup-admin.js";
import { BackupBook } from "../../../src/control/backup/backup-book.js";
import { clientsRow } from "../../../src/control/client-rows.js";
import { collectMetrics } from "../../../src/control/collect-metrics.js";
import { DrillBook } from "../../../src/control/drill/drill-book.js";
import { LoopWatch } from "../../../src/control/loop-watch.js";
import { PartHealth } from "../../../src/control/part-health.js";
import { StateFiles } from "../../../src/control/state-files.js";
import { statusReport } from "../../../src/control/status-report.js";
import type { ErrorBody, StatusReport } from "../../../src/control/types.js";
import { SystemClock } from "../../../src/lib/clock.js";
import { SILENT } from "../../../src/lib/log.js";
import { SeededRandom } from "../../../src/lib/prng.js";
import { settle } from "../../support/hand-clock.js";
import { ROOT } from "./furnished.js";
import { SharedWorld } from "./shared-world.js";

const GIB = 1024 ** 3;

/** Every call of the management API, with what is sent. One that is missing here fails the test: a new call is tried with each part failed, too. */
const CALLS: Readonly<Record<string, { readonly path?: string; readonly body?: unknown }>> = {
  "GET /v1/status": {},
  "GET /v1/alive": {},
  "GET /v1/disks": {},
  "GET /v1/groups": {},
  "GET /v1/lus": {},
  "GET /v1/file-systems": {},
  "GET /v1/exports": {},
  "GET /v1/events": { path: "/v1/events?last=10" },
  "GET /v1/events/follow": {},
  "GET /metrics": {},
  "POST /v1/disks": { body: { path: "/disks/d1" } },
  "POST /v1/disks/:disk/spare": { path: "/v1/disks/6/spare", body: { spare: true } },
  "POST /v1/disks/:disk/fail": { path: "/v1/disks/2/fail", body: {} },
  "POST /v1/disks/:disk/replace": { path: "/v1/disks/2/replace", body: { with: 6 } },
  "DELETE /v1/disks/:disk": { path: "/v1/disks/6?force=false" },
  "POST /v1/groups": { body: { name: "h", disks: [6] } },
  "POST /v1/groups/:group/assemble": { path: "/v1/groups/g/assemble", body: {} },
  "POST /v1/tasks/scrub": { body: {} },
  "POST /v1/tasks/rebuild": { body: {} },
  "POST /v1/tasks/grow": { body: {} },
  "POST /v1/lus": { body: { name: "raw", level: 1, sizeBytes: 1 } },
  "POST /v1/lus/:lu/resize": { path: "/v1/lus/data/resize", body: { sizeBytes: GIB } },
  "DELETE /v1/lus/:lu": { path: "/v1/lus/data.meta" },
  "POST /v1/file-systems": { body: { name: "other" } },
  "POST /v1/file-systems/:name/check": { path: "/v1/file-systems/data/check", body: {} },
  "POST /v1/file-systems/:name/remount": { path: "/v1/file-systems/data/remount", body: { readOnly: true } },
  "GET /v1/file-systems/:name/files": { path: "/v1/file-systems/data/files" },
  "GET /v1/locks": {},
  "GET /v1/lu-locks": {},
  "POST /v1/locks/release": { body: { host: "a" } },
  "POST /v1/exports": { body: { path: "/data", client: "10.0.0.0/8" } },
  "DELETE /v1/exports": { path: "/v1/exports?path=/data&client=10.0.0.0/8" },
  "GET /v1/shared": {},
  "POST /v1/shared": { body: { disks: [6], backup: true } },
  "POST /v1/shared/replace": { body: { disk: 4, with: 6 } },
  "POST /v1/shared/partitions": { body: { role: "primary", nodes: ["chn1"] } },
  "POST /v1/shared/stores": { body: { role: "primary", nodes: ["chn1"] } },
  "GET /v1/nodes/:node/records": { path: "/v1/nodes/chn1/records" },
  "GET /v1/faults": {},
  "POST /v1/faults": { body: { disk: 1, kind: "eio" } },
  "DELETE /v1/faults": {},
  "POST /v1/crash": { body: {} },
  "GET /v1/pair": {},
  "POST /v1/pair/takeover": { body: {} },
  "POST /v1/pair/giveback": { body: {} },
  "GET /v1/pair/drills": {},
  "POST /v1/pair/drills": {
    body: {
      ...{ at: "2026-01-01T00:00:00.000Z", from: "chn1", to: "chn2", thereMs: 1, backMs: null, calls: 1 },
      ...{ wrote: false, wrong: [] },
    },
  },
  "GET /v1/backups": {},
  "GET /v1/backups/stream": { path: "/v1/backups/stream?fileSystem=data&full=true&target=x" },
  "POST /v1/backups/:backup/finished": {
    path: `/v1/backups/${"0".repeat(32)}/finished`,
    body: { target: "x", bytes: 1 },
  },
  "POST /v1/backups/:backup/verified": { path: `/v1/backups/${"0".repeat(32)}/verified`, body: {} },
  "POST /v1/backups/restore/check": { path: "/v1/backups/restore/check?fileSystem=data", body: {} },
  "POST /v1/backups/restore": { path: "/v1/backups/restore?fileSystem=data", body: {} },
};

/** Disks 1 to 3 are group g with file system data, 4 and 5 the shared group, 6 is unused. */
async function node(t: TestContext) {
  const folder = mkdtempSync(path.join(os.tmpdir(), "stripeward-parts-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const world = new SharedWorld(6);
  const { cabinet, events } = await world.cabinet(t);
  const stateFiles = new StateFiles(world.fake.clock, events);
  await world.labelAll(cabinet);
  await cabinet.groupAdmin.create({ name: "g", disks: [1, 2, 3] });
  await cabinet.fileSystems.create({ name: "data", level: 5, sizeBytes: GIB / 4, root: ROOT });
  const rule = { path: "/data", client: "10.0.0.0/8", readOnly: false, squash: "root", privilegedPort: true } as const;
  await cabinet.fileSystems.exports.add({ ...rule, anonymousUid: 1, anonymousGid: 1 });
  await cabinet.shared.create({ disks: [4, 5], backup: false });
  const health = new PartHealth();
  health.watch("state-files", () => stateFiles.trouble);
  const loop = new LoopWatch(new SystemClock());
  t.after(() => loop.end());
  const states = path.join(folder, "state");
  const admin = new BackupAdmin({
    ...{ node: "chn1", fileSystems: cabinet.fileSystems, shared: cabinet.shared, events },
    ...{ clock: world.fake.clock, random: new SeededRandom(1) },
    book: new BackupBook(path.join(states, "backups.json"), path.join(states, "backups"), stateFiles),
  });
  const service = { host: "127.0.0.1", nfsPort: 2049, nbdPort: null, httpPort: null };
  const memory = { dataCacheBytes: 1, metadataCacheBytes: 1 };
  const config = { node: "chn1", management: { socket: path.join(folder, "s.sock"), mode: 0o600 }, memory };
  const refusals = { connections: 0, strangers: 0, idle: 0, record: 0, incomplete: 0, unread: 0 };
  const datagrams = { received: 0, malformed: 0, busy: 0, withheld: 0, unsent: 0 };
  const counted = { admitted: 0, strangers: 0, addresses: 0, requestBytes: 0, replyBytes: 0, refusals };
  const nfs = { procedures: [], connections: 0, receivedBytes: 0, datagrams, clients: counted };
  const clients = clientsRow(nfs);
  const about = {
    cabinet,
    config,
    version: "1",
    service,
    clients,
    upSeconds: 1,
    loop,
    pair: null,
    network: [],
    health,
  };
  const io = { bouncedTransfers: 0, strayReads: 0 };
  const api = new ManagementApi({
    ...{ cabinet, events, log: SILENT, backups: { admin, schedules: () => [] } },
    drills: new DrillBook(path.join(states, "drills.json"), events, stateFiles),
    status: () => statusReport(about),
    metrics: () => collectMetrics({ cabinet, health, nfs, io, loop, upSeconds: 1 }),
  });
  await api.listen(config.management.socket, 0o600);
  t.after(() => api.close());
  const ask = (route: string) => call(config.management.socket, route);
  return { world, cabinet, events, health, api, ask, states, stateFiles };
}

type Node = Awaited<ReturnType<typeof node>>;

/** The raw answer; of one without an end what comes first. */
function call(socket: string, route: string): Promise<{ code: number; text: string }> {
  const [method = "", pattern = ""] = route.split(" ");
  const { path: target = pattern, body } = CALLS[route] ?? {};
  return new Promise((resolve, reject) => {
    const headers = body === undefined ? {} : { "content-type": "application/json" };
    const request = http.request({ socketPath: socket, method, path: target, headers }, async (response) => {
      let text = "";
      try {
        for await (const piece of response.setEncoding("utf8")) {
          text += piece;
          if (route.endsWith("/follow")) break;
        }
      } catch {
        // Broken off: its head was the answer.
      }
      resolve({ code: response.statusCode ?? 0, text });
    });
    request.once("error", reject);
    request.end(body === undefined ? undefined : JSON.stringify(body));
  });
}

/** Each part, how it fails, and what status and metrics say of that. */
const PARTS: Readonly<
  Record<string, { fail: (node: Node) => Promise<void>; says: RegExp; state: string; gauge: string }>
> = {
  "a file system": {
    fail: async ({ world: { fake } }) => {
      fake.stopped.add("data");
      fake.raise({ kind: "failed", detail: { error: "the file system has stopped", cause: "disk full" } });
    },
    says: /file system data is not served: a commit could not be written \(disk full\)/,
    ...{ state: "failed", gauge: 'stripeward_file_system_up{file_system="data"} 0' },
  },
  "a group": {
    fail: async ({ world: { fake } }) => {
      await fake.live.get("g")!.lose(1, "failed");
      await fake.live.get("g")!.lose(2, "failed");
      fake.stopped.add("data");
      fake.raise({ kind: "failed", detail: { error: "the file system has stopped", cause: "EIO" } });
    },
    says: /group g has failed: disk #001 is failed[,;] disk #002 is failed/,
    ...{ state: "failed", gauge: 'stripeward_group_state{group="g"} 2' },
  },
  "the shared LU": {
    fail: async ({ world, cabinet }) => {
      for (const place of ["/disks/d4", "/disks/d5"]) {
        world.devices.get(place)!.fail("ENXIO");
        world.fake.present.delete(place);
      }
      await cabinet.shared.tend();
      await settle();
    },
    says: /disk #004/,
    ...{ state: "degraded", gauge: 'stripeward_part_failed{part="shared-group"} 1' },
  },
  "the state directory": {
    fail: async ({ states, stateFiles }) => {
      // Neither root nor anybody else can make a folder there.
      writeFileSync(states, "");
      stateFiles.writeJson(path.join(states, "backups.json"), "the list of backups", []);
    },
    says: /the list of backups cannot be written \(.*\): it is kept in memory and tried again/,
    ...{ state: "degraded", gauge: 'stripeward_part_failed{part="state-files"} 1' },
  },
  "a disk that has vanished": {
    fail: async ({ world: { fake } }) => {
      for (const place of ["/disks/d1", "/disks/d6"]) fake.present.delete(place);
      await fake.live.get("g")!.lose(1, "missing");
    },
    says: /group g has lost its redundancy: disk #001 is missing/,
    ...{ state: "degraded", gauge: 'stripeward_group_state{group="g"} 1' },
  },
  "the record keeper": {
    fail: async ({ health }) => health.watch("records", () => "the records of node chn1 cannot be written: EIO"),
    says: /the records of node chn1 cannot be written/,
    ...{ state: "degraded", gauge: 'stripeward_part_failed{part="records"} 1' },
  },
};

test("failed parts: every management call is tried", async (t) => {
  const { api } = await node(t);
  assert.deepEqual([...api.routes].sort(), Object.keys(CALLS).sort());
});

const REPORTS = [
  ...["GET /v1/disks", "GET /v1/groups", "GET /v1/lus", "GET /v1/file-systems", "GET /v1/exports", "GET /v1/locks"],
  ...["GET /v1/lu-locks", "GET /v1/shared", "GET /v1/backups", "GET /v1/pair/drills", "GET /v1/events"],
];

for (const [part, { fail, says, state, gauge }] of Object.entries(PARTS)) {
  test(`failed parts: with ${part} failed every report is given, and shows it`, async (t) => {
    const here = await node(t);
    await fail(here);
    const { code, text } = await here.ask("GET /v1/status");
    assert.equal(code, 200, text);
    const status = JSON.parse(text) as StatusReport;
    assert.equal(status.state, state);
    assert.match(status.warnings.join("; "), says);
    const metrics = await here.ask("GET /metrics");
    assert.equal(metrics.code, 200, metrics.text);
    assert.ok(metrics.text.includes(gauge), metrics.text);
    for (const route of REPORTS) assert.equal((await here.ask(route)).code, 200, route);
  });

  test(`failed parts: with ${part} failed every other call does its work or says in a line why not`, async (t) => {
    const here = await node(t);
    await fail(here);
    for (const route of here.api.routes.filter((one) => !REPORTS.includes(one))) {
      const { code, text } = await here.ask(route);
      if (code === 200) continue;
      const { error } = JSON.parse(text) as ErrorBody;
      assert.ok(error.message.length > 5 && !error.message.includes("\n"), `${route}: ${text}`);
      assert.doesNotMatch(error.message, /internal error/, route);
    }
    assert.equal((await here.ask("GET /v1/status")).code, 200);
  });
}

test("failed parts: the exports of a file system that has stopped are shown as not served, and its clients wait", async (t) => {
  const { world, cabinet, ask } = await node(t);
  await PARTS["a file system"]!.fail({ world } as Node);
  assert.deepEqual(
    cabinet.fileSystems.exports.rows().map(({ path: place, client, state }) => [place, client, state]),
    [["/data", "10.0.0.0/8", "not-served"]],
  );
  assert.deepEqual([world.fake.published.size, world.fake.unserved], [0, ["data"]]);
  const check = await ask("POST /v1/file-systems/:name/check");
  assert.deepEqual(
    [check.code, (JSON.parse(check.text) as ErrorBody).error.message],
    [500, `file system data is not served: ${cabinet.fileSystems.rows()[0]!.reason}`],
  );
});
