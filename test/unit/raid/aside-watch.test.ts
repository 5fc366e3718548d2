import { deepEqual, equal, match, ok } from "node:assert/strict";
import { test } from "node:test";
import { SeededRandom } from "../../../src/lib/prng.js";
import { BLOCK_BYTES, KIB, type LuByte, MIB } from "../../../src/lib/units.js";
import type { LogicalUnit } from "../../../src/lu/lu.js";
import { AsideWatch, SLOW_DISKS } from "../../../src/raid/aside-watch.js";
import { CallTimes } from "../../../src/raid/call-times.js";
import type { Member } from "../../../src/raid/member.js";
import { Machine } from "../../sim/machine.js";
import { Simulation } from "../../sim/simulation.js";
import { HandClock } from "../../support/hand-clock.js";

const LU_BLOCKS = 96;
/** Between two changes. */
const PAUSE_MS = 10;

/** A group over simulated disks, and a writer who waits for each change until it is durable. */
class Bench {
  readonly simulation = new Simulation(11);
  readonly machine: Machine;
  lu!: LogicalUnit;
  /** By block: the number of the change that it holds. */
  readonly #holds = new Map<number, number>();
  readonly #random = new SeededRandom(3);
  #changes = 0;
  isSeenElsewhere = false;

  constructor(members: number) {
    const chunkBytes = 16 * KIB;
    this.machine = new Machine({
      ...{ simulation: this.simulation, members, chunkBytes, rowBytes: 2 * chunkBytes, parityRun: 1 },
      ...{ diskBytes: 32 * MIB, without: {}, seenElsewhere: () => this.isSeenElsewhere },
    });
  }

  static async make(members: number, level: 1 | 5): Promise<Bench> {
    const bench = new Bench(members);
    await bench.simulation.until(bench.machine.create(), "creating");
    const { number } = await bench.simulation.until(bench.machine.group.createLu("lu", level, MIB), "an LU");
    bench.lu = bench.machine.group.openLu(number);
    return bench;
  }

  kinds(): string[] {
    return this.machine.events
      .map(({ kind }) => kind)
      .filter((kind) => /left-out|returned|degraded|complete|failed/.test(kind));
  }

  states(): string[] {
    return this.machine.group.describe().disks.map(({ state }) => state);
  }

