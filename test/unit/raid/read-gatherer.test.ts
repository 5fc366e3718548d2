import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { test } from "node:test";
import { MemoryDevice } from "../../../src/device/memory-device.js";
import { SystemClock } from "../../../src/lib/clock.js";
import { SILENT } from "../../../src/lib/log.js";
import { nextTurn } from "../../../src/lib/next-turn.js";
import { SeededRandom } from "../../../src/lib/prng.js";
import { type LuByte, MIB } from "../../../src/lib/units.js";
import { Arena } from "../../../src/parity/arena.js";
import { initDisk } from "../../../src/raid/label-io.js";
import { createRaidGroup } from "../../../src/raid/open-group.js";
import { Raid5Array } from "../../../src/raid/raid5.js";
import { ReadGatherer } from "../../../src/raid/read-gatherer.js";
import { RaidRig, SMALL_BUFFERS } from "../../model/raid-rig.js";

/** A gatherer whose reads end when the test says so. */
function held(runBytes = 4 * MIB) {
  const begun: { at: number; byteCount: number; end: (error?: Error) => void }[] = [];
  const gatherer = new ReadGatherer(
    runBytes,
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

test("gatherer: what continues goes as one at the end of the callback", async () => {
  const { begun, read, places } = held();
  const reads = [0, 1, 2, 3, 4].map((i) => read(i * 4096));
  deepEqual(places(), [[0, 4096]]);
  await nextTurn();
  deepEqual(places(), [
    [0, 4096],
    [4096, 4 * 4096],
  ]);
  for (const { end } of begun) end();
  await Promise.all(reads);
});

test("gatherer: what continues waits while two reads of more bytes are under way", async () => {
  const { begun, read, places } = held();
  void read(0, MIB);
  void read(MIB, MIB);
  await nextTurn();
  for (const i of [0, 1]) void read(2 * MIB + i * 4096);
  await nextTurn();
  equal(begun.length, 2);
  begun[1]!.end();
  await nextTurn();
  deepEqual(places()[2], [2 * MIB, 2 * 4096]);
});

test("gatherer: as much as is under way goes", async () => {
  const { begun, read, places } = held();
  for (const i of [0, 1]) {
    void read(i * 4096);
    await nextTurn();
  }
  void read(2 * 4096);
  await nextTurn();
  equal(begun.length, 2);
  void read(3 * 4096);
  await nextTurn();
  deepEqual(places()[2], [2 * 4096, 2 * 4096]);
});

test("gatherer: the clients of reads that went together go together again", async () => {
  const { begun, read, places } = held();
  const client = async (first: number) => {
    for (let i = first; i < 24; i += 8) await read(i * 4096);
  };
  const clients = Promise.all([0, 1, 2, 3, 4, 5, 6, 7].map(client));
  for (let i = 0; i < begun.length; i++) {
    await nextTurn();
    begun[i]!.end();
    await nextTurn();
  }
  await clients;
  const counts = places().map(([, byteCount]) => byteCount! / 4096);
  deepEqual(counts, [1, 7, 1, 7, 1, 7]);
});

test("gatherer: reads elsewhere begin at once, and take along what waits", () => {
  const { read, places } = held();
  for (const block of [0, 1, 2, 3, 1_000_000, 77]) void read(block * 4096);
  deepEqual(
    places().map(([at]) => at! / 4096),
    [0, 1, 1_000_000, 77],
  );
});

test("gatherer: 2 MiB go at once, and no more are put together", () => {
  const { read, places } = held();
  for (let i = 0; i < 3; i++) void read(i * MIB, MIB);
  void read(3 * MIB, MIB / 2);
  void read(3.5 * MIB, 3 * MIB);
  deepEqual(places(), [
    [0, MIB],
    [MIB, 2 * MIB],
    [3 * MIB, MIB / 2],
    [3.5 * MIB, 3 * MIB],
  ]);
});

test("gatherer: what reaches the end of a run goes at once, unless runs are short", () => {
  for (const [runBytes, end] of [
    [3 * MIB, 3 * MIB],
    [MIB / 2, 2 * MIB],
  ] as const) {
    const { read, places } = held(runBytes);
    for (const at of [end - 3 * 4096, end - 2 * 4096, end - 4096, end, end + 4096]) void read(at);
    deepEqual(places(), [
      [end - 3 * 4096, 4096],
      [end - 2 * 4096, 2 * 4096],
    ]);
  }
});

test("gatherer: after an error each of those that went together is read again alone", async () => {
  const { begun, read, places } = held();
  const reads = [0, 1, 2].map((i) => read(i * 4096));
  await nextTurn();
  begun[1]!.end(new Error("one of the two"));
  await nextTurn();
  deepEqual(places().slice(2), [
    [4096, 4096],
    [8192, 4096],
  ]);
  begun[2]!.end();
  begun[3]!.end(new Error("this one"));
  await reads[1];
  await rejects(reads[2]!, /this one/);
});

for (const [parityRun, ratio] of [
  [1, 0.9],
  [16, 0.6],
] as const)
  test(`gatherer: an LU with parity runs of ${parityRun} read one after the other takes fewer device calls, and reads the same`, async () => {
    const rig = new RaidRig({ members: 5, seed: 5, parityRun });
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
    equal(together < ratio * alone, true, `${together} calls, ${alone} alone`);
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
  const reads: Promise<void>[] = [];
  for (const i of [0, 1, 2]) {
    reads.push(array.readv([Buffer.alloc(4096)], i * 4096));
    await nextTurn();
  }
  equal(gates.length, 2);
  let quiet = false;
  const quiesced = array.quiesce().then(() => {
    quiet = true;
  });
  for (const release of gates.splice(0)) release();
  await Promise.all(reads.slice(0, 2));
  await nextTurn();
  equal(quiet, false);
  holding = false;
  for (const release of gates.splice(0)) release();
  await Promise.all([...reads, quiesced]);
  await group.close();
});
