import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { test } from "node:test";
import { FollowerKeeper } from "../../../src/control/follower-keeper.js";
import { MemoryDevice } from "../../../src/device/memory-device.js";
import { SILENT } from "../../../src/lib/log.js";
import { SeededRandom } from "../../../src/lib/prng.js";
import { GIB } from "../../../src/lib/units.js";
import { HandClock, settle } from "../../support/hand-clock.js";

test("follower: a disk that does not answer holds a takeover up for two seconds, and then there is no copy", async (t) => {
  const folder = mkdtempSync(path.join(os.tmpdir(), "stripeward-follower-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const clock = new HandClock();
  let reads = 0;
  const silent = new MemoryDevice({ name: "silent", sizeBytes: GIB, random: new SeededRandom(1) });
  silent.read = () => {
    reads++;
    return new Promise(() => {});
  };
  const keeper = new FollowerKeeper({
    ...{ clock, log: SILENT, folder, prepare: () => {} },
    open: async () => silent,
    groups: () => new Map([["g", { paths: ["/disks/d1"], taking: false }]]),
  });
  keeper.start();
  await clock.advance(300);
  assert.ok(reads > 0, "it looks");
  let taken: unknown = "waits";
  void keeper.take("g", "lu", 0).then((pages) => {
    taken = pages;
  });
  await clock.advance(1_900);
  assert.equal(taken, "waits");
  await clock.advance(200);
  await settle();
  assert.equal(taken, null);
});