  /** @returns changes a second, and the longest that one took */
  async change(seconds: number): Promise<{ readonly rate: number; readonly longestMs: number }> {
    const { simulation, lu } = this;
    const startMs = simulation.nowMs;
    const before = this.#changes;
    let longestMs = 0;
    while (simulation.nowMs - startMs < seconds * 1000) {
      const beganMs = simulation.nowMs;
      const block = this.#random.below(LU_BLOCKS);
      const bytes = Buffer.alloc(BLOCK_BYTES, ++this.#changes % 251);
      await simulation.until(
        lu.write(bytes, (block * BLOCK_BYTES) as LuByte).then(() => lu.flush()),
        "a change",
      );
      this.#holds.set(block, this.#changes % 251);
      await simulation.until(simulation.sleep(PAUSE_MS), "time");
      longestMs = Math.max(longestMs, simulation.nowMs - beganMs);
    }
    return { rate: (this.#changes - before) / seconds, longestMs };
  }

  /** Everything reads back. */
  async check(): Promise<void> {
    const found = Buffer.alloc(BLOCK_BYTES);
    for (const [block, value] of this.#holds) {
      await this.simulation.until(this.lu.read(found, (block * BLOCK_BYTES) as LuByte), "a read");
      ok(
        found.every((byte) => byte === value),
        `block ${block}`,
      );
    }
  }

  async untilWhole(): Promise<void> {
    const { simulation, machine } = this;
    for (let i = 0; i < 400 && machine.group.describe().state !== "clean"; i++) {
      await simulation.until(simulation.sleep(1000), "time");
    }
  }
}

for (const [level, members] of [
  [1, 2],
  [1, 3],
  [5, 3],
  [5, 8],
] as const) {
  test(`slow disk: RAID-${level} on ${members}: left out after some seconds, brought up to date when it is well, and nothing is lost`, async () => {
    const bench = await Bench.make(members, level);
    const well = await bench.change(2);
    bench.machine.drives[1]!.slowness = 1000;
    const slow = await bench.change(12);
    deepEqual(bench.kinds(), ["member-left-out", "degraded"]);
    equal(bench.states()[1], "stale");
    const { reason, slow: isSlow } = bench.machine.group.describe().disks[1]!;
    match(reason ?? "", /^answers \d+ times later than the other disks: left out until it is well$/);
    equal(isSlow, true);
    const without = await bench.change(2);
    ok(without.rate > 0.5 * well.rate, `${well.rate} changes a second, ${slow.rate} with it, ${without.rate} without`);
    ok(without.longestMs < 500, `${without.longestMs} ms`);
    await bench.check();
    bench.machine.drives[1]!.slowness = 1;
    await bench.untilWhole();
    deepEqual(bench.kinds(), ["member-left-out", "degraded", "member-returned", "complete"]);
    await bench.change(2);
    // What it holds is right: another one is lost, and everything is there.
    bench.machine.drives[0]!.failure = "ENXIO";
    await bench.check();
    await bench.simulation.until(bench.machine.group.close(), "closing");
  });
}

test("slow disk: when all are slow alike that is load, and none is left out", async () => {
  const bench = await Bench.make(5, 5);
  await bench.change(1);
  for (const drive of bench.machine.drives) drive.slowness = 400;
  await bench.change(30);
  deepEqual(bench.kinds(), []);
  deepEqual(new Set(bench.states()), new Set(["online"]));
  await bench.simulation.until(bench.machine.group.close(), "closing");
});

test("slow disk: with another one lost it is kept", async () => {
  const bench = await Bench.make(4, 5);
  await bench.change(1);
  bench.machine.drives[3]!.failure = "ENXIO";
  await bench.change(1);
  bench.machine.drives[1]!.slowness = 1000;
  await bench.change(15);
  deepEqual(bench.kinds(), ["member-failed", "degraded"]);
  await bench.check();
  await bench.simulation.until(bench.machine.group.close(), "closing");
});

test("slow disk: a hiccup of some seconds leaves none out", async () => {
  const bench = await Bench.make(4, 5);
  await bench.change(1);
  for (let i = 0; i < 3; i++) {
    bench.machine.drives[1]!.slowness = 300;
    await bench.change(2);
    bench.machine.drives[1]!.slowness = 1;
    await bench.change(1);
  }
  deepEqual(bench.kinds(), []);
  await bench.simulation.until(bench.machine.group.close(), "closing");
});

test("slow disk: one that does not answer at all holds nobody up for longer than it takes to leave it out", async () => {
  // Mirrors: a change reads nothing. A read under way is waited for, because its buffer is not ours meanwhile.
  const bench = await Bench.make(3, 1);
  await bench.change(1);
  bench.machine.drives[1]!.slowness = 1e7;
  const { longestMs } = await bench.change(10);
  ok(longestMs < 8000, `${longestMs} ms`);
  deepEqual(bench.kinds(), ["member-left-out", "degraded"]);
  await bench.check();
});

test("slow disk: slow again while it is brought up to date, it is left out again, and what it lacks is known", async () => {
  const bench = await Bench.make(3, 5);
  await bench.change(1);
  const drive = bench.machine.drives[2]!;
  drive.slowness = 1000;
  await bench.change(10);
  drive.slowness = 1;
  while (!bench.kinds().includes("member-returned")) await bench.simulation.until(bench.simulation.sleep(5), "time");
  drive.slowness = 3000;
  await bench.change(20);
  drive.slowness = 1;
  await bench.untilWhole();
  equal(bench.machine.group.describe().state, "clean");
  bench.machine.drives[0]!.failure = "ENXIO";
  await bench.check();
  await bench.simulation.until(bench.machine.group.close(), "closing");
});

for (const [isSeenElsewhere, state] of [
  [false, "failed"],
  [true, "missing"],
] as const)
  test(`slow disk: one that is left out and gives errors then is ${state} when another node ${isSeenElsewhere ? "has" : "lacks"} it`, async () => {
    const bench = await Bench.make(4, 5);
    await bench.change(1);
    bench.isSeenElsewhere = isSeenElsewhere;
    const drive = bench.machine.drives[1]!;
    drive.slowness = 1000;
    await bench.change(12);
    equal(bench.states()[1], "stale");
    drive.failure = "EIO";
    await bench.change(60);
    equal(bench.states()[1], state);
    await bench.simulation.until(bench.machine.group.close(), "closing");
  });

/** Members of which each answers so many milliseconds after it was asked, one call after the other, as long as the bench says. */
class Watched {
  readonly clock = new HandClock();
  readonly out: number[] = [];
  readonly members: Member[];
  readonly #watch: AsideWatch;

  constructor(count: number) {
    const times = () => ({ read: new CallTimes(), write: new CallTimes(), sync: new CallTimes() });
    this.members = Array.from({ length: count }, (_, slot) => ({ slot, takesWrites: true, times: times() }) as Member);
    this.#watch = new AsideWatch({
      ...{ members: this.members, clock: this.clock, random: new SeededRandom(1), settings: SLOW_DISKS },
      mayLeave: () => true,
      leaveOut: ({ slot }) => void this.out.push(slot),
      takeBack: async () => {},
      dismiss: () => {},
    });
  }

  /** @param tookMs  of the calls of each member; the next call begins `pauseMs` later */
  async pass(ms: number, tookMs: readonly number[], pauseMs: readonly number[]): Promise<void> {
    const endMs = this.clock.monotonicMs() + ms;
    for (const [slot, { times }] of this.members.entries()) {
      const ask = (): void => {
        const nowMs = this.clock.monotonicMs();
        if (nowMs >= endMs) return;
        this.#watch.active();
        const heap = times.sync.begin(nowMs);
        this.clock.after(tookMs[slot]!, () => {
          times.sync.end(heap, tookMs[slot]!, this.clock.monotonicMs());
          this.clock.after(pauseMs[slot]!, ask);
        });
      };
      ask();
    }
    await this.clock.advance(ms);
  }
}

test("slow disk: load that is over says nothing of a member that is asked seldom since", async () => {
  const watched = new Watched(4);
  await watched.pass(10_000, [400, 400, 1200, 400], [10, 10, 10, 10]);
  deepEqual(watched.out, []);
  // Now all are quick, and what the calls of the third took on average is known by old ones.
  await watched.pass(20_000, [1, 1, 1, 1], [10, 10, 1000, 10]);
  deepEqual(watched.out, []);
  // One that stays slow is left out, however seldom it is asked.
  await watched.pass(20_000, [1, 1, 800, 1], [10, 10, 1000, 10]);
  equal(watched.out[0], 2);
});

test("slow disk: one that is quick now and then, and slow for the most part, is left out", async () => {
  const watched = new Watched(3);
  await watched.pass(2000, [1, 1, 1], [10, 10, 10]);
  for (let second = 0; second < 12; second++) {
    await watched.pass(100, [1, 1, 1], [10, 10, 10]);
    await watched.pass(900, [1, 1, 250], [10, 10, 10]);
  }
  equal(watched.out[0], 2);
});

test("slow disk: two calls that take very long, with a high average long after them, leave none out", async () => {
  const watched = new Watched(4);
  const rare = [10, 10, 400, 10];
  await watched.pass(2000, [1, 1, 1, 1], rare);
  await watched.pass(2400, [1, 1, 2400, 1], rare);
  await watched.pass(1200, [1, 1, 1, 1], rare);
  await watched.pass(700, [1, 1, 700, 1], rare);
  await watched.pass(3000, [1, 1, 1, 1], rare);
  deepEqual(watched.out, []);
});

test("slow disk: one that is asked twice now and then, and slow each time, is left out; not for what was long ago", async () => {
  for (const [pauseMs, out] of [
    [4500, 2],
    [70_000, undefined],
  ] as const) {
    const watched = new Watched(4);
    await watched.pass(2000, [1, 1, 1, 1], [10, 10, 10, 10]);
    for (let i = 0; i < 4; i++) {
      await watched.pass(1050, [1, 1, 950, 1], [10, 10, 100, 10]);
      await watched.pass(950 + pauseMs, [1, 1, 950, 1], [10, 10, pauseMs, 10]);
    }
    equal(watched.out[0], out, `${pauseMs} ms between`);
  }
});

test("call times: the age of the oldest call under way, whatever began after it", () => {
  const times = new CallTimes();
  const old = times.begin(100);
  for (let at = 110; at < 1000; at += 10) times.end(times.begin(at), 5, at);
  equal(times.ageMs(1000), 900);
  equal(Math.round(times.meanMs), 5);
  equal(times.nowMs(1000), 900);
  const young = times.begin(1000);
  times.end(old, 900, 1000);
  ok(times.ageMs(1001) <= 891);
  times.end(young, 1, 1001);
  equal(times.ageMs(2000), 0);
  const next = times.begin(3000);
  equal(times.ageMs(3001), 1);
  times.end(next, 1, 3001);
  equal(times.isQuiet(3500, 1000), false);
  equal(times.isQuiet(4500, 1000), true);
});
