import assert from "node:assert/strict";
import { mkdtempSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { type TestContext, test } from "node:test";
import { DiskSight } from "../../../src/control/disk-sight.js";
import { openFileDevice } from "../../../src/device/file-device.js";
import { SystemClock } from "../../../src/lib/clock.js";
import { SILENT } from "../../../src/lib/log.js";
import { SeededRandom } from "../../../src/lib/prng.js";
import { MIB } from "../../../src/lib/units.js";
import { Arena } from "../../../src/parity/arena.js";
import { initDisk } from "../../../src/raid/label-io.js";
import { createRaidGroup } from "../../../src/raid/open-group.js";
import { SMALL_BUFFERS } from "../../model/raid-rig.js";

/** A group on files that nobody has open. */
async function closedGroup(t: TestContext): Promise<string[]> {
  const folder = mkdtempSync(path.join(os.tmpdir(), "stripeward-sight-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const paths = [1, 2, 3].map((number) => path.join(folder, `disk${number}`));
  const random = new SeededRandom(1);
  const disks = [];
  for (const [i, file] of paths.entries()) {
    writeFileSync(file, "");
    truncateSync(file, 40 * MIB);
    const device = await openFileDevice(file, { mode: "read-write-exclusive", log: SILENT });
    disks.push(await initDisk(device, { number: i + 1, random }));
  }
  const [clock, arena] = [new SystemClock(), new Arena({ byteCount: 12 * MIB })];
  const environment = { arena, clock, random, log: SILENT, epoch: () => 1, guard: () => {}, buffers: SMALL_BUFFERS };
  const group = await createRaidGroup(disks, { name: "g" }, environment);
  await group.close();
  return paths;
}

const sight = new DiskSight((place) => openFileDevice(place, { mode: "read-only", log: SILENT }));

test("disk sight: a path that was cut to a part of its size is of no use, and is again with all of it", async (t) => {
  const [file = ""] = await closedGroup(t);
  assert.equal(await sight.sees(file), true);
  for (const part of [0.9, 0.5, 0.1, 0]) {
    const { size } = statSync(file);
    truncateSync(file, Math.round(size * part));
    assert.equal(await sight.sees(file), false, `${part} of it`);
    truncateSync(file, size);
    assert.equal(await sight.sees(file), part > 0, "as large as it was");
  }
});

test("disk sight: what is no member any more, or not there, is not seen", async (t) => {
  const [file = ""] = await closedGroup(t);
  writeFileSync(file, Buffer.alloc(40 * MIB));
  assert.equal(await sight.sees(file), false);
  rmSync(file);
  assert.equal(await sight.sees(file), false);
});
