import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { test } from "node:test";
import { MemoryDevice } from "../../../src/device/memory-device.js";
import { SystemClock } from "../../../src/lib/clock.js";
import { SILENT } from "../../../src/lib/log.js";
import { SeededRandom } from "../../../src/lib/prng.js";
import { type LuByte, MIB } from "../../../src/lib/units.js";
import { Arena } from "../../../src/parity/arena.js";
import { initDisk } from "../../../src/raid/label-io.js";
import { createRaidGroup } from "../../../src/raid/open-group.js";
import { Raid5Array } from "../../../src/raid/raid5.js";
import { ReadGatherer } from "../../../src/raid/read-gatherer.js";
import { RaidRig, SMALL_BUFFERS } from "../../model/raid-rig.js";

/** A gatherer whose reads end when the test says so. */
function held() {
  const begun: { at: number; byteCount: number; end: (error?: Error) => void }[] = [];
  const gatherer = new ReadGatherer(
    (targets, at) =>
      new Promise((resolve, reject) => {
        const byteCount = targets.reduce((sum, target) => sum + target.length, 0);
        begun.push({ at, byteCount, end: (error) => (error === undefined ? resolve() : reject(error)) });
      }),
  );
  const read = (at: number, byteCount = 4096) => gatherer.readv([Buffer.alloc(byteCount)], at);
  const places = () => begun.map(({ at, byteCount }) => [at, byteCount]);
  return { begun, read, places };
}

test("gatherer: what continues waits while three are under way, then goes as one", async () => {
  const { begun, read, places } = held();
  const reads = [0, 1, 2, 3, 4].map((i) => read(i * 4096));
  deepEqual(places(), [
    [0, 4096],
    [4096, 4096],
    [8192, 4096],
  ]);
  begun[1]!.end();
  await reads[1];
  deepEqual(places()[3], [12288, 2 * 4096]);
  for (const i of [3, 0, 2]) begun[i]!.end();
  await Promise.all(reads);
  equal(begun.length, 4);
});

test("gatherer: reads elsewhere begin at once, and take along what waits", () => {
  const { read, places } = held();
  for (const block of [0, 1, 2, 3, 1_000_000, 77]) void read(block * 4096);
  deepEqual(
    places().map(([at]) => at! / 4096),
    [0, 1, 2, 3, 1_000_000, 77],
  );
});

test("gatherer: no more than 2 MiB are put together", () => {
  const { read, places } = held();
  for (let i = 0; i < 6; i++) void read(i * MIB, MIB);
  deepEqual(places(), [
    [0, MIB],
    [MIB, MIB],
    [2 * MIB, MIB],
    [3 * MIB, 2 * MIB],
  ]);
});

test("gatherer: after an error each of those that went together is read again alone", async () => {
  const { begun, read, places } = held();
  const reads = [0, 1, 2, 3, 4].map((i) => read(i * 4096));
  begun[0]!.end();
  await reads[0];
  begun[3]!.end(new Error("one of the two"));
  await new Promise(setImmediate);
  deepEqual(places().slice(4), [
    [12288, 4096],
    [16384, 4096],
  ]);
  begun[4]!.end();
  begun[5]!.end(new Error("this one"));
  await reads[3];
  await rejects(reads[4]!, /this one/);
});

test("gatherer: an LU read one after the other takes fewer device calls, and reads the same", async () => {
  const rig = new RaidRig({ members: 5, seed: 5 });
  const group = await rig.create();
  await group.createLu("data", 5, 16 * MIB);
  const lu = group.openLu(1);
  for (let i = 0; i < 16; i++) await lu.write(Buffer.alloc(MIB, i + 1), (i * MIB) as LuByte);
  const calls = () => rig.devices.reduce((sum, device) => sum + device!.counters.reads, 0);
  const targets = Array.from({ length: 16 }, () => Buffer.alloc(MIB));
  const start = calls();
  for (const [i, target] of targets.entries()) await lu.read(target, (i * MIB) as LuByte);
  const alone = calls() - start;
  for (const target of targets) target.fill(0);
  await Promise.all(targets.map((target, i) => lu.read(target, (i * MIB) as LuByte)));
  const together = calls() - start - alone;
  for (const [i, target] of targets.entries()) equal(target.equals(Buffer.alloc(MIB, i + 1)), true);
  equal(together < 0.9 * alone, true, `${together} calls, ${alone} alone`);
  await group.close();
});

test("gatherer: an array is not quiet while one of its reads waits to be gathered", async () => {
  const random = new SeededRandom(5);
  const gates: Array<() => void> = [];
  let holding = false;
  const before = () => (holding ? new Promise<void>((resolve) => gates.push(resolve)) : undefined);
  const disks = [];
  for (let i = 1; i <= 3; i++) {
    disks.push(await initDisk(new MemoryDevice({ sizeBytes: 40 * MIB, random, before }), { number: i, random }));
  }
  const [clock, arena] = [new SystemClock(), new Arena({ byteCount: 12 * MIB })];
  const environment = { arena, clock, random, log: SILENT, epoch: () => 1, guard: () => {}, buffers: SMALL_BUFFERS };
  const group = await createRaidGroup(disks, { name: "g" }, environment);
  await group.createLu("data", 5, 4 * MIB);
  const array = group.array(1);
  ok(array instanceof Raid5Array);
  holding = true;
  const reads = [0, 1, 2, 3].map((i) => array.readv([Buffer.alloc(4096)], i * 4096));
  let quiet = false;
  const quiesced = array.quiesce().then(() => {
    quiet = true;
  });
  for (const release of gates.splice(0)) release();
  await Promise.all(reads.slice(0, 3));
  await new Promise(setImmediate);
  equal(quiet, false);
  holding = false;
  for (const release of gates.splice(0)) release();
  await Promise.all([...reads, quiesced]);
  await group.close();
});
