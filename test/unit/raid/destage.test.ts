import { equal, ok, rejects } from "node:assert/strict";
import { test } from "node:test";
import { crc32c } from "../../../src/lib/crc32c.js";
import { isStorageError } from "../../../src/lib/errors.js";
import { nextTurn } from "../../../src/lib/next-turn.js";
import { BLOCK_BYTES, type LuByte, MIB } from "../../../src/lib/units.js";
import type { Group } from "../../../src/raid/contract.js";
import { RING_START } from "../../../src/raid/journal.js";
import { JOURNAL_RECORD } from "../../../src/raid/journal-format.js";
import { RaidRig } from "../../model/raid-rig.js";

const STRIPE = 4 * 65536;

async function made(): Promise<{ rig: RaidRig; group: Group }> {
  const rig = new RaidRig({ members: 5, seed: 5 });
  const group = await rig.create();
  await group.createLu("data", 5, 8 * MIB);
  await put(group, 0, Buffer.alloc(2 * STRIPE, 1));
  return { rig, group };
}

async function put(group: Group, at: number, source: Buffer): Promise<void> {
  const lu = group.openLu(1);
  await lu.write(source, at as LuByte);
  await lu.flush();
}

async function block(group: Group, at: number): Promise<Buffer> {
  const target = Buffer.alloc(BLOCK_BYTES);
  await group.openLu(1).read(target, at as LuByte);
  return target;
}

const reads = (rig: RaidRig) => rig.devices.reduce((sum, device) => sum + device!.counters.reads, 0);

test("destage: a flush of parts of stripes reads nothing and writes nothing in place", async () => {
  const { rig, group } = await made();
  const places = new Set<number>();
  const before = reads(rig);
  rig.before = (operation, _disk, position) => {
    if (operation !== "read" && operation !== "flush") places.add(position);
  };
  for (let i = 0; i < 4; i++) await put(group, i * 65536, Buffer.alloc(BLOCK_BYTES, 7));
  equal(reads(rig), before);
  ok([...places].every((position) => position < 6 * MIB));
  rig.before = () => {};
  await group.close();
});

test("destage: writes and flushes go on while a band is on its way, and the newest content wins", async () => {
  const { rig, group } = await made();
  await put(group, 0, Buffer.alloc(BLOCK_BYTES, 2));
  let open = (): void => {};
  const gate = new Promise<void>((resolve) => (open = resolve));
  let held = 0;
  // The idle timer puts it in place; what it reads for parity waits.
  rig.before = async (operation) => {
    if (operation !== "read") return;
    held++;
    await gate;
  };
  while (held === 0) {
    rig.clock.pass();
    await nextTurn();
  }
  await put(group, 0, Buffer.alloc(BLOCK_BYTES, 3));
  await put(group, BLOCK_BYTES, Buffer.alloc(BLOCK_BYTES, 4));
  equal((await block(group, 0))[0], 3);
  open();
  rig.before = () => {};
  rig.crash("none");
  const again = await rig.assemble();
  equal((await block(again, 0))[0], 3);
  equal((await block(again, BLOCK_BYTES))[0], 4);
  await again.close();
});

/** Time passes until it is so. */
async function until(rig: RaidRig, holds: () => boolean | Promise<boolean>): Promise<void> {
  for (let i = 0; i < 3000; i++) {
    if (await holds()) return;
    await nextTurn();
    if (i % 8 === 0) rig.clock.pass();
    if (i > 200) await new Promise((resolve) => setTimeout(resolve, 5));
  }
  throw new Error("it does not come to be so");
}

/** Every block of both stripes, but for those that cannot be had: -1. */
async function firstBytes(group: Group): Promise<number[]> {
  const found: number[] = [];
  for (let at = 0; at < 2 * STRIPE; at += BLOCK_BYTES) {
    found.push(
      await block(group, at).then(
        (content) => (content.every((byte) => byte === content[0]) ? content[0]! : -2),
        (error) => (isStorageError(error, "EIO") ? -1 : -3),
      ),
    );
  }
  return found;
}

