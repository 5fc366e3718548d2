import { deepEqual, equal, match } from "node:assert/strict";
import { test } from "node:test";
import { PartnerRecords } from "../../../src/control/partner-records.js";
import { settle } from "../../support/hand-clock.js";
import { SharedWorld } from "./shared-world.js";

const awake = setInterval(() => {}, 1000);
test.after(() => clearInterval(awake));

test("partner's records: after a takeover they say that the node is gone, and it writes them again when it is back", async (t) => {
  const world = new SharedWorld(2);
  const { cabinet, events } = await world.cabinet(t);
  await world.labelAll(cabinet);
  await cabinet.shared.create({ disks: [1], backup: false });
  await cabinet.shared.create({ disks: [2], backup: true });
  // It dies with its partition open.
  const partner = await world.cabinet(t);
  const theirs = await partner.cabinet.shared.openRecords({ node: "chn5", writer: "chn5" });
  theirs!.upsert("service", "service nfs", { what: "service", name: "nfs", state: "running" });
  theirs!.upsert("service", "address nfs", { what: "address", name: "nfs", host: "127.0.0.2", port: 2049 });
  theirs!.upsert("daemon", "part daemon", { what: "part", name: "daemon", state: "running" });
  theirs!.upsert("daemon", "part group g", { what: "part", name: "group g", state: "clean" });
  theirs!.upsert("client", "mount a /data", { what: "mount", host: "a", path: "/data" });
  await theirs!.durable();

  let standsIn = false;
  const { clock } = world.fake;
  const records = new PartnerRecords({
    ...{ node: "chn1", partner: "chn5", clock, events, standsIn: () => standsIn },
    take: () => cabinet.shared.openRecords({ node: "chn5", writer: "chn1", take: true }),
  });
  t.after(() => records.end());
  const taken = async () => {
    events.add({ severity: "warning", kind: "group-taken", what: "group g is served by chn1" });
    await clock.advance(4_000);
    await settle();
  };
  const state = async (key: string) =>
    [(await cabinet.shared.records("chn5")).service, (await cabinet.shared.records("chn5")).daemon]
      .flat()
      .find((row) => row.key === key)?.value.state;
  await taken();
  equal(await state("service nfs"), "running", "it is heard: it says itself how it is");

  standsIn = true;
  await taken();
  for (let i = 0; i < 100 && (await state("service nfs")) === "running"; i++)
    await new Promise((r) => setTimeout(r, 10));
  equal(await state("service nfs"), "stopped");
  match(String(await state("part daemon")), /^gone: chn1 took over at \d{4}-/);
  equal(await state("part group g"), "served by chn1");
  const report = await cabinet.shared.records("chn5");
  deepEqual(
    [report.client.map(({ key }) => key), report.service.map(({ key }) => key)],
    [["mount a /data"], ["service nfs"]],
  );

  theirs!.upsert("client", "mount b /data", { what: "mount", host: "b", path: "/data" });
  await theirs!.durable().then(
    () => Promise.reject(new Error("it wrote after it had been declared dead")),
    (error: { code?: string }) => equal(error.code, "ESTALE"),
  );
  await theirs!.close().catch(() => {});
  await records.end();
  const back = await cabinet.shared.openRecords({ node: "chn5", writer: "chn5" });
  deepEqual(
    back!.list("client").map(({ key }) => key),
    ["mount a /data"],
  );
  await back!.close();
});
