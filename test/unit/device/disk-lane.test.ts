import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { DiskLanes } from "../../../src/device/disk-lane.js";
import { MemoryDevice } from "../../../src/device/memory-device.js";
import { ThreadHold } from "../../../src/device/thread-hold.js";
import { SeededRandom } from "../../../src/lib/prng.js";
import { BLOCK_BYTES, MIB } from "../../../src/lib/units.js";
import { CallTimes, TimedCall } from "../../../src/raid/call-times.js";
import { HandClock, settle } from "../../support/hand-clock.js";

const THREADS = 16;
const BLOCK = Buffer.alloc(BLOCK_BYTES);

/** A disk that answers when it is told to: what it has been asked for and not answered. */
class HeldDisk {
  readonly asked: (() => void)[] = [];
  readonly device: MemoryDevice;

  constructor(name: string) {
    const before = () => new Promise<void>((resolve) => this.asked.push(resolve));
    this.device = new MemoryDevice({ name, sizeBytes: MIB, random: new SeededRandom(1), before });
  }

  async answer(count = this.asked.length): Promise<void> {
    for (const go of this.asked.splice(0, count)) go();
    await settle();
  }
}

/** So many disks that a quarter of the threads is more than an even share, and heartbeats. */
function lanesOf(clock = new HandClock(), disks = 8): DiskLanes {
  const lanes = new DiskLanes(clock, THREADS);
  lanes.over(new HeldDisk("/dev/heartbeat").device, "control");
  for (let i = 1; i < disks; i++) lanes.over(new HeldDisk(`/dev/other${i}`).device, "data");
  return lanes;
}

test("lane: of two disks each may have nearly half of the threads, and some are nobody's", async () => {
  const lanes = lanesOf(new HandClock(), 2);
  const disk = new HeldDisk("/dev/a");
  const device = lanes.over(disk.device, "data");
  for (let i = 0; i < 20; i++) void device.read(BLOCK, 0);
  await settle();
  equal(disk.asked.length, 7);
});

