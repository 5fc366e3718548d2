import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { test } from "node:test";
import { SILENT } from "../../../src/lib/log.js";
import { SeededRandom } from "../../../src/lib/prng.js";
import { BLOCK_BYTES, type LuByte, MIB } from "../../../src/lib/units.js";
import { assembleGroup } from "../../../src/lu/group.js";
import type { Group } from "../../../src/raid/contract.js";
import { LAYOUT } from "../../../src/raid/layout.js";
import { RaidRig, SMALL_BUFFERS } from "../../model/raid-rig.js";
import { HandClock } from "../../support/hand-clock.js";

const LU_BLOCKS = 64;

interface Slowness {
  readonly disks: readonly number[];
  /** Of each call; a tenth more on each further disk. */
  readonly ms: number;
  /** The first calls are as quick as on the others. */
  readonly spares?: number;
}

/** A group of which one disk takes its time with each call, one after the other, from the moment on at which the group is put together. */
class Bench {
  readonly rig: RaidRig;
  readonly clock = new HandClock();
  readonly content = Buffer.alloc(LU_BLOCKS * BLOCK_BYTES);
  group!: Group;
  slow: Slowness | null = null;
  /** Calls of the slow disk. */
  calls = 0;
  readonly #busyUntilMs: number[] = [];
  readonly #random = new SeededRandom(5);

  constructor(members: number) {
    this.rig = new RaidRig({ members, seed: 900 + members });
    this.rig.before = (_, disk) => this.#before(disk);
  }

  #before(disk: number): Promise<void> | undefined {
    const { slow, clock } = this;
    if (slow?.disks.includes(disk) !== true) return undefined;
    if (++this.calls <= (slow.spares ?? 0)) return undefined;
    const nowMs = clock.monotonicMs();
    const untilMs = Math.max(this.#busyUntilMs[disk] ?? 0, nowMs) + slow.ms * (1 + disk / 10);
    this.#busyUntilMs[disk] = untilMs;
    return new Promise((resolve) => void clock.after(untilMs - nowMs, resolve));
  }

  /** Small writes, each durable by itself: so many records in the journal, or copies, when the power fails. */
  async furnish(level: 1 | 5, changes: number): Promise<this> {
    this.group = await this.rig.create();
    await this.group.createLu("lu", level, MIB);
    await this.change(changes);
    return this;
  }

  async change(count: number): Promise<void> {
    const lu = this.group.openLu(1);
    for (let i = 0; i < count; i++) {
      const at = this.#random.below(LU_BLOCKS) * BLOCK_BYTES;
      const block = this.content.subarray(at, at + BLOCK_BYTES);
      this.#random.fill(block);
      await this.until(lu.write(block, at as LuByte).then(() => lu.flush()));
    }
  }

  async check(): Promise<void> {
    const found = Buffer.alloc(this.content.length);
    await this.until(this.group.openLu(1).read(found, 0 as LuByte));
    ok(found.equals(this.content));
  }

  describe(disk: number) {
    return this.group.describe().disks[disk]!;
  }

  states(): string[] {
    return this.group.describe().disks.map(({ state }) => state);
  }

  kinds(): string[] {
    return this.rig.events
      .map(({ kind }) => kind)
      .filter((kind) => /left-out|returned|degraded|complete|failed/.test(kind));
  }

  async untilClean(): Promise<void> {
    for (let i = 0; i < 2000 && this.group.describe().state !== "clean"; i++) await this.clock.advance(1000);
  }

  /** @returns milliseconds until the group is there */
  async assemble(slow: Slowness | null): Promise<number> {
    const { rig, clock } = this;
    const disks = await rig.found();
    rig.arena.begin();
    this.slow = slow;
    const startMs = clock.monotonicMs();
    const onEvent = (event: (typeof rig.events)[number]) => void rig.events.push(event);
    const { arena, random } = rig;
    const made = assembleGroup(disks, { arena, clock, random, log: SILENT, buffers: SMALL_BUFFERS, onEvent });
    this.group = await this.until(made);
    return clock.monotonicMs() - startMs;
  }

  async until<T>(work: Promise<T>): Promise<T> {
    let settled = false;
    const end = () => {
      settled = true;
    };
    work.then(end, end);
    while (!settled) await this.clock.advance(50);
    return await work;
  }
}

/** How long the watch waits. */
const AFTER_MS = 5000;

for (const [level, members, changes] of [
  [5, 3, 20],
  [1, 3, 20],
  [5, 8, 0],
] as const) {
  for (const ms of [3000, 600_000]) {
    test(`slow assembly: RAID-${level} on ${members} is there without a disk that takes ${ms} ms a call, which is brought up to date when it is well`, async () => {
      const bench = await new Bench(members).furnish(level, changes);
      bench.rig.crash("none");
      const tookMs = await bench.assemble({ disks: [1], ms });
      ok(tookMs <= AFTER_MS + 500, `${tookMs} ms`);
      equal(bench.describe(1).state, "stale");
      equal(bench.describe(1).slow, true);
      match(bench.describe(1).reason ?? "", /comes much later than those of the other disks/);
      deepEqual(bench.kinds(), ["member-left-out", "degraded"]);
      await bench.change(10);
      await bench.check();
      bench.slow = null;
      await bench.untilClean();
      deepEqual(bench.kinds(), ["member-left-out", "degraded", "member-returned", "complete"]);
      // What it holds is right: another one is lost, and everything is there.
      bench.rig.devices[0]!.fail("ENXIO");
      await bench.check();
      await bench.until(bench.group.close());
    });
  }
}