for (const crash of [false, true]) {
  const when = crash ? "also over a crash" : "until it can be read again";
  test(`destage: new data in a column that two members cannot tell costs nothing, ${when} (I-2a)`, async () => {
    let apart = 0;
    let waiting = 0;
    for (let target = 0; target < 8; target++) {
      const { rig, group } = await made();
      await group.failDisk(1);
      // The first column of both stripes. A block that is written is readable again: so it shows when one is written that must not be.
      rig.devices[1]!.failRange({ position: 6 * MIB, byteCount: BLOCK_BYTES, on: "read", remaps: true });
      rig.devices[1]!.failRange({ position: 6 * MIB + 65536, byteCount: BLOCK_BYTES, on: "read", remaps: true });
      await put(group, target * 65536, Buffer.alloc(BLOCK_BYTES, 9));
      for (let i = 0; i < 20; i++) {
        rig.clock.pass();
        await nextTurn();
      }
      const { unreadable, lostBlocks, state } = group.describe();
      equal(lostBlocks, 0);
      equal(state, "degraded");
      waiting += unreadable;
      apart += rig.events.filter(({ kind }) => kind === "unread-block").length;
      const newest = (i: number) => (i * BLOCK_BYTES === target * 65536 ? 9 : 1);
      for (const [i, byte] of (await firstBytes(group)).entries()) {
        if (byte !== -1) equal(byte, newest(i), `block ${i}, target ${target}`);
        else ok(i % 16 === 0 && newest(i) === 1, `block ${i} cannot be had`);
      }
      let live = group;
      if (crash) {
        rig.crash("random");
        live = await rig.assemble();
        equal((await block(live, target * 65536))[0], 9);
      }
      for (const device of rig.devices) device!.heal();
      await until(rig, () => live.describe().unreadable === 0);
      await live.close();
      rig.reopen();
      const again = await rig.assemble();
      for (const [i, byte] of (await firstBytes(again)).entries())
        equal(byte, newest(i), `block ${i}, target ${target}`);
      equal(rig.events.filter(({ kind }) => kind === "lost-blocks").length, 0);
      await again.close();
    }
    ok(apart > 0, "some could be set apart");
    ok(waiting > apart, "some had to wait");
  });
}

test("destage: what waits for a block that cannot be read is given up when a person says so, and that block is not written", async () => {
  for (let target = 0; target < 8; target++) {
    const { rig, group } = await made();
    await group.failDisk(1);
    for (const stripe of [0, 1]) {
      rig.devices[1]!.failRange({ position: 6 * MIB + stripe * 65536, byteCount: BLOCK_BYTES, on: "read" });
    }
    await put(group, target * 65536, Buffer.alloc(BLOCK_BYTES, 9));
    for (let i = 0; i < 20; i++) {
      rig.clock.pass();
      await nextTurn();
    }
    await group.giveUp().catch((error) => ok(isStorageError(error, "ENOENT"), String(error)));
    await group.close();
    rig.reopen();
    const again = await rig.assemble();
    const lost = rig.events.filter(({ kind }) => kind === "lost-blocks").map(({ detail }) => Number(detail.at));
    for (const [i, byte] of (await firstBytes(again)).entries()) {
      const at = i * BLOCK_BYTES;
      if (at === target * 65536) equal(byte, 9);
      else if (byte !== -1) equal(byte, 1, `block ${i}`);
      else ok(i % 16 === 0, `block ${i} cannot be had`);
    }
    for (const at of lost) await put(again, at, Buffer.alloc(BLOCK_BYTES, 6));
    for (const at of lost) equal((await block(again, at))[0], 6);
    await again.close();
  }
});

test("destage: a journal of version 1, with parity beside its data, is replayed as it was meant", async () => {
  const { rig, group } = await made();
  await put(group, 0, Buffer.alloc(BLOCK_BYTES, 2));
  rig.crash("none");
  // The one record, as version 1 wrote it: the parity would be a second entry of the same kind; the data alone shows the kind.
  let found = 0;
  for (const device of rig.devices) {
    const head = Buffer.alloc(BLOCK_BYTES);
    for (let at = RING_START; at < RING_START + MIB; at += BLOCK_BYTES) {
      await device!.read(head, at);
      if (head.toString("latin1", 0, 8) !== "STRPJREC") continue;
      head.writeUInt32LE(1, JOURNAL_RECORD.version);
      head.fill(0, JOURNAL_RECORD.reserved, JOURNAL_RECORD.entries);
      head.writeUInt32LE(0, JOURNAL_RECORD.checksum);
      head.writeUInt32LE(crc32c(head), JOURNAL_RECORD.checksum);
      await device!.writeThrough([head], at);
      found++;
    }
  }
  equal(found, 2);
  const again = await rig.assemble();
  equal((await block(again, 0))[0], 2);
  const replayed = rig.events.filter(({ kind }) => kind === "replayed");
  equal(replayed[0]?.detail.blocks, 1);
  equal(again.counters().journalRecords, 0);
  await again.close();
});

class PowerCut extends Error {}

/** Let what is in flight end with its error. */
async function turns(): Promise<void> {
  for (let i = 0; i < 20; i++) await nextTurn();
}

test("destage: a torn last record that recovery has built on is not lost with the one disk that has it", async () => {
  const cuts = new Map<string, number>();
  for (let cutAt = 30; cutAt <= 90; cutAt += cutAt < 44 ? 1 : 9) {
    for (const chunk of [0, 1, 2, 3]) {
      const { rig, group } = await made();
      let holder = -1;
      rig.before = (operation, disk, position) => {
        if (holder >= 0) throw new PowerCut();
        if (operation === "writeThrough" && position >= RING_START) holder = disk;
      };
      await rejects(put(group, chunk * 65536, Buffer.alloc(BLOCK_BYTES, 9)));
      await turns();
      rig.crash("none");
      let operations = 0;
      rig.before = (operation) => {
        if (operation !== "read" && ++operations >= cutAt) throw new PowerCut();
      };
      // What is restored goes to its place when nothing is written for a while.
      const outcome = await rig.assemble().then(
        async () => {
          rig.clock.pass();
          await turns();
          return operations < cutAt ? "recovered" : "cut";
        },
        () => "cut",
      );
      cuts.set(outcome, (cuts.get(outcome) ?? 0) + 1);
      await turns();
      rig.before = () => {};
      rig.crash("random");
      rig.devices[holder] = null;
      const again = await rig.assemble();
      for (let at = 0; at < STRIPE; at += 65536) {
        if (at !== chunk * 65536) equal((await block(again, at))[0], 1, `cut at ${cutAt}, chunk ${chunk}, byte ${at}`);
      }
      await again.close();
    }
  }
  ok(cuts.get("cut")! > 20 && cuts.get("recovered")! > 2, JSON.stringify([...cuts]));
});

