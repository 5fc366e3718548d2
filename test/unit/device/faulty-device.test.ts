import assert from "node:assert/strict";
import { test } from "node:test";
import { FaultSet } from "../../../src/device/fault.js";
import { FaultyDevice } from "../../../src/device/faulty-device.js";
import { MemoryDevice } from "../../../src/device/memory-device.js";
import type { CancelTimer, Clock } from "../../../src/lib/clock.js";
import { nextTurn } from "../../../src/lib/next-turn.js";
import { SeededRandom } from "../../../src/lib/prng.js";
import { MIB } from "../../../src/lib/units.js";

/** A clock that stands still until it is told otherwise. */
class HandClock implements Clock {
  readonly timers: Array<{ delayMs: number; action: () => void }> = [];
  monotonicMs(): number {
    return 0;
  }
  wallTime(): { seconds: number; nanoseconds: number } {
    return { seconds: 0, nanoseconds: 0 };
  }
  after(delayMs: number, action: () => void): CancelTimer {
    this.timers.push({ delayMs, action });
    return () => {};
  }
}

function faulty(): { device: FaultyDevice; memory: MemoryDevice; clock: HandClock } {
  const memory = new MemoryDevice({ name: "f1", sizeBytes: MIB, random: new SeededRandom(1) });
  const clock = new HandClock();
  return { device: new FaultyDevice(memory, { clock, random: new SeededRandom(2) }), memory, clock };
}

const filled = (byte: number, byteCount = 4096): Buffer => Buffer.alloc(byteCount, byte);

function bitsSet(buffer: Buffer): number {
  let count = 0;
  for (const byte of buffer) for (let bit = 0; bit < 8; bit++) count += (byte >> bit) & 1;
  return count;
}

test("fault gone: everything is ENXIO until it is cleared", async () => {
  const { device } = faulty();
  device.inject({ kind: "gone" });
  assert.deepEqual(device.faults(), [{ kind: "gone" }]);
  for (const work of [
    device.read(filled(0), 0),
    device.write(filled(0), 0),
    device.writeThrough([], 0),
    device.flush(),
  ]) {
    await assert.rejects(work, { code: "ENXIO" });
  }
  device.clear("gone");
  await device.write(filled(1), 0);
  await device.flush();
});

test("fault eio: by range, by direction, and for a number of times", async () => {
  const { device } = faulty();
  device.inject({ kind: "eio", position: 8192, byteCount: 4096, on: "read", hits: 2 });
  await device.write(filled(5), 8192);
  await device.read(filled(0), 4096);
  await device.flush();
  const detail = { device: "f1", position: 4096, injected: "eio" };
  await assert.rejects(device.readv([filled(0), filled(0)], 4096), { code: "EIO", detail });
  await assert.rejects(device.read(filled(0), 8192), { code: "EIO" });
  await device.read(filled(0), 8192);
  assert.deepEqual(device.faults(), []);
  device.inject({ kind: "eio", on: "write" });
  await assert.rejects(device.flush(), { code: "EIO" });
  await assert.rejects(device.writeThrough([filled(0)], 0), { code: "EIO" });
  await device.read(filled(0), 0);
});

test("fault slow: waits on the clock, then does it", async () => {
  const { device, memory, clock } = faulty();
  device.inject({ kind: "slow", delayMs: 250 });
  const write = device.write(filled(1), 0);
  await nextTurn();
  assert.equal(memory.counters.writes, 0);
  assert.equal(clock.timers[0]?.delayMs, 250);
  clock.timers[0]?.action();
  await write;
  assert.equal(memory.counters.writes, 1);
});

test("fault bitrot: one bit, the same at every read, gone when it is written over", async () => {
  const { device, memory } = faulty();
  device.inject({ kind: "bitrot", position: 4096, byteCount: 4096 });
  const first = filled(0);
  await device.read(first, 4096);
  assert.equal(bitsSet(first), 1);
  device.clear();
  for (const [position, byteCount] of [
    [4096, 4096],
    [0, 16384],
  ] as const) {
    const again = filled(0, byteCount);
    await device.readv([again.subarray(0, 5000), again.subarray(5000)], position);
    assert.ok(again.subarray(4096 - position, 8192 - position).equals(first));
    assert.equal(bitsSet(again), 1);
  }
  await memory.read(first, 4096);
  assert.equal(bitsSet(first), 0);
  await device.write(filled(0), 4096);
  await device.read(first, 4096);
  assert.equal(bitsSet(first), 0);
  assert.equal(device.rottenBytes, 0);
});

test("fault torn: some first sectors of a write, acknowledged", async () => {
  const lengths = new Set<number>();
  for (let seed = 0; seed < 60; seed++) {
    const memory = new MemoryDevice({ sizeBytes: MIB, random: new SeededRandom(1) });
    const device = new FaultyDevice(memory, { clock: new HandClock(), random: new SeededRandom(seed) });
    device.inject({ kind: "torn", hits: 1 });
    await device.writev([filled(1, 1000), filled(1, 1048)], 4096);
    const target = filled(0, 2048);
    await device.read(target, 4096);
    const kept = target.lastIndexOf(1) + 1;
    assert.ok(target.subarray(0, kept).every((byte) => byte === 1));
    lengths.add(kept);
    await device.write(filled(2, 2048), 4096);
    await device.read(target, 4096);
    assert.ok(target.equals(filled(2, 2048)), "only once");
  }
  assert.deepEqual(
    [...lengths].sort((a, b) => a - b),
    [0, 512, 1024, 1536],
  );
});

