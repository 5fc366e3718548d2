import { deepEqual, equal, match, rejects } from "node:assert/strict";
import { closeSync, openSync, writeSync } from "node:fs";
import { type TestContext, test } from "node:test";
import { definePaths, initialiseGroup, refuseWithoutPath, surveyDisks } from "../../../src/cluster/disks.js";
import { openFileDevice } from "../../../src/device/file-device.js";
import { StorageError } from "../../../src/lib/errors.js";
import { SILENT } from "../../../src/lib/log.js";
import { readLabel, writeLabel } from "../../../src/raid/label-io.js";
import { ClusterFixture } from "./fixture.js";

async function places(t: TestContext) {
  const fixture = await ClusterFixture.make(t);
  return { fixture, terminal: fixture.disks, shared: fixture.plan().shared, backup: fixture.plan().backup };
}

test("disks: a shared group is made without a path for anybody, and gets the paths in a step of its own; both can be repeated", async (t) => {
  const { terminal, shared } = await places(t);
  equal(await initialiseGroup(terminal, "primary", shared, 1), "group shared made of disks #001 #002");
  const [first] = await surveyDisks(terminal, shared);
  deepEqual([first?.name, first?.nodes, first?.memberCount], ["shared", [], 2]);
  equal(await initialiseGroup(terminal, "primary", shared, 1), "group shared was there already");
  equal(await definePaths(terminal, "primary", shared, ["chn1", "chn5"]), "path to shared defined for chn1 and chn5");
  const after = await surveyDisks(terminal, shared);
  deepEqual(
    after.map((group) => [group?.uuid === first?.uuid, group?.nodes]),
    [
      [true, ["chn1", "chn5"]],
      [true, ["chn1", "chn5"]],
    ],
  );
  equal(
    await definePaths(terminal, "primary", shared, ["chn1", "chn5"]),
    "the path to shared was defined for chn1 and chn5",
  );
  equal(await initialiseGroup(terminal, "primary", shared, 1), "group shared was there already");
});

test("disks: an initialisation that was cut at any write of a label is done again", async (t) => {
  const { fixture, terminal, shared } = await places(t);
  // Two writes for each of two labels without a group, then two for each with it.
  for (let kept = 0; kept < 8; kept++) {
    for (const name of ["s1", "s2"]) fixture.disk(name);
    let writes = 0;
    const cut: typeof openFileDevice = async (place, options) => {
      const device = await openFileDevice(place, options);
      const writeThrough = device.writeThrough.bind(device);
      device.writeThrough = (sources, position) => {
        if (++writes > kept) throw new StorageError("EIO", "cut");
        return writeThrough(sources, position);
      };
      return device;
    };
    await rejects(initialiseGroup({ ...terminal, open: cut }, "primary", shared, 1), /cut/);
    match(
      await initialiseGroup(terminal, "primary", shared, 1),
      /^group shared (made of disks #001 #002|was there already)$/,
    );
    const found = await surveyDisks(terminal, shared);
    equal(new Set(found.map((group) => group?.uuid)).size, 1);
    equal(found[0]?.name, "shared");
  }
});

test("disks: one that carries other data, is in use, in another group or absent is refused by name, and stays as it was", async (t) => {
  const { fixture, terminal, shared, backup } = await places(t);
  const descriptor = openSync(backup[0]!, "r+");
  writeSync(descriptor, Buffer.from([0x53, 0xef]), 0, 2, 1024 + 56);
  closeSync(descriptor);
  await rejects(initialiseGroup(terminal, "backup", backup, 3), /disk .*b1\.img carries .*ext/);
  const holder = await openFileDevice(shared[1]!, { mode: "read-write-exclusive", log: SILENT });
  await rejects(initialiseGroup(terminal, "primary", shared, 1), /s2\.img is in use by /);
  equal(await readLabel(holder), null);
  await holder.close();
  await initialiseGroup(terminal, "primary", shared, 1);
  await definePaths(terminal, "primary", shared, ["chn1"]);
  await rejects(initialiseGroup(terminal, "backup", shared, 1), /s1\.img belongs to group "shared" already/);
  await rejects(initialiseGroup(terminal, "primary", [shared[0]!], 1), /s1\.img belongs to group "shared" already/);
  await rejects(definePaths(terminal, "backup", shared, ["chn1"]), /s1\.img is not in group "shared-backup"/);
  await rejects(
    initialiseGroup(terminal, "backup", [fixture.place("disks/none.img")], 3),
    /none\.img does not exist|none\.img: does not exist/,
  );
});

test("disks: a node without a path is refused by name", async (t) => {
  const { terminal, shared: primary, backup } = await places(t);
  await initialiseGroup(terminal, "primary", primary, 1);
  await initialiseGroup(terminal, "backup", backup, 3);
  await definePaths(terminal, "primary", primary, ["chn1", "chn5"]);
  await rejects(
    refuseWithoutPath(terminal, "chn1", { primary, backup }),
    /^StorageError: node chn1 has no path to group "shared-backup": define it first$/,
  );
  await definePaths(terminal, "backup", backup, ["chn1", "chn5"]);
  await refuseWithoutPath(terminal, "chn1", { primary, backup });
  await rejects(refuseWithoutPath(terminal, "chn2", { primary, backup }), /node chn2 has no path to group "shared"/);
  // A label that names it on one disk only does not count.
  const device = await openFileDevice(primary[1]!, { mode: "read-write-exclusive", log: SILENT });
  const label = (await readLabel(device))!;
  await writeLabel(device, { ...label, sequence: label.sequence + 1, group: { ...label.group!, nodes: ["chn1"] } });
  await device.close();
  await rejects(refuseWithoutPath(terminal, "chn5", { primary, backup }), /node chn5 has no path to group "shared"/);
  match(await definePaths(terminal, "primary", primary, ["chn1", "chn5"]), /defined/);
});
