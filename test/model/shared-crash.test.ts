import { deepEqual, equal } from "node:assert/strict";
import { test } from "node:test";
import type { PartitionLu } from "../../src/ha/shared/partition.js";
import { isStorageError, StorageError } from "../../src/lib/errors.js";
import type { LuByte } from "../../src/lib/units.js";
import { SharedRig } from "../support/shared-rig.js";

/**
 * A partition on two members: writes, a member that goes away, writes without it, its return and resync beside more writes, a clean end. The power
 * fails at one chosen write, flush or label of any disk; each disk keeps any subset of its unflushed sectors. Then, with all disks there:
 *   acknowledged as durable      reads back, on every copy that is called current
 *   written and not durable      may be anything, the same at every read
 *   current copies               are equal once the background work has ended
 * and what one disk alone says of itself is either the whole truth or refused, unless it is the one that was away.
 */
const BLOCKS = 24;
/** Far apart, so that several pieces of a resync have content. */
const STEP = 36 * 4096;
const ANYTHING = -1;

class Run {
  readonly rig: SharedRig;
  readonly sure = new Int32Array(BLOCKS);
  readonly latest = new Int32Array(BLOCKS);
  operations = 0;
  cut = false;
  /** Slot 1 has missed writes, and no header says that it has them again. */
  behind = false;
  lu!: PartitionLu;
  #version = 0;

  constructor(
    readonly seed: number,
    readonly cutAt: number,
  ) {
    this.rig = new SharedRig({ members: 2, seed });
  }

  async work(): Promise<void> {
    await this.rig.create();
    this.rig.before = (operation) => {
      if (this.cut) throw new StorageError("ENXIO", "the power is off");
      if (operation === "read" || ++this.operations < this.cutAt) return;
      this.cut = true;
      throw new StorageError("ENXIO", "the power is off");
    };
    try {
      await this.#live();
    } catch (error) {
      if (!this.cut || !isStorageError(error)) throw error;
    }
  }

  async #live(): Promise<void> {
    const group = await this.rig.open();
    this.lu = await this.rig.writer(group);
    await this.some(4);
    this.rig.devices[1]!.fail("ENXIO");
    this.behind = true;
    await this.some(4);
    this.rig.devices[1]!.heal();
    await group.returnMember(await this.rig.disk(1));
    await this.some(5);
    await this.lu.settled();
    if (this.lu.copies[1] === "current") this.behind = false;
    await this.some(2);
    await group.close();
    for (let block = 0; block < BLOCKS; block++) this.sure[block] = this.latest[block]!;
  }

  async some(count: number): Promise<void> {
    for (let i = 0; i < count; i++) {
      const dice = this.rig.random.below(4);
      if (dice === 0) await this.#flush();
      else await this.#write(dice === 1);
    }
  }

  async #flush(): Promise<void> {
    const before = Int32Array.from(this.latest);
    await this.lu.flush();
    before.forEach((version, block) => {
      if (version === this.latest[block]) this.sure[block] = version;
    });
  }

  async #write(through: boolean): Promise<void> {
    const block = this.rig.random.below(BLOCKS);
    const version = ++this.#version;
    this.latest[block] = version;
    this.sure[block] = ANYTHING;
    const at = (block * STEP) as LuByte;
    const source = Buffer.alloc(4096, version);
    await (through ? this.lu.writeThrough([source], at) : this.lu.write(source, at));
    if (through) this.sure[block] = version;
  }

  async check(): Promise<void> {
    this.rig.before = null;
    for (const device of this.rig.devices) device.heal();
    this.rig.crash("random");
    await this.#checkAlone();
    const group = await this.rig.open();
    const lu = await this.rig.writer(group, { epoch: 2 });
    const first = await this.read(lu);
    this.compare(first);
    await lu.settled();
    deepEqual(lu.copies, ["current", "current"]);
    deepEqual(await this.read(lu), first, "every read says the same");
    deepEqual(await this.rig.raw(0, 0, lu.sizeBytes), await this.rig.raw(1, 0, lu.sizeBytes), "copies are equal");
    await group.close();
  }

  /** Each disk without the other, only looked at. */
  async #checkAlone(): Promise<void> {
    for (const slot of this.behind ? [0] : [0, 1]) {
      const group = await this.rig.open([slot]);
      const lu = await group.openForReading("chn1").catch((error: unknown) => {
        if (!isStorageError(error, "EIO")) throw error;
        return null;
      });
      if (lu !== null) this.compare(await this.read(lu));
    }
  }

  async read(lu: PartitionLu): Promise<Buffer[]> {
    const blocks: Buffer[] = [];
    for (let block = 0; block < BLOCKS; block++) {
      const target = Buffer.alloc(4096);
      await lu.read(target, (block * STEP) as LuByte);
      blocks.push(target);
    }
    return blocks;
  }

  compare(blocks: readonly Buffer[]): void {
    blocks.forEach((found, block) => {
      const version = this.sure[block]!;
      if (version === ANYTHING) return;
      equal(found.equals(Buffer.alloc(4096, version)), true, `block ${block} is version ${version}, not ${found[0]}`);
    });
  }
}

/** The same life, in which one of the disks stops at the chosen operation instead of the power; the other goes on, and it comes back at the end. */
class LostDisk extends Run {
  constructor(
    seed: number,
    failAt: number,
    readonly victim: number,
  ) {
    super(seed, failAt);
  }

  async live(): Promise<void> {
    await this.rig.create();
    const group = await this.rig.open();
    this.rig.before = (operation, disk) => {
      if (operation !== "read" && ++this.operations >= this.cutAt) this.cut = true;
      if (this.cut && disk === this.victim) throw new StorageError("EIO", "the disk has failed");
    };
    this.lu = await this.rig.writer(group);
    await this.some(6);
    await this.lu.settled();
    await this.some(6);
    this.rig.before = null;
    this.compare(await this.read(this.lu));
    for (const [slot, { state }] of group.describe().members.entries()) {
      if (state !== "online") await group.returnMember(await this.rig.disk(slot));
    }
    await this.some(3);
    await this.lu.settled();
    deepEqual(this.lu.copies, ["current", "current"]);
    this.compare(await this.read(this.lu));
    await group.close();
    deepEqual(await this.rig.raw(0, 0, this.lu.sizeBytes), await this.rig.raw(1, 0, this.lu.sizeBytes));
  }
}

for (const victim of [0, 1]) {
  test(`shared crash: disk ${victim + 1} fails at every write, nothing is lost and it comes back`, async () => {
    const whole = new LostDisk(7, Number.POSITIVE_INFINITY, victim);
    await whole.live();
    for (let failAt = 1; failAt <= whole.operations; failAt++) await new LostDisk(7, failAt, victim).live();
  });
}

const seeds = process.env.SEED === undefined ? [1, 2, 3] : [Number(process.env.SEED)];
for (const seed of seeds) {
  test(`shared crash: at every write of a partition's life, with a member that comes back (seed ${seed})`, async () => {
    const whole = new Run(seed, Number.POSITIVE_INFINITY);
    await whole.work();
    await whole.check();
    for (let cutAt = 1; cutAt <= whole.operations; cutAt++) {
      const run = new Run(seed, cutAt);
      await run.work();
      await run.check().catch((error: unknown) => {
        throw new Error(`seed ${seed}, power off at operation ${cutAt} of ${whole.operations}`, { cause: error });
      });
    }
  });
}
