import { deepEqual, equal, ok } from "node:assert/strict";
import { test } from "node:test";
import { nextTurn } from "../../../src/lib/next-turn.js";
import { BLOCK_BYTES, type LuByte, MIB } from "../../../src/lib/units.js";
import type { Group } from "../../../src/raid/contract.js";
import { Raid1Geometry, Raid5Geometry, RowMap } from "../../../src/raid/geometry.js";
import { RING_START } from "../../../src/raid/journal.js";
import { LAYOUT, planShape, rowsStart } from "../../../src/raid/layout.js";
import { RaidRig } from "../../model/raid-rig.js";

const CHUNK = 64 * 1024;
const LU_BYTES = 12 * MIB;
const WRITTEN = 1;
const TORN = 99;

const LAYOUTS = [
  [1, 2],
  [1, 3],
  [5, 3],
  [5, 5],
] as const;

function turn(): Promise<void> {
  return nextTurn();
}

/**
 * A group that was killed while a block was being written: on one member (of RAID-1: the one with the first copy) it is there, and neither parity
 * nor the other copy know of it. The background work that would settle it is held at the first band of the LU.
 */
class Torn {
  readonly rig: RaidRig;
  readonly content = Buffer.alloc(LU_BYTES, WRITTEN);
  readonly #start: number;
  readonly #rows: RowMap;
  readonly #at: number;
  group!: Group;
  #release = (): void => {};

  /** @param at  byte of the LU: the block */
  constructor(
    readonly level: 1 | 5,
    readonly members: number,
    at = 10 * MIB,
  ) {
    this.rig = new RaidRig({ members, seed: 5 });
    const shape = planShape(40 * MIB, members, CHUNK, {});
    this.#start = rowsStart(shape);
    this.#rows = new RowMap(shape, [{ first: 0, count: shape.rowCount }]);
    this.#at = at;
  }

  async start(): Promise<this> {
    const group = await this.rig.create();
    await group.createLu("data", this.level, LU_BYTES);
    await group.openLu(1).write(this.content, 0 as LuByte);
    await group.openLu(1).flush();
    this.rig.reopen();
    this.tear();
    await this.again();
    return this;
  }

  get stripeBytes(): number {
    return this.level === 1 ? CHUNK : CHUNK * (this.members - 1);
  }

