import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { type TestContext, test } from "node:test";
import { ApiClient } from "../../../src/cli/client.js";
import { ManagementApi } from "../../../src/control/api.js";
import { Cabinet } from "../../../src/control/cabinet.js";
import { EventLog } from "../../../src/control/event-log.js";
import { type CrashReport, FaultBench, type FaultRow, type InjectedFault } from "../../../src/control/fault-bench.js";
import type { StatusReport } from "../../../src/control/types.js";
import { SystemClock } from "../../../src/lib/clock.js";
import { SILENT } from "../../../src/lib/log.js";
import { nextTurn } from "../../../src/lib/next-turn.js";
import { SeededRandom } from "../../../src/lib/prng.js";
import { FakeWorld, fakeLayers } from "./fake-layers.js";

async function serve(t: TestContext, injecting: boolean) {
  const folder = mkdtempSync(path.join(os.tmpdir(), "stripeward-faults-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const world = new FakeWorld(3);
  const clock = new SystemClock();
  const events = new EventLog(clock, SILENT, 50);
  const faults = injecting
    ? new FaultBench({ clock, random: new SeededRandom(1), log: SILENT, volatileCache: false })
    : undefined;
  const plain = fakeLayers(world);
  const layers = faults?.over(plain) ?? plain;
  const cabinet = new Cabinet({
    ...{ node: "chn1", layers, clock, events, exports: world.exports, diskPatterns: [...world.present] },
    care: { spareDelaySeconds: 30, diskScanSeconds: 0 },
    knownDisksFile: path.join(folder, "known.json"),
  });
  await cabinet.open();
  for (const place of world.present) await cabinet.diskAdmin.add({ path: place });
  const ended: string[] = [];
  const api = new ManagementApi({
    ...{ cabinet, events, log: SILENT, faults, endProcess: () => void ended.push("ended") },
    ...{ status: () => ({ node: "chn1" }) as StatusReport, metrics: () => "" },
  });
  const socket = path.join(folder, "s.sock");
  await api.listen(socket, 0o600);
  t.after(() => api.close());
  return { client: new ApiClient(socket), cabinet, events, ended, world };
}

test("faults: set, listed, cleared, each with an event", async (t) => {
  const { client, events } = await serve(t, true);
  const request = { disk: 2, kind: "eio", on: "write", position: 4096, byteCount: 512, hits: 3 };
  const injected = await client.post<InjectedFault>("/v1/faults", { ...request, seed: 4 });
  assert.deepEqual(injected, { disk: 2, path: "/disks/d2", kind: "eio", seed: 4, rotten: [] });
  await client.post("/v1/faults", { disk: 3, kind: "slow", delayMs: 20 });
  await client.post("/v1/faults", { disk: 2, kind: "misdirected" });
  const rows = await client.get<FaultRow[]>("/v1/faults");
  assert.deepEqual(
    rows.map(({ disk, kind, position, delayMs, on, hitsLeft }) => [disk, kind, position, delayMs, on, hitsLeft]),
    [
      [2, "eio", 4096, null, "write", 3],
      [2, "misdirected", null, null, null, null],
      [3, "slow", null, 20, null, null],
    ],
  );
  const kinds = async (query: Record<string, string | number>) =>
    (await client.delete<FaultRow[]>("/v1/faults", query)).map(({ kind }) => kind);
  assert.deepEqual(await kinds({ disk: 2, kind: "eio" }), ["eio"]);
  assert.deepEqual(await kinds({ disk: 3 }), ["slow"]);
  assert.deepEqual(await kinds({}), ["misdirected"]);
  assert.deepEqual(await kinds({}), []);
  const seen = events.last(50).filter(({ kind }) => kind === "fault-injection");
  assert.equal(seen.length, 6);
  assert.equal(seen[0]?.what, "fault eio injected: disk #002");
});

test("faults: a disk that is pulled out is missed at once, and back as soon as the fault is cleared", async (t) => {
  const { client, cabinet, world } = await serve(t, true);
  await cabinet.groupAdmin.create({ name: "g", disks: [1, 2, 3] });
  const state = () => cabinet.disks().find(({ number }) => number === 2)?.state;
  world.present.delete("/disks/d2");
  await client.post("/v1/faults", { disk: 2, kind: "gone" });
  assert.equal(state(), "missing");
  world.present.add("/disks/d2");
  await client.delete("/v1/faults", { disk: 2 });
  assert.equal(state(), "rebuilding");
});

test("faults: of a disk that has left the list it is cleared by its number too", async (t) => {
  const { client, cabinet } = await serve(t, true);
  await client.post("/v1/faults", { disk: 2, kind: "gone" });
  await client.post("/v1/faults", { disk: 3, kind: "slow", delayMs: 5 });
  await cabinet.diskAdmin.remove(2, false);
  assert.deepEqual(
    cabinet.disks().map(({ number }) => number),
    [1, 3],
  );
  await assert.rejects(client.post("/v1/faults", { disk: 2, kind: "eio" }), { code: "ENOENT" });
  const cleared = await client.delete<FaultRow[]>("/v1/faults", { disk: 2 });
  assert.deepEqual(
    cleared.map(({ disk, kind, path }) => [disk, kind, path]),
    [[2, "gone", "/disks/d2"]],
  );
  assert.deepEqual((await client.get<FaultRow[]>("/v1/faults")).length, 1, "those of others stay");
  assert.deepEqual(await client.delete<FaultRow[]>("/v1/faults", { disk: 2 }), []);
  await assert.rejects(client.delete("/v1/faults", { disk: 9 }), { code: "ENOENT" });
});

test("faults: what makes no sense is refused", async (t) => {
  const { client } = await serve(t, true);
  const cases: [object, string, RegExp][] = [
    [{ disk: 9, kind: "gone" }, "ENOENT", /there is no disk #009/],
    [{ disk: 1, kind: "rust" }, "EINVAL", /kind: wants one of gone, eio/],
    [{ disk: 1, kind: "slow" }, "EINVAL", /wants a delay/],
    [{ disk: 1, kind: "torn", delayMs: 3 }, "EINVAL", /only slow/],
    [{ disk: 1, kind: "lost", on: "read" }, "EINVAL", /only eio/],
    [{ disk: 1, kind: "gone", hits: 1 }, "EINVAL", /whole disk/],
    [{ disk: 1, kind: "eio", colour: 1 }, "EINVAL", /colour/],
  ];
  for (const [body, code, message] of cases) await assert.rejects(client.post("/v1/faults", body), { code, message });
});

test("faults: without fault injection every call is ENOTSUP, and nothing ends", async (t) => {
  const { client, ended } = await serve(t, false);
  const refused = { code: "ENOTSUP", message: /fault injection is off/ };
  await assert.rejects(client.get("/v1/faults"), refused);
  await assert.rejects(client.post("/v1/faults", { disk: 1, kind: "gone" }), refused);
  await assert.rejects(client.delete("/v1/faults"), refused);
  await assert.rejects(client.post("/v1/crash", { seed: 1 }), refused);
  assert.deepEqual(ended, []);
});

test("crash: answers with its seed, then the process ends", async (t) => {
  const { client, ended } = await serve(t, true);
  await assert.rejects(client.post("/v1/crash", { mode: "gently" }), { code: "EINVAL" });
  assert.deepEqual(ended, []);
  const report = await client.post<CrashReport>("/v1/crash", { seed: 77 });
  assert.deepEqual([report.seed, report.mode, report.disks.length], [77, "torn", 3]);
  while (ended.length === 0) await nextTurn();
  assert.deepEqual(ended, ["ended"]);
});
