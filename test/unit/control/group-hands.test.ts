import { equal } from "node:assert/strict";
import { mkdtempSync, readdirSync, readlinkSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { test } from "node:test";
import { FakeWorld } from "./fake-layers.js";
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