  /** The member that holds this byte (RAID-1: its first copy), and where. */
  placeOf(at: number): { slot: number; position: number } {
    if (this.level === 1) {
      const geometry = new Raid1Geometry(this.members, CHUNK, this.#rows);
      const { member, inLu } = geometry.place(Math.floor(at / CHUNK), 0);
      return { slot: member, position: this.#rows.memberByte(inLu) + (at % CHUNK) };
    }
    const geometry = new Raid5Geometry(this.members, CHUNK, this.rig.parityRun, this.#rows);
    const stripe = Math.floor(at / this.stripeBytes);
    const slot = geometry.dataMember(stripe, Math.floor((at % this.stripeBytes) / CHUNK));
    return { slot, position: geometry.memberByte(stripe) + (at % CHUNK) };
  }

  tear(): void {
    const { slot, position } = this.placeOf(this.#at);
    this.rig.devices[slot]!.poke(Buffer.alloc(BLOCK_BYTES, TORN), position);
  }

  /** Bring it up with what is in `rig.devices`, and hold the background work. */
  async again(): Promise<void> {
    const held = new Promise<void>((resolve) => (this.#release = resolve));
    this.rig.before = (operation, _disk, position) => {
      return operation === "read" && position === this.#start ? held : undefined;
    };
    this.group = await this.rig.assemble();
  }

  release(): void {
    this.#release();
    this.rig.before = () => {};
  }

  async read(at = this.#at): Promise<number> {
    const target = Buffer.alloc(BLOCK_BYTES);
    await this.group.openLu(1).read(target, at as LuByte);
    ok(target.every((byte) => byte === target[0]));
    return target[0]!;
  }

  /** The disk with the torn block is pulled out of the running group. */
  lose(): void {
    this.rig.devices[this.placeOf(this.#at).slot]!.fail("ENXIO");
  }

  /** Power fails, and the disk with the torn block does not come back. */
  async crashWithout(): Promise<void> {
    this.rig.crash("none");
    this.rig.devices[this.placeOf(this.#at).slot] = null;
    await this.again();
  }

  task() {
    return this.group.describe().tasks.find(({ kind }) => kind === "resync");
  }

  resynced(): unknown[] {
    return this.rig.events.filter(({ kind }) => kind === "resynced").map(({ detail }) => detail);
  }

  async end(): Promise<void> {
    this.release();
    await this.group.close();
  }
}

for (const [level, members] of LAYOUTS) {
  const name = `unsettled: RAID-${level} on ${members}`;

  test(`${name}: what was read first stays when its member is lost before the background work has come there`, async () => {
    // Also where a mirror of two reads the second copy first.
    for (const at of [10 * MIB, 11 * MIB]) {
      const all = await new Torn(level, members, at).start();
      equal(all.task()?.state, "running");
      const first = await all.read();
      all.lose();
      equal(await all.read(), first);
      await all.end();
    }
  });

  test(`${name}: what was read first stays when the power fails at once, and its member does not come back`, async () => {
    const all = await new Torn(level, members).start();
    const first = await all.read();
    await all.crashWithout();
    equal(await all.read(), first);
    await all.end();
  });

  test(`${name}: all ways to a block tell the same`, async () => {
    const all = await new Torn(level, members).start();
    const target = Buffer.alloc(BLOCK_BYTES);
    const found: number[] = [];
    for await (const _ of all.group.openLu(1).readAlternatives(target, (10 * MIB) as LuByte)) found.push(target[0]!);
    deepEqual(found, [await all.read(), await all.read()]);
    await all.end();
  });

  test(`${name}: lost before it was read, it is what the others say, also when another disk has taken its place`, async () => {
    const all = await new Torn(level, members).start();
    all.lose();
    equal(await all.read(), WRITTEN);
    all.release();
    const { slot } = all.placeOf(10 * MIB);
    await all.group.replaceDisk(slot + 1, await all.rig.spare());
    equal((await all.rig.ended(all.group, "rebuild"))?.state, "done");
    equal(await all.read(), WRITTEN);
    all.rig.devices[(slot + 1) % members]!.fail("ENXIO");
    equal(await all.read(), WRITTEN);
    await all.group.close();
  });

  test(`${name}: lost before it was read, it is not read before the labels say who is lost`, async () => {
    const all = await new Torn(level, members).start();
    const { slot } = all.placeOf(10 * MIB);
    let open = (): void => {};
    const gate = new Promise<void>((resolve) => (open = resolve));
    all.rig.before = (operation) => (operation === "writeThrough" ? gate : undefined);
    const failing = all.group.failDisk(slot + 1);
    let answered = false;
    const reading = all.read().then((byte) => {
      answered = true;
      return byte;
    });
    for (let i = 0; i < 20; i++) await turn();
    equal(answered, false);
    open();
    equal(await reading, WRITTEN);
    await failing;
    await all.end();
  });

  test(`${name}: a scrub finds nothing wrong where copies or parity are not settled yet`, async () => {
    const all = await new Torn(level, members).start();
    // It pauses when the region that it is at is done, long before the torn block.
    await all.group.pauseTask("resync");
    all.release();
    await all.group.scrub({ heal: true, inspectors: new Map() });
    const task = await all.rig.ended(all.group, "scrub");
    deepEqual([task?.state, task?.found], ["done", 0]);
    equal(all.task()?.state, "paused");
    await all.group.close();
  });

  test(`${name}: the background work settles the rest, says so, and leaves nothing to do for the next crash`, async () => {
    const all = await new Torn(level, members).start();
    all.release();
    const task = await all.rig.ended(all.group, "resync");
    deepEqual([task?.state, task?.doneBytes], ["done", task?.totalBytes]);
    const regions = task!.totalBytes / MIB;
    deepEqual(all.resynced(), [{ regions, blocks: level === 1 ? 1 : CHUNK / BLOCK_BYTES }]);
    all.lose();
    equal(await all.read(), TORN);
    all.rig.crash("none");
    await all.again();
    equal(all.task(), undefined);
    await all.end();
  });

  test(`${name}: stopped cleanly in the middle, the next life goes on with it`, async () => {
    const all = await new Torn(level, members).start();
    const closing = all.group.close();
    all.release();
    await closing;
    deepEqual(all.resynced(), []);
    all.rig.reopen();
    await all.again();
    const first = await all.read();
    all.lose();
    equal(await all.read(), first);
    all.release();
    await all.rig.ended(all.group, "resync");
    equal(all.resynced().length, 1);
    await all.group.close();
  });

  test(`${name}: marks of what is not settled are not cleared for being idle, and a crash goes on with it`, async () => {
    const all = await new Torn(level, members).start();
    for (let i = 0; i < 6; i++) {
      all.rig.clock.pass();
      for (let turns = 0; turns < 20; turns++) await turn();
    }
    all.rig.crash("none");
    await all.again();
    const first = await all.read();
    all.lose();
    equal(await all.read(), first);
    await all.end();
  });
}

test("unsettled: new data beside a torn block of a slow disk survives the loss of its own disk", async () => {
  const at = 10 * MIB;
  const all = await new Torn(5, 5, at).start();
  const { slot } = all.placeOf(at);
  const hold = all.rig.before;
  all.rig.before = (operation, disk, position) => {
    if (operation === "read" && disk === slot) return new Promise((resolve) => setTimeout(resolve, 45));
    return hold(operation, disk, position);
  };
  for (let next = 2 * MIB; !all.group.describe().disks[slot]!.slow; next += BLOCK_BYTES) await all.read(next);
  // In the same column, on the next member.
  const beside = at + CHUNK;
  await all.group.openLu(1).write(Buffer.alloc(BLOCK_BYTES, 7), beside as LuByte);
  await all.group.openLu(1).flush();
  const own = all.placeOf(beside);
  equal(own.position, all.placeOf(at).position);
  const place = Buffer.alloc(BLOCK_BYTES);
  for (let i = 0; i < 400 && place[0] !== 7; i++) {
    all.rig.clock.pass();
    await new Promise((resolve) => setTimeout(resolve, 5));
    await all.rig.devices[own.slot]!.read(place, own.position);
  }
  equal(place[0], 7, "it is in place");
  all.rig.crash("all");
  all.rig.devices[own.slot] = null;
  await all.again();
  equal(await all.read(beside), 7);
  await all.end();
});

test("unsettled: parity that was settled stays, although the journal holds older parity of its columns", async () => {
  // The stripe has been written as a whole, which revokes its records; the power fails, and only one block of it is there, and not the revoke.
  const at = 20 * CHUNK;
  const torn = new Torn(5, 3, at + CHUNK);
  const { rig } = torn;
  const group = await rig.create();
  await group.createLu("data", 5, LU_BYTES);
  const lu = group.openLu(1);
  await lu.write(torn.content, 0 as LuByte);
  await lu.flush();
  // The tail of the journal stays where it is.
  const never = new Promise<void>(() => {});
  rig.before = (operation, _disk, position) =>
    operation !== "read" && position >= LAYOUT.journal && position < RING_START ? never : undefined;
  await lu.write(Buffer.alloc(BLOCK_BYTES, 2), at as LuByte);
  await lu.flush();
  // In place with its parity; more time would clear the mark of the region.
  for (let i = 0; i < 200; i++) {
    await turn();
    if (i % 100 === 0) rig.clock.pass();
  }
  // Not in place yet: what is in the journal stays there in the next life, too.
  await lu.write(Buffer.alloc(BLOCK_BYTES, 3), MIB as LuByte);
  await lu.flush();
  rig.crash("all");
  torn.tear();
  await torn.again();
  ok(rig.events.some(({ kind }) => kind === "replayed"));
  deepEqual([await torn.read(at), await torn.read(), await torn.read(MIB)], [2, TORN, 3]);
  await torn.crashWithout();
  deepEqual([await torn.read(at), await torn.read(), await torn.read(MIB)], [2, TORN, 3]);
});
