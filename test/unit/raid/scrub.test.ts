import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { test } from "node:test";
import { MemoryDevice } from "../../../src/device/memory-device.js";
import { SystemClock } from "../../../src/lib/clock.js";
import { isStorageError, StorageError } from "../../../src/lib/errors.js";
import { SILENT } from "../../../src/lib/log.js";
import { nextTurn } from "../../../src/lib/next-turn.js";
import { SeededRandom } from "../../../src/lib/prng.js";
import { BLOCK_BYTES, type LuByte, MIB } from "../../../src/lib/units.js";
import { initDisk } from "../../../src/lu/group.js";
import { Arena } from "../../../src/parity/arena.js";
import type { RaidGroup } from "../../../src/raid/group.js";
import { createRaidGroup } from "../../../src/raid/open-group.js";
import { SMALL_BUFFERS } from "../../model/raid-rig.js";
import { EVERY_LAYOUT, FakeInspector, ScrubFixture } from "../../support/scrub-fixture.js";

const LATE = 3 * MIB + 7 * BLOCK_BYTES;

function pauseOfDisks(): Promise<void> {
  return nextTurn();
}

/** Disks that take their time, so that a test can act between two steps. */
async function slowFixture(level: 1 | 5, members: number): Promise<ScrubFixture> {
  const all = await new ScrubFixture(level, members).start();
  all.rig.before = (operation) => (operation === "read" ? pauseOfDisks() : undefined);
  return all;
}

for (const [level, members] of EVERY_LAYOUT) {
  const name = `scrub: RAID-${level} on ${members}`;

  test(`${name}: paused it does nothing, resumed it goes on where it was`, async () => {
    const all = await slowFixture(level, members);
    all.rot(all.placeOf(LATE));
    await all.group.scrub(all.options());
    await all.under();
    await all.group.pauseTask("scrub");
    for (let i = 0; i < 50; i++) await pauseOfDisks();
    const { state, doneBytes, totalBytes } = all.task();
    equal(state, "paused");
    ok(doneBytes > 0 && doneBytes < totalBytes);
    for (let i = 0; i < 50; i++) await pauseOfDisks();
    equal(all.task().doneBytes, doneBytes);
    equal(all.group.describe().scrub.state, "paused");
    await all.group.resumeTask("scrub");
    equal(all.group.describe().scrub.state, "running");
    const task = await all.ended();
    deepEqual([task.state, task.found, task.healed], ["done", 1, 1]);
    equal(all.inspector.closed, 1);
    await all.group.close();
  });

  test(`${name}: after a stop it goes on from the labels, paused or running, with what it had found`, async () => {
    for (const paused of [true, false]) {
      const all = await slowFixture(level, members);
      all.rot(all.placeOf(0));
      all.rot(all.placeOf(LATE));
      await all.group.scrub(all.options());
      await all.under();
      if (paused) await all.group.pauseTask("scrub");
      await all.group.close();
      equal(all.inspector.closed, 1);
      await all.reopen();
      const { scrub, tasks } = all.group.describe();
      deepEqual([scrub.state, scrub.found, scrub.healed], [paused ? "paused" : "running", 1, 1]);
      ok(scrub.atBytes > 0);
      deepEqual(tasks, []);
      const reads = all.rig.devices[0]!.counters.bytesRead;
      all.inspector.slices.length = 0;
      const task = await all.scrub();
      deepEqual([task.state, task.found, task.healed], ["done", 2, 2]);
      equal(task.doneBytes, task.totalBytes);
      ok(all.inspector.slices[0]![0] > 0, "what was done is not done again");
      ok(all.rig.devices[0]!.counters.bytesRead - reads < task.totalBytes + MIB / 2);
      const { startedMs } = all.group.describe().scrub;
      equal(startedMs, scrub.startedMs);
      await all.group.close();
    }
  });

  test(`${name}: one that only reports does so after a stop too, whoever goes on with it`, async () => {
    const all = await slowFixture(level, members);
    const place = all.placeOf(LATE);
    all.rot(place);
    const rotten = await all.look(place);
    await all.group.scrub(all.options(false));
    await all.under();
    await all.group.close();
    await all.reopen();
    equal(all.group.describe().scrub.heal, false);
    const task = await all.scrub(all.options(true));
    deepEqual([task.state, task.found, task.healed], ["done", 1, 0]);
    ok((await all.look(place)).equals(rotten));
    deepEqual((await all.scrub(all.options(true))).healed, 1, "the next one is another scrub");
    await all.group.close();
  });

  test(`${name}: one that heals does not any more when it is gone on with so`, async () => {
    const all = await slowFixture(level, members);
    all.rot(all.placeOf(LATE));
    await all.group.scrub(all.options(true));
    await all.under();
    await all.group.close();
    await all.reopen();
    const task = await all.scrub(all.options(false));
    deepEqual([task.state, task.found, task.healed], ["done", 1, 0]);
    await all.group.close();
  });

  test(`${name}: what the labels call done is on the disks, whatever a power cut takes`, async () => {
    const all = await slowFixture(level, members);
    const place = all.placeOf(0);
    const before = await all.look(place);
    all.rot(place);
    await all.group.scrub(all.options());
    await all.under();
    await all.group.pauseTask("scrub");
    all.rig.crash("none");
    all.rig.before = () => {};
    ok((await all.look(place)).equals(before));
    await all.reopen();
    const { scrub } = all.group.describe();
    deepEqual([scrub.state, scrub.healed], ["paused", 1]);
    await all.group.close();
  });

  test(`${name}: given up it is forgotten, also when only the labels know of it`, async () => {
    const all = await slowFixture(level, members);
    await all.group.scrub(all.options());
    await all.under();
    await all.group.cancelTask("scrub");
    const task = all.task();
    deepEqual([task.state, task.reason], ["cancelled", "given up"]);
    deepEqual([all.group.describe().scrub.state, all.group.describe().scrub.atBytes], ["idle", 0]);
    await rejects(all.group.cancelTask("scrub"), (error) => isStorageError(error, "ENOENT"));
    await all.group.scrub(all.options());
    await all.under();
    await all.group.close();
    await all.reopen();
    equal(all.group.describe().scrub.state, "running");
    await all.group.cancelTask("scrub");
    deepEqual([all.group.describe().scrub.state, all.group.describe().scrub.atBytes], ["idle", 0]);
    await all.group.close();
  });

  test(`${name}: a disk that is lost meanwhile ends it with a reason, and it goes on later`, async () => {
    const all = await slowFixture(level, members);
    await all.group.scrub(all.options());
    await all.under();
    all.rig.devices[1]!.fail("ENXIO");
    const task = await all.ended();
    deepEqual([task.state, task.reason], ["cancelled", "disk #2 is missing"]);
    equal(task.found, 0);
    equal(all.group.describe().scrub.state, "running");
    await rejects(all.group.scrub(all.options()), (error) => isStorageError(error, "EBUSY"));
    equal(all.inspector.closed, 2, "also when it is refused");
    await all.group.close();
  });

  for (const end of ["start", "end"] as const) {
    test(`${name}: a label that is gone at the ${end} of a disk is written again`, async () => {
      const all = await new ScrubFixture(level, members).start();
      const device = all.rig.devices[1]!;
      const position = end === "start" ? 0 : device.sizeBytes - 128 * 1024;
      device.poke(Buffer.alloc(128 * 1024, 0x77), position);
      const task = await all.scrub();
      deepEqual([task.state, task.found, task.healed], ["done", 1, 1]);
      const done = `label at the ${end} of the disk written again`;
      const detail = { position, lu: null, at: null, file: null, what: "label", done, healed: true };
      deepEqual(all.events("scrub-fault"), [{ kind: "scrub-fault", group: "g", disk: 2, detail }]);
      equal((await all.scrub()).found, 0);
      await all.group.close();
    });
  }
}

