import { deepEqual, equal } from "node:assert/strict";
import { mkdtempSync, readdirSync, readlinkSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { type TestContext, test } from "node:test";
import { gate } from "../../support/gate.js";
import { settle } from "../../support/hand-clock.js";
import type { FakeRecord } from "./fake-group.js";
import { FakeWorld, SHRUNK_BYTES } from "./fake-layers.js";
import { furnished } from "./furnished.js";

/** Descriptors of this process on a file. */
function openCount(file: string): number {
  const links = readdirSync("/proc/self/fd").map((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`);
    } catch {
      return "";
    }
  });
  return links.filter((link) => link === file).length;
}

test("group hands: a disk whose lock is watched is let go of with the cabinet", async (t) => {
  const folder = mkdtempSync(path.join(os.tmpdir(), "stripeward-hands-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const file = path.join(folder, "disk");
  writeFileSync(file, "");
  const world = new FakeWorld(2);
  world.present.add(file);
  const { cabinet } = await furnished(t, world, { members: 2 });
  world.labels.set(file, { uuid: "uuid-disk", number: 9, groupUuid: "uuid-elsewhere" });
  await cabinet.groupHands.survey();
  equal(cabinet.groupHands.lockState("uuid-elsewhere"), "free");
  equal(openCount(file), 1);
  await cabinet.close();
  equal(openCount(file), 0);
});

/** A group that was let go while the path to its second disk, on which no label could be read, was held. */
async function letGoWithoutPath(t: TestContext) {
  const world = new FakeWorld(3);
  const { cabinet, group } = await furnished(t, world);
  const hands = cabinet.groupHands;
  await hands.survey();
  const { uuid } = group().describe();
  world.sizes.set("/disks/d2", SHRUNK_BYTES);
  await group().lose(2, "missing");
  await world.clock.advance(10_000);
  await hands.close(uuid);
  deepEqual([...world.open], ["/disks/d2"]);
  world.sizes.delete("/disks/d2");
  return { cabinet, world, hands, uuid };
}

test("group hands: a path that has just come back is there when its group is taken, though it was looked at while it was lost", async (t) => {
  const { cabinet, hands, uuid } = await letGoWithoutPath(t);
  await hands.lock(uuid);
  deepEqual(
    cabinet.disks().map(({ number }) => number),
    [1, 2, 3],
  );
});

test("group hands: a path that comes back to a group of the partner's is not kept locked", async (t) => {
  const { world, hands } = await letGoWithoutPath(t);
  await hands.survey();
  deepEqual([...world.open], []);
});

/** A group that was let go; the label of its second disk cannot be read before `answers`. */
async function letGoWithHungDisk(t: TestContext, members = 3) {
  const world = new FakeWorld(3);
  const sharing = { isOurs: () => world.isOurs, isPartner: () => false };
  const { cabinet, group } = await furnished(t, world, { sharing, members });
  const hands = cabinet.groupHands;
  await hands.survey();
  const { uuid } = group().describe();
  await hands.close(uuid);
  const { opened, open: answers } = gate();
  world.slow.set("/disks/d2", opened);
  return { cabinet, world, hands, uuid, answers, group };
}

/** @returns how a promise has ended by now */
async function outcome(work: Promise<unknown>): Promise<string> {
  const ends = work.then(
    () => "done",
    () => "failed",
  );
  await settle();
  return await Promise.race([ends, Promise.resolve("waits")]);
}

test("group hands: a disk that does not answer holds a takeover up for as long as a slow one, and comes back when it does", async (t) => {
  const { world, hands, uuid, answers, group } = await letGoWithHungDisk(t);
  const locked = hands.lock(uuid);
  equal(await outcome(locked), "waits");
  await world.clock.advance(4_900);
  equal(await outcome(locked), "waits");
  await world.clock.advance(200);
  equal(await outcome(locked), "done");
  await hands.open(uuid);
  equal(group().describe().state, "degraded");
  const { opened } = world;
  await world.clock.advance(20_000);
  equal(world.opened, opened, "what is being opened is not opened once more");
  answers();
  await settle();
  equal(world.opened, opened + 1, "it was looked at before, and is open now");
  await world.clock.advance(10_000);
  equal(world.opened, opened + 1, "it stays open until it is taken back");
  deepEqual(
    world.trace.filter((line) => line.startsWith("return ")),
    ["return 2"],
  );
});

test("group hands: a disk that answers when its group has been let go again is let go, too", async (t) => {
  const { world, hands, uuid, answers } = await letGoWithHungDisk(t);
  const locked = hands.lock(uuid);
  await world.clock.advance(5_100);
  await locked;
  // Again, before it answers: it is not locked by ourselves.
  await hands.close(uuid);
  const again = hands.lock(uuid);
  await world.clock.advance(5_100);
  equal(await outcome(again), "done");
  await hands.close(uuid);
  world.isOurs = false;
  const { opened } = world;
  answers();
  await settle();
  equal(world.opened, opened + 1, "once, for both");
  deepEqual([...world.open], []);
});

for (const { why, members, prepare } of [
  { why: "of two", members: 2, prepare: () => {} },
  {
    why: "while another one is missing",
    members: 3,
    prepare: (world: FakeWorld) => void world.present.delete("/disks/d3"),
  },
  {
    why: "while another one is stale",
    members: 3,
    prepare: (world: FakeWorld) => {
      const [[uuid, record] = []] = world.groups;
      const change = (one: FakeRecord["members"][number]) =>
        one.number === 3 ? { ...one, state: "stale" as const } : one;
      world.groups.set(uuid!, { ...record!, members: record!.members.map(change) });
    },
  },
])
  test(`group hands: nobody goes without a disk that does not answer ${why}`, async (t) => {
    const { world, hands, uuid, answers } = await letGoWithHungDisk(t, members);
    prepare(world);
    await hands.survey();
    const locked = hands.lock(uuid);
    await world.clock.advance(60_000);
    equal(await outcome(locked), "waits");
    answers();
    await locked;
  });