test("destage: after a crash service does not wait for what is pending, and a stripe written as a whole is not undone by an older record", async () => {
  const { rig, group } = await made();
  // The oldest record is needed for long: all that comes after it stays in the journal, too.
  await put(group, STRIPE, Buffer.alloc(BLOCK_BYTES, 5));
  await put(group, 0, Buffer.alloc(BLOCK_BYTES, 6));
  for await (const _ of group.openLu(1).readAlternatives(Buffer.alloc(BLOCK_BYTES), 0 as LuByte)) break;
  rig.crash("none");
  const written = new Set<number>();
  rig.before = (operation, _disk, position) => {
    if (operation === "write") written.add(position);
  };
  const second = await rig.assemble();
  // Of the one that had its parity in the journal both were written again, and nothing of the other.
  equal(written.size, 1);
  equal((await block(second, STRIPE))[0], 5);
  await put(second, 0, Buffer.alloc(STRIPE, 8));
  rig.crash("none");
  const third = await rig.assemble();
  for (let at = 0; at < STRIPE; at += 65536) equal((await block(third, at))[0], 8);
  equal((await block(third, STRIPE))[0], 5);
  await third.close();
});

/** More blocks that are only in the journal than a life with less memory can hold at once. */
async function manyPending(count: number): Promise<RaidRig> {
  const rig = new RaidRig({ members: 5, seed: 5, diskBytes: 1024 * MIB, buffers: { stripeCacheBytes: 16 * MIB } });
  const group = await rig.create();
  await group.createLu("data", 5, 64 * MIB);
  const lu = group.openLu(1);
  for (let i = 0; i < count; i++) await lu.write(Buffer.alloc(BLOCK_BYTES, i % 251), (i * 65536) as LuByte);
  await lu.flush();
  rig.crash("none");
  return rig;
}

const LESS = { buffers: { stripeCacheBytes: 2 * MIB } };

/** Recover, with the power failing at a device operation. @returns operations */
async function recoverUntil(rig: RaidRig, cutAt: number): Promise<number> {
  let operations = 0;
  rig.before = (operation) => {
    if (operation !== "read" && ++operations >= cutAt) throw new PowerCut();
  };
  await rig.assemble(LESS).catch(() => {});
  await turns();
  rig.before = () => {};
  rig.crash("random");
  return operations;
}

test("destage: recovery with less memory than the last life had goes in portions, and a crash between them loses nothing", async () => {
  const count = 900;
  const all = await recoverUntil(await manyPending(count), Number.POSITIVE_INFINITY);
  for (const left of [30, 60, 120, 240, 480]) {
    const rig = await manyPending(count);
    await recoverUntil(rig, all - left);
    rig.devices[2] = null;
    const again = await rig.assemble(LESS);
    for (let i = 0; i < count; i++) equal((await block(again, i * 65536))[0], i % 251, `block ${i}, ${left} left`);
    await again.close();
  }
});

test("destage: the journal's tail does not pass a band that is on its way", async () => {
  const { rig, group } = await made();
  await put(group, 0, Buffer.alloc(BLOCK_BYTES, 2));
  // What is written in place waits: by stripe, one chunk row each.
  const gates = [0, 1].map(() => {
    let open = (): void => {};
    const opened = new Promise<void>((resolve) => (open = resolve));
    return { open, opened, waiting: 0 };
  });
  rig.before = async (operation, _disk, position) => {
    const gate = operation === "read" || operation === "flush" ? undefined : gates[(position - 6 * MIB) / 65536];
    if (gate === undefined) return;
    gate.waiting++;
    await gate.opened;
  };
  const until = async (reached: () => boolean): Promise<void> => {
    while (!reached()) {
      rig.clock.pass();
      await turns();
    }
  };
  // The idle timer puts everything in place that is there, and moves the tail then.
  await until(() => gates[0]!.waiting > 0);
  await put(group, STRIPE, Buffer.alloc(BLOCK_BYTES, 3));
  const healing = group.openLu(1).heal(Buffer.alloc(BLOCK_BYTES, 1), (STRIPE + 8 * BLOCK_BYTES) as LuByte);
  healing.catch(() => {});
  await until(() => gates[1]!.waiting > 0);
  gates[0]!.open();
  for (let i = 0; i < 20; i++) await turns();
  rig.before = () => {};
  rig.crash("none");
  const again = await rig.assemble();
  equal((await block(again, 0))[0], 2);
  equal((await block(again, STRIPE))[0], 3);
  await again.close();
});
