import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { test } from "node:test";
import { isStorageError } from "../../../src/lib/errors.js";
import { nextTurn } from "../../../src/lib/next-turn.js";
import { SeededRandom } from "../../../src/lib/prng.js";
import { BLOCK_BYTES, type LuByte, MIB } from "../../../src/lib/units.js";
import { readLabel, writeLabel } from "../../../src/raid/label-io.js";
import { planShape, rowsStart } from "../../../src/raid/layout.js";
import { type FilledRig, GROUPS, RaidRig } from "../../model/raid-rig.js";

/** An old disk is a source over restarts, where it is current, until its successor has everything (docs/decisions/0027). */
const DISK_BYTES = 36 * MIB;
const CHUNK_BYTES = 65536;
const REGION_BYTES = MIB;
async function readAll({ group, content }: FilledRig): Promise<Buffer> {
  const found = Buffer.alloc(content.length);
  await group.openLu(1).read(found, 0 as LuByte);
  return found;
}

async function same(all: FilledRig, what: string): Promise<void> {
  ok((await readAll(all)).equals(all.content), what);
}

/** Let what is under way go on, and time pass. */
async function turn({ rig }: Pick<FilledRig, "rig">): Promise<void> {
  await nextTurn();
  rig.clock.pass();
}

async function turns(all: FilledRig, count: number): Promise<void> {
  for (let i = 0; i < count; i++) await turn(all);
}

/** Several regions are full, and none is marked. */
async function fixture(level: 1 | 5, members: number, memberBytes = 3 * MIB): Promise<FilledRig> {
  const rig = new RaidRig({ members, seed: 7, diskBytes: DISK_BYTES });
  const group = await rig.create();
  const dataMembers = level === 5 ? members - 1 : members / 2;
  const { sizeBytes } = await group.createLu("data", level, dataMembers * memberBytes);
  const content = Buffer.alloc(sizeBytes);
  new SeededRandom(9).fill(content);
  const all = { rig, group, content };
  await group.openLu(1).write(content, 0 as LuByte);
  await group.openLu(1).flush();
  await turns(all, 30);
  return all;
}

function rowsOf(all: FilledRig): number {
  return rowsStart(planShape(DISK_BYTES, all.rig.options.members, CHUNK_BYTES));
}

/** Nothing of its rows is given out, or only not these bytes of them. */
function silence(all: FilledRig, disk: number, from = 0, byteCount = DISK_BYTES - MIB - rowsOf(all)): void {
  all.rig.devices[disk]!.failRange({ position: rowsOf(all) + from, byteCount, on: "read" });
}

function stateOf(all: FilledRig): string {
  return all.group.describe().disks[0]!.state;
}

/** Everything that is read of it can be had from the first member and from whom the group has besides disk #2. */
async function rebuiltWithoutDisk2(all: FilledRig): Promise<void> {
  for (let i = 0; i < 4000 && stateOf(all) === "rebuilding"; i++) await turn(all);
  equal(stateOf(all), "online");
}

/** The new disk takes the place of #1, and the power fails when it has some of it; perhaps with a clean stop before. */
async function interrupted(
  all: FilledRig,
  meanwhile: () => Promise<void> = async () => {},
  restarted = false,
): Promise<void> {
  await all.group.replaceDisk(1, await all.rig.spare());
  await all.group.pauseTask("rebuild");
  await turns(all, 4);
  if (restarted) {
    await all.group.close();
    all.rig.reopen();
    all.group = await all.rig.assemble();
    // One step: what it had already is passed over.
    await all.group.pauseTask("rebuild");
    await turns(all, 4);
  }
  await meanwhile();
  equal(stateOf(all), "rebuilding");
  all.rig.crash("none");
}

/** Blocks that cannot be read now. All others are as they should be. */
async function refusedBlocks(all: FilledRig): Promise<number> {
  const block = Buffer.alloc(BLOCK_BYTES);
  let refused = 0;
  for (let at = 0; at < all.content.length; at += BLOCK_BYTES) {
    try {
      await all.group.openLu(1).read(block, at as LuByte);
      ok(block.equals(all.content.subarray(at, at + BLOCK_BYTES)), `${at}: nothing is made up`);
    } catch (error) {
      if (!isStorageError(error, "EIO")) throw error;
      refused++;
    }
  }
  return refused;
}