test("lane: a disk has a quarter of the threads at most, and its calls begin in the order in which they came", async () => {
  const lanes = lanesOf();
  const disk = new HeldDisk("/dev/a");
  const device = lanes.over(disk.device, "data");
  const order: number[] = [];
  for (let i = 0; i < 10; i++) void device.read(BLOCK, 0).then(() => order.push(i));
  await settle();
  equal(disk.asked.length, 4);
  await disk.answer(1);
  equal(disk.asked.length, 4);
  while (disk.asked.length > 0) await disk.answer();
  deepEqual(order, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
});

test("lane: where no heartbeat needs a thread, a disk is limited only while it is late", async () => {
  const clock = new HandClock();
  const lanes = new DiskLanes(clock, THREADS);
  const disks = Array.from({ length: 8 }, (_, i) => new HeldDisk(`/dev/${i}`));
  const [device] = disks.map((disk) => lanes.over(disk.device, "data"));
  for (let i = 0; i < 20; i++) void device!.read(BLOCK, 0);
  await settle();
  equal(disks[0]!.asked.length, 20);
  clock.jump(500);
  for (let i = 0; i < 5; i++) void device!.read(BLOCK, 0);
  await settle();
  equal(disks[0]!.asked.length, 20);
  await disks[0]!.answer(19);
  equal(disks[0]!.asked.length, 1, "the oldest are answered first, and one that is late is left");
  await disks[0]!.answer(1);
  equal(disks[0]!.asked.length, 1, "an even share, until it answers in time");
  clock.jump(500);
  await disks[0]!.answer(1);
  equal(disks[0]!.asked.length, 1);
  clock.jump(40);
  await disks[0]!.answer(1);
  equal(disks[0]!.asked.length, 3, "all that waited");
  for (let i = 0; i < 2; i++) void device!.read(BLOCK, 0);
  await settle();
  const heartbeat = lanes.over(new HeldDisk("/dev/0").device, "control");
  for (let i = 0; i < 5; i++) void device!.read(BLOCK, 0);
  await settle();
  equal(disks[0]!.asked.length, 5, "a quarter from then on");
  await heartbeat.close();
});

test("lane: a disk that nobody has open any more is forgotten, and the others share its threads", async () => {
  const lanes = new DiskLanes(new HandClock(), THREADS);
  const [one, two, other] = ["/dev/a", "/dev/a", "/dev/b"].map((name) => lanes.over(new HeldDisk(name).device, "data"));
  equal(lanes.diskCount, 2);
  await one!.close();
  await one!.close();
  equal(lanes.diskCount, 2, "somebody else has it open");
  await two!.close();
  equal(lanes.diskCount, 1);
  await other!.close();
  equal(lanes.diskCount, 0);
});

test("lane: two who have a disk open share its lane; another disk has its own", async () => {
  const lanes = lanesOf();
  const [disk, same, other] = [new HeldDisk("/dev/a"), new HeldDisk("/dev/a"), new HeldDisk("/dev/b")];
  const devices = [disk, same, other].map(({ device }) => lanes.over(device, "data"));
  for (let i = 0; i < 3; i++) for (const device of devices) void device.read(BLOCK, 0);
  await settle();
  equal(disk.asked.length + same.asked.length, 4);
  equal(other.asked.length, 3);
});

test("lane: while a call is late the disk gets no more than its even share, and what it holds falls to that", async () => {
  const clock = new HandClock();
  const lanes = lanesOf(clock);
  const disk = new HeldDisk("/dev/a");
  const device = lanes.over(disk.device, "data");
  for (let i = 0; i < 12; i++) void device.read(BLOCK, 0);
  await settle();
  equal(disk.asked.length, 4);
  equal(lanes.isHeld, false);
  clock.jump(500);
  equal(lanes.isHeld, true);
  // The oldest are answered, one after the other: with eight disks one thread is left for this one.
  await disk.answer(1);
  equal(disk.asked.length, 3);
  await disk.answer(2);
  equal(disk.asked.length, 1);
  await disk.answer(1);
  equal(disk.asked.length, 4, "nothing is late any more");
});

test("lane: heartbeat and lease do not wait behind data, nor hold more than two threads", async () => {
  const lanes = lanesOf();
  const disk = new HeldDisk("/dev/a");
  const [data, control] = [lanes.over(disk.device, "data"), lanes.over(disk.device, "control")];
  for (let i = 0; i < 20; i++) void data.write(BLOCK, 0);
  await settle();
  equal(disk.asked.length, 4);
  for (let i = 0; i < 5; i++) void control.write(BLOCK, 0);
  await settle();
  equal(disk.asked.length, 6);
});

test("lane: a device that is closed, or not waited for any more, refuses what has not begun, and nobody else's", async () => {
  const lanes = lanesOf();
  const disk = new HeldDisk("/dev/a");
  const [one, two] = [lanes.over(disk.device, "data"), lanes.over(disk.device, "data")];
  const begun = Promise.allSettled([0, 1, 2, 3].map(() => one.read(BLOCK, 0)));
  const waiting = one.read(BLOCK, 0);
  const other = Promise.allSettled([two.read(BLOCK, 0)]);
  await settle();
  one.abandonWaiting?.();
  await rejects(waiting, { code: "EIO" });
  const late = one.read(BLOCK, 0);
  const closed = rejects(late, { code: "ENXIO" });
  void one.close();
  await closed;
  await rejects(one.read(BLOCK, 0), { code: "ENXIO" });
  while (disk.asked.length > 0) await disk.answer();
  await begun;
  equal((await other).length, 1);
});

test("lane: the place of a call that failed is free again", async () => {
  const lanes = lanesOf();
  const memory = new MemoryDevice({ name: "/dev/a", sizeBytes: MIB, random: new SeededRandom(1) });
  const device = lanes.over(memory, "data");
  for (let i = 0; i < 40; i++) await rejects(device.read(BLOCK, 2 * MIB), { code: "EINVAL" });
  await device.read(BLOCK, 0);
});

test("thread hold: it holds a thread of the pool as long as it says, and lets it go", async () => {
  const hold = new ThreadHold();
  const startedMs = performance.now();
  const holds = Array.from({ length: 4 }, () => hold.hold(300));
  // Four threads, unless somebody has set another number: whatever wants one now has to wait.
  await readFile("/proc/self/stat");
  const readMs = performance.now() - startedMs;
  await Promise.all(holds);
  const heldMs = performance.now() - startedMs;
  ok(heldMs >= 299, `held for ${heldMs} ms`);
  if ((process.env.UV_THREADPOOL_SIZE ?? "4") === "4") ok(readMs >= 250, `a read waited ${readMs} ms`);
  await readFile("/proc/self/stat");
  await hold.hold(1);
});

test("lane: a call is timed from its turn, and one that hangs is as old as it is", async () => {
  const clock = new HandClock();
  const lanes = lanesOf(clock);
  const disk = new HeldDisk("/dev/a");
  const device = lanes.over(disk.device, "data");
  const times = { read: new CallTimes(), sync: new CallTimes() };
  for (let i = 0; i < 4; i++) void device.read(BLOCK, 0, new TimedCall(times.read, clock));
  const sync = new TimedCall(times.sync, clock);
  const synced = device.flush(sync);
  await settle();
  clock.jump(3000);
  equal(times.read.ageMs(clock.monotonicMs()), 3000);
  equal(times.sync.ageMs(clock.monotonicMs()), 0, "it waits behind others of its disk");
  await disk.answer(4);
  clock.jump(20);
  equal(times.sync.ageMs(clock.monotonicMs()), 20);
  await disk.answer();
  await synced;
  equal(sync.end(), 20);
});

test("lane: who waits for what somebody else asks of the disk is timed from the beginning", async () => {
  const clock = new HandClock();
  const lanes = lanesOf(clock);
  const disk = new HeldDisk("/dev/a");
  const other = lanes.over(disk.device, "data");
  const device = lanes.over(disk.device, "data");
  for (let i = 0; i < 4; i++) void other.read(BLOCK, 0);
  const times = new CallTimes();
  void device.read(BLOCK, 0, new TimedCall(times, clock));
  await settle();
  clock.jump(3000);
  equal(times.ageMs(clock.monotonicMs()), 3000);
  await disk.answer();
  await disk.answer();
});

test("lane: a call that is given up before its turn says nothing of the disk", async () => {
  const clock = new HandClock();
  const disk = new HeldDisk("/dev/a");
  const device = lanesOf(clock).over(disk.device, "data");
  for (let i = 0; i < 4; i++) void device.read(BLOCK, 0);
  const times = new CallTimes();
  const call = new TimedCall(times, clock);
  const refused = rejects(device.read(BLOCK, 0, call), { code: "EIO" });
  clock.jump(3000);
  device.abandonWaiting?.();
  await refused;
  equal(call.end(), 0);
  deepEqual([times.count, times.isQuiet(clock.monotonicMs(), 0)], [0, true]);
  await disk.answer();
});