test("slow assembly: one that begins to be slow behind its label is left out by the watch, though its neighbours were asked little", async () => {
  const bench = await new Bench(4).furnish(5, 20);
  bench.rig.crash("none");
  const tookMs = await bench.assemble({ disks: [2], ms: 600_000, spares: 2 });
  ok(tookMs <= AFTER_MS + 1000, `${tookMs} ms`);
  equal(bench.describe(2).state, "stale");
  match(bench.describe(2).reason ?? "", /^answers \d+ times later than the other disks/);
  await bench.check();
});

test("slow assembly: one that was left out and is well comes back when the group is there, not before", async () => {
  const bench = await new Bench(4).furnish(5, 20);
  bench.rig.crash("none");
  bench.clock.after(AFTER_MS, () => {
    bench.slow = { disks: [0, 1, 3], ms: 2000 };
  });
  const tookMs = await bench.assemble({ disks: [2], ms: 6000, spares: 2 });
  ok(tookMs > 3 * AFTER_MS, `${tookMs} ms`);
  bench.slow = null;
  await bench.untilClean();
  const kinds = bench.rig.events.map(({ kind }) => kind);
  ok(kinds.includes("member-returned"));
  ok(kinds.indexOf("replayed") < kinds.indexOf("member-returned"), kinds.join());
  await bench.check();
});

test("slow assembly: a disk is asked five times after a clean stop, and some times more after a crash, whatever the journal holds", async () => {
  for (const [changes, calls] of [
    [0, 5],
    [40, 15],
  ] as const) {
    const bench = await new Bench(3).furnish(5, changes);
    if (changes === 0) await bench.until(bench.group.close());
    bench.rig.crash("none");
    await bench.assemble({ disks: [1], ms: 100 });
    deepEqual(bench.kinds(), []);
    ok(bench.calls <= calls, `${bench.calls} calls`);
    await bench.check();
  }
});

test("slow assembly: of two disks the slow one may have been used alone: its label is waited for, and counts", async () => {
  const bench = await new Bench(2).furnish(1, 5);
  await bench.until(bench.group.close());
  bench.rig.reopen();
  const other = bench.rig.devices[0]!;
  bench.rig.devices[0] = null;
  await bench.assemble(null);
  await bench.change(5);
  await bench.until(bench.group.close());
  bench.rig.devices[0] = other;
  bench.rig.reopen();
  const tookMs = await bench.assemble({ disks: [1], ms: 20_000 });
  ok(tookMs >= 40_000, `${tookMs} ms`);
  equal(bench.describe(0).state, "stale");
  await bench.check();
});

test("slow assembly: when another one is lost the slow one is waited for", async () => {
  const bench = await new Bench(3).furnish(5, 5);
  bench.rig.crash("none");
  bench.rig.devices[0] = null;
  const tookMs = await bench.assemble({ disks: [1], ms: 8000 });
  ok(tookMs > 5 * 8000, `${tookMs} ms`);
  deepEqual(bench.states(), ["missing", "online", "online"]);
  await bench.check();
});

test("slow assembly: a slow disk whose neighbour was put back as it was earlier is waited for: it has what that one lacks", async () => {
  const bench = await new Bench(3).furnish(5, 5);
  const image = Buffer.alloc(bench.rig.devices[0]!.sizeBytes);
  await bench.until(bench.group.close());
  bench.rig.reopen();
  await bench.rig.devices[0]!.read(image, 0);
  await bench.assemble(null);
  await bench.change(10);
  bench.rig.crash("none");
  bench.rig.devices[0]!.poke(image, 0);
  const tookMs = await bench.assemble({ disks: [1], ms: 8000 });
  ok(tookMs > 5 * 8000, `${tookMs} ms`);
  deepEqual(bench.states(), ["stale", "online", "online"]);
  await bench.check();
});

test("slow disk: whoever closes a group waits until what was asked of a slow disk has ended, the second one, too", async () => {
  const bench = await new Bench(3).furnish(1, 5);
  bench.slow = { disks: [1], ms: 9000 };
  const changed = bench.change(1);
  await bench.clock.advance(100);
  let closed = 0;
  const closing = [1, 2].map(() => bench.group.close().finally(() => closed++));
  const startMs = bench.clock.monotonicMs();
  await bench.clock.advance(5000);
  equal(closed, 0);
  await bench.until(Promise.allSettled([...closing, changed]));
  ok(bench.clock.monotonicMs() - startMs > 8000);
});

test("slow assembly: all alike is load", async () => {
  const bench = await new Bench(4).furnish(5, 5);
  bench.rig.crash("none");
  await bench.assemble({ disks: [0, 1, 2, 3], ms: 4000 });
  deepEqual(bench.kinds(), []);
  await bench.check();
  await bench.until(bench.group.close());
});

test("slow assembly: a group that cannot be brought up leaves its disks alone, a slow one, too", async () => {
  const bench = await new Bench(3).furnish(5, 5);
  bench.rig.crash("none");
  // No member has a sound bitmap.
  for (const device of bench.rig.devices) device!.poke(Buffer.alloc(2 * BLOCK_BYTES), LAYOUT.bitmapSlot0);
  await rejects(bench.assemble({ disks: [1], ms: 3000 }), /no member has a sound write-intent bitmap/);
  bench.slow = null;
  bench.calls = 0;
  const writes = () => bench.rig.devices.map((device) => device!.counters.writes + device!.counters.writesThrough);
  const before = writes();
  await bench.clock.advance(60_000);
  deepEqual(writes(), before);
});