for (const [level, members] of GROUPS) {
  const name = `RAID-${level} on ${members}`;

  test(`old disk: ${name}: after a power cut at any moment it has what nobody else gives out`, async () => {
    let ends = false;
    let met = 0;
    for (let cutAt = 1; !ends; cutAt = Math.ceil(1.5 * cutAt)) {
      const all = await fixture(level, members);
      const spare = await all.rig.spare();
      silence(all, 1);
      let operations = 0;
      all.rig.before = (operation) => {
        if (operation !== "read" && ++operations >= cutAt) throw new Error("power cut");
      };
      await all.group.replaceDisk(1, spare).catch(() => {});
      for (let i = 0; i < 4000 && operations < cutAt && !ends; i++) {
        await turn(all);
        ends = stateOf(all) === "online" && all.group.describe().disks[0]!.number > 1;
      }
      for (let i = 0; i < 10; i++) await nextTurn();
      all.rig.before = () => {};
      all.rig.crash("random");
      silence(all, 1);
      all.rig.events.length = 0;
      all.group = await all.rig.assemble();
      await same(all, `after the cut at ${cutAt}`);
      if (stateOf(all) !== "rebuilding") continue;
      met++;
      ok(all.rig.events.some(({ kind, disk }) => kind === "disk-lent" && disk === 1));
      equal(all.group.describe().sources.length, 1);
      await rebuiltWithoutDisk2(all);
      await same(all, `rebuilt after the cut at ${cutAt}`);
      equal(all.group.describe().lostBlocks, 0);
      ok(all.rig.events.some(({ kind, disk }) => kind === "member-released" && disk === 1));
      const label = await readLabel(all.rig.devices.at(-1)!);
      deepEqual(
        label?.group?.members.map(({ former }) => former),
        label?.group?.members.map(() => null),
        "nothing is remembered of it",
      );
      deepEqual(all.group.describe().sources, []);
      await all.group.close();
    }
    ok(met > 3, `${met} cuts met the replacement`);
  });

  for (const restarted of [false, true]) {
    const when = restarted ? "in a later life" : "since it left";
    test(`old disk: ${name}: what was written ${when} is not read from it`, async () => {
      const all = await fixture(level, members, 10 * MIB);
      const first = Buffer.alloc(BLOCK_BYTES, 77);
      const write = async (at: number, block: Buffer): Promise<void> => {
        block.copy(all.content, at);
        await all.group.openLu(1).write(block, at as LuByte);
      };
      const meanwhile = async (): Promise<void> => {
        // Here and there, also in what is built already; and time passes.
        for (let at = 0; at < all.content.length; at += 97 * BLOCK_BYTES) await write(at, first);
        await all.group.openLu(1).flush();
        await turns(all, 30);
      };
      await interrupted(all, meanwhile, restarted);
      silence(all, 1);
      all.group = await all.rig.assemble();
      equal(stateOf(all), "rebuilding");
      ok((await refusedBlocks(all)) > 0, "it was needed");
      all.rig.devices[1]!.heal();
      await rebuiltWithoutDisk2(all);
      await same(all, "nothing is lost");
      await all.group.close();
    });
  }

  test(`old disk: ${name}: one that was used since is not believed, one that comes later is`, async () => {
    const all = await fixture(level, members, 10 * MIB);
    await interrupted(all);
    silence(all, 1);
    const label = (await readLabel(all.rig.devices[0]!))!;
    await writeLabel(all.rig.devices[0]!, { ...label, sequence: label.sequence + 1 });
    all.group = await all.rig.assemble();
    deepEqual(all.group.describe().sources, []);
    await rejects(same(all, "it cannot be"), (error) => isStorageError(error, "EIO"));
    all.rig.crash("random");
    const old = all.rig.devices[0]!;
    all.rig.devices[0] = null;
    silence(all, 1);
    all.group = await all.rig.assemble();
    await turns(all, 20);
    all.rig.devices[0] = old.reopen();
    const lent = () => all.rig.found().then((disks) => disks.find(({ number }) => number === 1)!);
    await rejects(
      async () => all.group.lendDisk(await lent()),
      (error) => isStorageError(error, "EINVAL"),
    );
    // Both slots of both ends: as it was left.
    await writeLabel(all.rig.devices[0]!, { ...label, sequence: label.sequence - 1 });
    await writeLabel(all.rig.devices[0]!, label);
    await all.group.lendDisk(await lent());
    await rebuiltWithoutDisk2(all);
    await same(all, "nothing is lost");
    await all.group.close();
  });
}

