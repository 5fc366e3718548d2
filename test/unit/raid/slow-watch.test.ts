import { deepEqual, equal, ok } from "node:assert/strict";
import { test } from "node:test";
import { MemoryDevice } from "../../../src/device/memory-device.js";
import { nextTurn } from "../../../src/lib/next-turn.js";
import { SeededRandom } from "../../../src/lib/prng.js";
import { BLOCK_BYTES, type LuByte, MIB } from "../../../src/lib/units.js";
import { Member } from "../../../src/raid/member.js";
import { Latency, SlowWatch } from "../../../src/raid/slow-watch.js";
import { ManualClock, RaidRig } from "../../model/raid-rig.js";

/** Time passes as the disks' requests take it. */
class SteppedClock extends ManualClock {
  now = 0;
  override monotonicMs(): number {
    return this.now;
  }
}

interface Fixture {
  readonly members: Member[];
  readonly changes: string[];
  readonly clock: SteppedClock;
  /** Of each member, in milliseconds. */
  readonly takes: number[];
}

function fixture(count: number): Fixture {
  const clock = new SteppedClock();
  const takes = Array.from({ length: count }, () => 1);
  const members: Member[] = [];
  const changes: string[] = [];
  const watch = new SlowWatch({
    ...{ members, clock, probeAt: 0 },
    onChange: ({ slot, slow }) => void changes.push(`${slot} ${slow ? "slow" : "well"}`),
  });
  for (let slot = 0; slot < count; slot++) {
    const before = () => {
      clock.now += takes[slot]!;
    };
    const device = new MemoryDevice({ sizeBytes: MIB, random: new SeededRandom(slot), before });
    const label = {
      uuid: `${slot}`,
      number: slot + 1,
      state: "online" as const,
      sizeBytes: MIB,
      unbuiltBytes: 0,
      partedFrom: 0,
      former: null,
      path: "",
    };
    const hooks = {
      failed: () => {},
      faulty: () => {},
      errorsMax: 9,
      expendable: () => true,
      clock,
      formerGone: () => {},
    };
    members.push(new Member(slot, label, device, { ...hooks, late: (member) => watch.judge(member) }));
  }
  return { members, changes, clock, takes };
}

async function readAll({ members }: Fixture, times: number): Promise<void> {
  for (let i = 0; i < times; i++) for (const member of members) await member.read(Buffer.alloc(BLOCK_BYTES), 0);
}

test("slow: a disk that answers much later than the others is found, and found well again by a probe", async () => {
  const all = fixture(4);
  await readAll(all, 10);
  all.takes[2] = 300;
  await readAll(all, 3);
  deepEqual(all.changes, [], "three late reads are a hiccup");
  await readAll(all, 6);
  deepEqual(all.changes, ["2 slow"]);
  equal(all.members[2]!.prompt, false);
  all.takes[2] = 1;
  for (let i = 0; i < 60 && all.members[2]!.slow; i++) {
    all.clock.pass();
    await nextTurn();
  }
  deepEqual(all.changes, ["2 slow", "2 well"]);
});

test("slow: when all are late nobody is an outlier, and with one slow there is no second", async () => {
  const all = fixture(4);
  await readAll(all, 10);
  all.takes.fill(300);
  await readAll(all, 30);
  deepEqual(all.changes, []);
  all.takes[1] = 9000;
  await readAll(all, 30);
  all.takes[3] = 90_000;
  await readAll(all, 30);
  deepEqual(all.changes, ["1 slow"]);
});

test("slow: the mean follows and forgets", () => {
  const latency = new Latency();
  for (let i = 0; i < 20; i++) equal(latency.add(1), false);
  ok(!latency.add(100) && !latency.add(100) && !latency.add(100) && latency.add(100));
  for (let i = 0; i < 60; i++) latency.add(1);
  ok(latency.meanMs < 2);
});

for (const [level, members] of [
  [1, 2],
  [1, 3],
  [5, 3],
  [5, 5],
] as const) {
  test(`slow: RAID-${level} on ${members}: reads go round a slow disk, and to it when nobody else can help`, async () => {
    const rig = new RaidRig({ members, seed: 8 });
    const group = await rig.create();
    await group.createLu("data", level, 4 * MIB);
    const lu = group.openLu(1);
    const content = Buffer.alloc(32 * 65536);
    new SeededRandom(4).fill(content);
    await lu.write(content, 0 as LuByte);
    await lu.flush();
    rig.before = (operation, disk) =>
      operation === "read" && disk === 1 ? new Promise((resolve) => setTimeout(resolve, 45)) : undefined;
    const found = Buffer.alloc(content.length);
    const block = Buffer.alloc(BLOCK_BYTES);
    for (let at = 0; at < content.length && !rig.events.some(({ kind }) => kind === "member-slow"); at += BLOCK_BYTES) {
      await lu.read(block, at as LuByte);
    }
    equal(group.describe().disks[1]!.slow, true);
    const reads = rig.devices[1]!.counters.reads;
    await lu.read(found, 0 as LuByte);
    ok(found.equals(content));
    equal(rig.devices[1]!.counters.reads, reads, "the slow disk was left alone");
    rig.devices[0]!.fail("ENXIO");
    await lu.read(found.fill(0), 0 as LuByte);
    ok(found.equals(content));
    equal(group.describe().state, "degraded");
    await group.close();
  });
}
