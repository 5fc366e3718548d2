import { deepEqual, equal } from "node:assert/strict";
import { mkdtempSync, readdirSync, readlinkSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { type TestContext, test } from "node:test";
import { FakeWorld, SHRUNK_BYTES } from "./fake-layers.js";
import { furnished } from "./furnished.js";

/** Descriptors of this process on a file. */
function openCount(file: string): number {
  const links = readdirSync("/proc/self/fd").map((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`);
    } catch {
      return "";
    }
  });
  return links.filter((link) => link === file).length;
}

test("group hands: a disk whose lock is watched is let go of with the cabinet", async (t) => {
  const folder = mkdtempSync(path.join(os.tmpdir(), "stripeward-hands-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const file = path.join(folder, "disk");
  writeFileSync(file, "");
  const world = new FakeWorld(2);
  world.present.add(file);
  const { cabinet } = await furnished(t, world, { members: 2 });
  world.labels.set(file, { uuid: "uuid-disk", number: 9, groupUuid: "uuid-elsewhere" });
  await cabinet.groupHands.survey();
  equal(cabinet.groupHands.lockState("uuid-elsewhere"), "free");
  equal(openCount(file), 1);
  await cabinet.close();
  equal(openCount(file), 0);
});

/** A group that was let go while the path to its second disk, on which no label could be read, was held. */
async function letGoWithoutPath(t: TestContext) {
  const world = new FakeWorld(3);
  const { cabinet, group } = await furnished(t, world);
  const hands = cabinet.groupHands;
  await hands.survey();
  const { uuid } = group().describe();
  world.sizes.set("/disks/d2", SHRUNK_BYTES);
  await group().lose(2, "missing");
  await world.clock.advance(10_000);
  await hands.close(uuid);
  deepEqual([...world.open], ["/disks/d2"]);
  world.sizes.delete("/disks/d2");
  return { cabinet, world, hands, uuid };
}

test("group hands: a path that has just come back is there when its group is taken, though it was looked at while it was lost", async (t) => {
  const { cabinet, hands, uuid } = await letGoWithoutPath(t);
  await hands.lock(uuid);
  deepEqual(
    cabinet.disks().map(({ number }) => number),
    [1, 2, 3],
  );
});

test("group hands: a path that comes back to a group of the partner's is not kept locked", async (t) => {
  const { world, hands } = await letGoWithoutPath(t);
  await hands.survey();
  deepEqual([...world.open], []);
});