for (const [level, members] of GROUPS) {
  const name = `RAID-${level} on ${members}`;
  /** A block here and there, with parity on this member and that. */
  const silenceParts = (all: FilledRig, disk: number, apart = CHUNK_BYTES): void => {
    for (let i = 0; i < 9; i++) silence(all, disk, i * apart + 3 * BLOCK_BYTES, BLOCK_BYTES);
  };
  /** The rebuild waits for something, and a person gives that up. */
  const giveUp = async (all: FilledRig): Promise<void> => {
    for (let i = 0; i < 2000 && all.group.describe().unreadable === 0; i++) await turn(all);
    ok((await all.group.giveUp()) > 0);
  };

  if (level === 5)
    test(`old disk: ${name}: where something was given up during the replacement it is not believed after a restart`, async () => {
      const all = await fixture(level, members, 10 * MIB);
      silenceParts(all, 0, REGION_BYTES + CHUNK_BYTES);
      silenceParts(all, 1, REGION_BYTES + CHUNK_BYTES);
      await all.group.replaceDisk(1, await all.rig.spare());
      await giveUp(all);
      all.rig.crash("none");
      // The old disk answers again, and another one than before is silent beside #2.
      all.rig.devices[0]!.heal();
      silenceParts(all, 1, REGION_BYTES + CHUNK_BYTES);
      silence(all, 2);
      all.group = await all.rig.assemble();
      equal(stateOf(all), "rebuilding");
      ok((await refusedBlocks(all)) > 0);
      for (const disk of [1, 2]) all.rig.devices[disk]!.heal();
      await rebuiltWithoutDisk2(all);
      await refusedBlocks(all);
      await all.group.close();
    });

  test(`old disk: ${name}: what was lost on it before it was replaced it does not make up`, async () => {
    const all = await fixture(level, members);
    await all.group.failDisk(1);
    silenceParts(all, 1);
    const first = await all.rig.spare();
    await all.group.replaceDisk(1, first);
    await giveUp(all);
    await rebuiltWithoutDisk2(all);
    const { lostBlocks } = all.group.describe();
    ok(lostBlocks > 0);
    await all.group.replaceDisk(first.number, await all.rig.spare());
    await turns(all, 200);
    await rebuiltWithoutDisk2(all);
    equal(all.group.describe().lostBlocks, lostBlocks);
    ok((await refusedBlocks(all)) >= lostBlocks);
    all.rig.devices[1]!.heal();
    await turns(all, 400);
    // Where parity could not be read it was computed anew, and tells nothing of what was lost.
    const forGood = all.group.describe().lostBlocks;
    ok(forGood < lostBlocks);
    equal(await refusedBlocks(all), forGood);
    await all.group.close();
  });
}

test("old disk: a copy that was away when a block was taken back gets it when it returns", async () => {
  const all = await fixture(1, 2);
  await all.group.failDisk(1);
  silence(all, 1, 0, BLOCK_BYTES);
  await all.group.replaceDisk(1, await all.rig.spare());
  for (let i = 0; i < 2000 && all.group.describe().unreadable === 0; i++) await turn(all);
  equal(await all.group.giveUp(), 1);
  await rebuiltWithoutDisk2(all);
  all.rig.devices[0] = null;
  await turns(all, 30);
  all.rig.devices[2]!.fail("ENXIO");
  await all.group.probe();
  equal(stateOf(all), "missing");
  all.rig.devices[1]!.heal();
  await turns(all, 30);
  equal(all.group.describe().lostBlocks, 0);
  all.rig.devices[2]!.heal();
  all.rig.devices[2] = all.rig.devices[2]!.reopen();
  const disk = (await all.rig.found()).find(({ number }) => number === 3)!;
  await all.group.returnDisk(disk);
  await rebuiltWithoutDisk2(all);
  silence(all, 1);
  await same(all, "without the other");
  await all.group.close();
});