test("scrub: what an inspector throws ends it as failed, with the reason", async () => {
  const all = await new ScrubFixture(5, 3).start();
  all.inspector.error = new StorageError("EIO", "the index cannot be read");
  const task = await all.scrub();
  deepEqual([task.state, task.reason], ["failed", "the index cannot be read"]);
  equal(all.group.describe().scrub.state, "idle");
  equal(all.inspector.closed, 1);
  await all.group.close();
});

test("scrub: one at a time", async () => {
  const all = await slowFixture(5, 3);
  const busy = (error: unknown): boolean => isStorageError(error, "EBUSY");
  const first = all.group.scrub(all.options());
  await rejects(all.group.scrub(all.options(true, null)), busy);
  await first;
  await rejects(all.group.scrub(all.options(true, null)), busy);
  equal((await all.ended()).state, "done");
  for (const kind of ["pauseTask", "resumeTask"] as const) {
    await rejects(all.group[kind]("scrub"), (error) => isStorageError(error, "ENOENT"));
  }
  await rejects(all.group.cancelTask("rebuild"), (error) => isStorageError(error, "EINVAL"));
  await all.group.close();
});

test("scrub: how often is kept on the labels", async () => {
  const all = await new ScrubFixture(5, 3).start();
  await all.group.scheduleScrub(7 * 86_400);
  for (const wrong of [-1, 0.5, 2 ** 32]) {
    await rejects(all.group.scheduleScrub(wrong), (error) => isStorageError(error, "EINVAL"));
  }
  await all.group.close();
  await all.reopen();
  equal(all.group.describe().scrub.everySeconds, 7 * 86_400);
  await all.group.close();
});