test("fault lost: acknowledged, and the old content stays", async () => {
  const { device, memory } = faulty();
  await device.write(filled(1), 0);
  device.inject({ kind: "lost", hits: 2 });
  await device.write(filled(2), 0);
  await device.writeThrough([filled(3)], 0);
  const target = filled(0);
  await device.read(target, 0);
  assert.ok(target.equals(filled(1)));
  assert.equal(memory.counters.writes, 1);
  await device.write(filled(4), 0);
  await device.read(target, 0);
  assert.ok(target.equals(filled(4)));
});

test("fault torn: inside a block also where the device takes whole blocks only", async () => {
  const lengths = new Set<number>();
  for (let seed = 0; seed < 80; seed++) {
    const memory = new MemoryDevice({ sizeBytes: MIB, random: new SeededRandom(1), alignmentBytes: 4096 });
    const device = new FaultyDevice(memory, { clock: new HandClock(), random: new SeededRandom(seed) });
    await device.write(filled(7, 8192), 4096);
    device.inject({ kind: "torn", hits: 1 });
    await device.writev([filled(1, 5000), filled(1, 3192)], 4096);
    const target = filled(0, 8192);
    await device.read(target, 4096);
    const kept = target.lastIndexOf(1) + 1;
    assert.ok(target.subarray(0, kept).every((byte) => byte === 1));
    assert.ok(target.subarray(kept).every((byte) => byte === 7));
    lengths.add(kept % 4096);
  }
  assert.equal(lengths.size, 8);
});

test("fault misdirected: acknowledged, the right place unchanged, another place of the reach overwritten", async () => {
  const places = new Set<number>();
  for (let seed = 0; seed < 100; seed++) {
    const memory = new MemoryDevice({ sizeBytes: MIB, random: new SeededRandom(1) });
    const device = new FaultyDevice(memory, { clock: new HandClock(), random: new SeededRandom(seed) });
    const position = 400 * 1024;
    device.inject({ kind: "misdirected", hits: 1, reachBytes: 8192 });
    if (seed % 2 === 0) await device.write(filled(1), position);
    else await device.writeThrough([filled(1)], position);
    const all = filled(0, MIB);
    await device.read(all, 0);
    const at = all.indexOf(1);
    assert.ok(all.subarray(at, at + 4096).every((byte) => byte === 1));
    assert.equal(all.lastIndexOf(1), at + 4095, "once");
    assert.equal(at % 512, 0);
    const distance = Math.abs(at - position);
    assert.ok(distance >= 4096 && distance < 4096 + 8192, `${distance}`);
    places.add(at);
    await device.write(filled(2), position);
    await device.read(all, 0);
    assert.equal(all.indexOf(2), position, "only once");
  }
  assert.ok(places.size > 20);
});

test("fault misdirected: at the edges it lands inside, and without another place the write is lost", async () => {
  for (let seed = 0; seed < 40; seed++) {
    const memory = new MemoryDevice({ sizeBytes: 4 * 4096, random: new SeededRandom(1), alignmentBytes: 4096 });
    const device = new FaultyDevice(memory, { clock: new HandClock(), random: new SeededRandom(seed) });
    device.inject({ kind: "misdirected" });
    const position = seed % 2 === 0 ? 0 : 3 * 4096;
    await device.write(filled(1), position);
    const all = filled(0, 4 * 4096);
    await device.read(all, 0);
    assert.ok(all.subarray(position, position + 4096).every((byte) => byte === 0));
    assert.equal(all.filter((byte) => byte === 1).length, 4096);
    await device.write(filled(3, 4 * 4096), 0);
    await device.read(all, 0);
    assert.ok(!all.includes(3));
  }
});

test("faults outlive the layer in a set that it is given, and end with their last hit", async () => {
  const faults = new FaultSet();
  faults.inject({ kind: "eio", hits: 2 }, new SeededRandom(1));
  const memory = new MemoryDevice({ sizeBytes: MIB, random: new SeededRandom(1) });
  const open = () => new FaultyDevice(memory, { clock: new HandClock(), random: new SeededRandom(2), faults });
  await assert.rejects(open().read(filled(0), 0), { code: "EIO" });
  assert.deepEqual([faults.active[0]?.hitsLeft, faults.none], [1, false]);
  await assert.rejects(open().read(filled(0), 0), { code: "EIO" });
  assert.equal(faults.none, true);
  await open().read(filled(0), 0);
});

test("a detached disk is ENXIO for good; a halted one answers nothing, neither well nor ill", async () => {
  const { device } = faulty();
  device.detach();
  device.clear();
  await assert.rejects(device.read(filled(0), 0), { code: "ENXIO" });
  const other = faulty();
  let settled = 0;
  const note = (work: Promise<void>): void =>
    void work.then(
      () => settled++,
      () => settled++,
    );
  note(other.device.write(filled(1), 0));
  other.device.halt();
  note(other.device.read(filled(1), 0));
  note(other.device.flush());
  await new Promise((resolve) => setTimeout(resolve, 5));
  assert.deepEqual([settled, other.memory.counters.flushes], [0, 0]);
});
