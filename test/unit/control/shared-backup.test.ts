import assert from "node:assert/strict";
import path from "node:path";
import { type TestContext, test } from "node:test";
import { BackupAdmin } from "../../../src/control/backup/backup-admin.js";
import { BackupBook } from "../../../src/control/backup/backup-book.js";
import { StateFiles } from "../../../src/control/state-files.js";
import { SeededRandom } from "../../../src/lib/prng.js";
import { bytesOf, piecesOf } from "../../support/backup-fixture.js";
import { refused } from "../../support/namespace-fixture.js";
import { SharedWorld } from "./shared-world.js";

async function node(t: TestContext, withGroup = true) {
  const world = new SharedWorld(2);
  const { cabinet, events } = await world.cabinet(t);
  await world.labelAll(cabinet);
  if (withGroup) await cabinet.shared.create({ disks: [1, 2], backup: false });
  const { shared, fileSystems } = cabinet;
  const admin = new BackupAdmin({
    ...{ node: "chn1", events, clock: world.fake.clock, random: new SeededRandom(4), shared, fileSystems },
    book: new BackupBook(
      path.join(world.folder, "book.json"),
      path.join(world.folder, "book"),
      new StateFiles(world.fake.clock, events),
    ),
  });
  const write = async (name: string, host: string) => {
    const records = await shared.openRecords({ node: name, writer: name });
    records!.upsert("client", "mount", { what: "mount", host, path: "/data" });
    records!.upsert("daemon", "part", { what: "part", name: "NFS", state: "running" });
    await records!.durable();
    await records!.close();
  };
  const back = () => admin.begin({ fileSystem: null, full: false, target: "x", series: "" });
  return { shared, admin, write, back };
}

test("shared backup: the records of all nodes, given back where nothing is", async (t) => {
  const before = await node(t);
  await before.write("chn1", "10.0.0.1");
  await before.write("chn5", "10.0.0.5");
  const { backup, pieces } = before.back();
  const stream = await bytesOf(pieces);
  before.admin.finished(backup, "x", stream.length);
  assert.deepEqual(
    before.admin.rows().map(({ kind, parent, state }) => [kind, parent, state]),
    [["shared", null, "finished"]],
  );

  const after = await node(t);
  await after.write("chn1", "10.9.9.9");
  const { nodes } = await after.admin.restoreShared(piecesOf(stream));
  assert.deepEqual(nodes, [
    { node: "chn1", outcome: "kept", records: 0 },
    { node: "chn5", outcome: "restored", records: 2 },
  ]);
  assert.equal((await after.shared.records("chn1")).client[0]?.value.host, "10.9.9.9", "a node's own are newer");
  const wanted = await before.shared.records("chn5");
  const found = await after.shared.records("chn5");
  for (const kind of ["client", "user", "service", "daemon"] as const) {
    assert.deepEqual(
      found[kind].map(({ key, value }) => [key, value]),
      wanted[kind].map(({ key, value }) => [key, value]),
    );
  }
  const again = await after.admin.restoreShared(piecesOf(stream));
  assert.deepEqual(
    again.nodes.map(({ outcome }) => outcome),
    ["kept", "kept"],
  );
  const cut = stream.subarray(0, 5000);
  await refused("EIO", () => after.admin.restoreShared(piecesOf(cut)));
});

test("shared backup: without a shared group there is nothing to back up", async (t) => {
  const { back, admin } = await node(t, false);
  await refused("ENOENT", () => back());
  assert.equal(admin.isThere(null), false);
});