test("scrub: only rows in use, LUs in their order on the disks, each with its own inspector", async () => {
  const all = await slowFixture(5, 3);
  await all.group.createLu("meta", 1, MIB);
  await all.group.createLu("other", 5, 3 * MIB);
  // Leaves a hole between two LUs.
  await all.group.deleteLu(2);
  const other = new FakeInspector();
  const content = Buffer.alloc(MIB, 0x33);
  const lu = all.group.openLu(3);
  await lu.write(content, 0 as LuByte);
  await lu.flush();
  other.own(0, content);
  const inspectors = new Map([...all.options().inspectors, [3, other] as const]);
  const read: number[] = [];
  all.rig.before = (operation, disk, position) => {
    const inRows = position >= 6 * MIB && position < 39 * MIB;
    if (operation === "read" && disk === 0 && inRows) read.push(position);
  };
  const task = await all.scrub({ heal: true, inspectors });
  deepEqual([task.state, task.found], ["done", 0]);
  const { rowBytes } = all.group.describe();
  const rows = new Set(read.map((position) => Math.floor((position - 6 * MIB) / rowBytes)));
  deepEqual([...rows], [0, 1, 3, 4]);
  equal(task.totalBytes, 4 * rowBytes);
  deepEqual([other.slices[0]![0], other.closed], [0, 1]);
  await all.group.close();
});

test("scrub: an LU is not deleted in the middle of a step", async () => {
  const all = await new ScrubFixture(5, 3).start();
  let release = (): void => {};
  const gate = new Promise<void>((resolve) => {
    release = resolve;
  });
  let reading = false;
  all.rig.before = (operation, _disk, position) => {
    if (operation !== "read" || position < 6 * MIB || position > 38 * MIB) return undefined;
    reading = true;
    return gate;
  };
  await all.group.scrub(all.options());
  while (!reading) await pauseOfDisks();
  await all.lu.close();
  const deleted = all.group.deleteLu(1);
  for (let i = 0; i < 20; i++) await pauseOfDisks();
  equal(all.group.describe().lus.length, 1);
  release();
  await deleted;
  equal((await all.ended()).state, "done");
  await all.group.close();
});

test("scrub: an LU that is deleted meanwhile is left alone", async () => {
  const all = await slowFixture(1, 3);
  await all.group.createLu("other", 1, 8 * MIB);
  await all.group.scrub(all.options());
  await all.under();
  await all.group.deleteLu(2);
  await all.lu.close();
  await all.group.deleteLu(1);
  const task = await all.ended();
  deepEqual([task.state, task.found, task.totalBytes], ["done", 0, 0]);
  await all.group.close();
});

for (const chunkBytes of [16 * 1024, 256 * 1024, MIB]) {
  test(`scrub: chunks of ${chunkBytes} bytes, with rot in a later band of a chunk`, async () => {
    for (const level of [1, 5] as const) {
      const all = await new ScrubFixture(level, 3, chunkBytes).start();
      const at = 2 * MIB + chunkBytes - BLOCK_BYTES;
      const place = all.placeOf(at);
      const before = await all.look(place);
      all.rot(place);
      all.inspector.sliceBytes = 64 * 1024;
      const task = await all.scrub();
      deepEqual([task.state, task.found, task.healed], ["done", 1, 1]);
      ok((await all.look(place)).equals(before));
      await all.group.close();
    }
  });
}

async function raidGroup(): Promise<RaidGroup> {
  const random = new SeededRandom(5);
  const disks = [];
  for (let i = 1; i <= 3; i++) {
    disks.push(await initDisk(new MemoryDevice({ sizeBytes: 40 * MIB, random }), { number: i, random }));
  }
  const clock = new SystemClock();
  const arena = new Arena({ byteCount: 12 * MIB });
  const environment = { arena, clock, random, log: SILENT, epoch: () => 1, guard: () => {}, buffers: SMALL_BUFFERS };
  return createRaidGroup(disks, { name: "g" }, environment);
}

test("scrub: not while a rebuild is under way, and a rebuild that begins ends it", async () => {
  const group = await raidGroup();
  await group.createLu("data", 5, 4 * MIB);
  const counts = { totalBytes: 1, doneBytes: 0, found: 0, healed: 0 };
  let end = (): void => {};
  const rebuilt = new Promise<boolean>((resolve) => {
    end = () => resolve(false);
  });
  const rebuild = { ...counts, kind: "rebuild" as const, step: () => rebuilt, finish: async () => {} };
  await group.scrubs.start({ heal: true, inspectors: new Map() });
  group.tasks.start(rebuild);
  await group.tasks.find("scrub").ended;
  const scrub = group.tasks.describe().find(({ kind }) => kind === "scrub");
  deepEqual([scrub?.state, scrub?.reason], ["cancelled", "a rebuild is under way"]);
  await rejects(group.scrubs.start({ heal: true, inspectors: new Map() }), (error) => isStorageError(error, "EBUSY"));
  end();
  await group.close();
});
