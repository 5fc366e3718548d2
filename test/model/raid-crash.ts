import { equal } from "node:assert/strict";
import type { MemoryDevice } from "../../src/device/memory-device.js";
import { nextTurn } from "../../src/lib/next-turn.js";
import { BLOCK_BYTES, type LuByte } from "../../src/lib/units.js";
import type { LogicalUnit } from "../../src/lu/lu.js";
import type { Group, LabelledDisk } from "../../src/raid/contract.js";
import { LABEL_END_BYTES } from "../../src/raid/layout.js";
import { RaidRig } from "./raid-rig.js";

/**
 * The crash model. A workload runs on an LU; at a chosen device operation the power fails: every later operation fails, each disk keeps any
 * subset of its unflushed sectors, and one disk may be lost at the same moment. Then, per block:
 *   flushed since it was last written   reads back as that                                                     (I-1)
 *   written and not flushed             may be anything, but the same at every read until it is written again
 *   never written                       reads back as at the start
 */

/** The power fails: thrown into every device operation from the chosen one on. */
class PowerCut extends Error {}

export interface CrashCase {
  readonly level: 1 | 5;
  readonly members: number;
  readonly seed: number;
  readonly steps: number;
  readonly chunkBytes?: number;
  /** Device operation (counted over all disks, reads left out) at which the power fails; Infinity: after the workload. */
  readonly cutAt: number;
  readonly keep: "none" | "all" | "random";
  /** Disk lost at the crash; -1: none. */
  readonly lost: number;
  /** Disk that is away from before the workload on, and comes back after the crash with its old content; then `lost` is -1. */
  readonly away?: number | undefined;
  /** Disk that stops taking requests at device operation `failAt`, and works again after the crash; then `lost` is -1. */
  readonly failing?: number | undefined;
  readonly failAt?: number | undefined;
  /** grow: a disk is added beside the workload, and the LU is spread over it; it is disk number `members` for `lost`. */
  readonly background?: "grow" | undefined;
  /** Device operation of the recovery at which the power fails once more; `lost` is lost then, and not before. */
  readonly cutAgainAt?: number | undefined;
  /** Of the small writes beside a growth, how many of 8 are about the bytes that are being moved; 0 by default. */
  readonly atBoundary?: number | undefined;
}

/** What may be in a block: its version number, or anything. */
const ANYTHING = -1;
const REGION_BLOCKS = 384;

/** Content of a block by version: told apart at a glance, and never the XOR of others. */
export function fillBlock(target: Buffer, block: number, version: number): void {
  let x = (block * 0x9e3779b1 + version * 0x85ebca6b + 1) >>> 0;
  for (let i = 0; i < target.length; i += 4) {
    x ^= x << 13;
    x ^= x >>> 17;
    x = (x ^ (x << 5)) >>> 0;
    target.writeUInt32LE(x, i);
  }
  if (version === 0) target.fill(0);
}

/** Where a life ends, or a disk: as in CrashCase. */
type Limits = Pick<CrashCase, "cutAt" | "failing" | "failAt">;

export class CrashRun {
  readonly rig: RaidRig;
  /** What was read in this life of blocks that were not written in it. */
  readonly seen = new Map<number, Buffer>();
  readonly #written = new Set<number>();
  #limits: Limits;
  /** Per block: what a flush has made sure of, and what was written last. */
  readonly sure = new Int32Array(REGION_BLOCKS);
  readonly latest = new Int32Array(REGION_BLOCKS);
  operations = 0;
  #version = 0;
  #cut = false;
  group!: Group;
  lu!: LogicalUnit;

  constructor(readonly spec: CrashCase) {
    const { members, seed, chunkBytes } = spec;
    this.#limits = spec;
    this.rig = new RaidRig({ members, seed, chunkBytes: chunkBytes ?? 16 * 1024, diskBytes: 36 * 2 ** 20 });
  }

  async start(): Promise<void> {
    this.group = await this.rig.create();
    await this.group.createLu("lu", this.spec.level, REGION_BLOCKS * BLOCK_BYTES);
    this.lu = this.group.openLu(1);
    if (this.spec.away !== undefined) await this.#takeAway(this.spec.away);
    if (this.spec.background === "grow") {
      await this.#fill();
      this.#added = await this.rig.addDisk();
    }
    this.rig.before = (operation, _disk, position) => this.#count(operation, position);
  }

  #added: LabelledDisk | null = null;

  /** What is moved must be told apart from what was never written. */
  async #fill(): Promise<void> {
    await this.#write({ first: 0, count: REGION_BLOCKS });
    await this.#flush();
  }

  async #grow(disk: LabelledDisk): Promise<void> {
    await this.group.growDisk(disk);
    await this.rig.ended(this.group, "grow");
  }

  /** Blocks about the boundary between what is moved and what is not. */
  #boundaryRange(): { first: number; count: number } {
    const moved = this.group.describe().tasks.find(({ kind }) => kind === "grow")?.doneBytes ?? 0;
    const block = (moved * this.spec.members) / BLOCK_BYTES;
    const first = Math.floor(block) - 8 + this.rig.random.below(24);
    const count = 1 + this.rig.random.below(8);
    return { first: Math.max(0, Math.min(first, REGION_BLOCKS - count)), count };
  }

  /** The group goes on without a disk, after some writes with it. */
  async #takeAway(disk: number): Promise<void> {
    for (let i = 0; i < 6; i++) await this.#step();
    await this.group.close();
    this.rig.reopen();
    this.#kept = this.rig.devices[disk] ?? null;
    this.rig.devices[disk] = null;
    await this.assemble();
    for (let block = 0; block < REGION_BLOCKS; block++) this.sure[block] = this.latest[block]!;
  }

  #kept: MemoryDevice | null = null;

  #count(operation: string, position: number): void | Promise<void> {
    if (this.#cut) throw new PowerCut();
    if (operation === "read") return;
    this.operations++;
    const { cutAt, failing, failAt } = this.#limits;
    if (this.operations === failAt) this.rig.devices[failing ?? 0]?.fail("EIO");
    if (this.operations >= cutAt) {
      this.#cut = true;
      throw new PowerCut();
    }
    // Labels are written slowly, so that the client has time for several writes in each window that is moved.
    if (this.spec.atBoundary !== undefined && operation === "writeThrough" && position < LABEL_END_BYTES) {
      return this.#ended(3).then(() => this.#throwIfCut());
    }
    // Operations of one moment take effect in any order.
    if (this.rig.random.below(3) === 0) return nextTurn().then(() => this.#throwIfCut());
  }

  /** After a recovery: one more life, with its own end. Reads count, too. */
  async nextLife(limits: Limits): Promise<void> {
    this.#limits = limits;
    this.operations = 0;
    this.#cut = false;
    this.#inFlight.clear();
    this.#written.clear();
    this.latest.set(this.sure);
    this.rig.before = (operation, _disk, position) => this.#count(operation === "read" ? "look" : operation, position);
    try {
      for (let i = 0; i < this.spec.steps; i++) {
        if (this.rig.random.below(2) === 0) await this.#look(this.#smallRange());
        else await this.#step();
        // The background work goes on in between.
        if (this.rig.random.below(4) === 0) this.rig.clock.pass();
        await this.#ended(this.rig.random.below(4));
      }
    } catch (error) {
      if (!this.#cut) throw error;
    }
  }

  async #look({ first, count }: { first: number; count: number }): Promise<void> {
    const target = Buffer.alloc(count * BLOCK_BYTES);
    await this.lu.read(target, (first * BLOCK_BYTES) as LuByte);
    for (let i = 0; i < count; i++) this.#see(first + i, target.subarray(i * BLOCK_BYTES, (i + 1) * BLOCK_BYTES));
  }

  #see(block: number, found: Buffer): void {
    if (this.#written.has(block)) return;
    const before = this.seen.get(block);
    if (before === undefined) this.seen.set(block, found);
    else equal(found.equals(before), true, `block ${block} is not what it was when it was first read`);
  }

  /** All of that is the same now. */
  checkSeen(all: Buffer): void {
    for (const block of this.seen.keys())
      this.#see(block, all.subarray(block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES));
  }

  #throwIfCut(): void {
    if (this.#cut) throw new PowerCut();
  }

  /** Run the workload until it ends or the power fails. */
  async work(): Promise<void> {
    try {
      const growth = this.#added === null ? null : this.#grow(this.#added);
      growth?.catch(() => {});
      for (let i = 0; i < this.spec.steps; i++) await this.#step();
      await growth;
    } catch (error) {
      if (!this.#cut) throw error;
    }
  }

  async #step(): Promise<void> {
    const dice = this.rig.random.below(16);
    if (dice < 6) await this.#write(this.#smallRange());
    else if (dice < 9) await this.#write(this.#stripeRange());
    else if (dice < 11) await Promise.all([this.#write(this.#smallRange()), this.#flush()]);
    else if (dice < 12) await Promise.all([this.#write(this.#smallRange()), this.#write(this.#smallRange())]);
    else if (dice < 13) await this.#write(this.#smallRange(), true);
    else if (dice < 14) await this.#destage();
    else if (dice < 15) this.rig.clock.pass();
    else await this.#flush();
  }

  #smallRange(): { first: number; count: number } {
    if (this.rig.random.below(8) < (this.spec.atBoundary ?? 0)) return this.#boundaryRange();
    const first = this.rig.random.below(REGION_BLOCKS - 6);
    return { first, count: 1 + this.rig.random.below(6) };
  }

  #stripeRange(): { first: number; count: number } {
    const blocks = this.lu.stripeBytes / BLOCK_BYTES;
    const stripes = Math.floor(REGION_BLOCKS / blocks);
    const first = this.rig.random.below(stripes);
    return { first: first * blocks, count: blocks * Math.min(1 + this.rig.random.below(2), stripes - first) };
  }

  async #write({ first, count }: { first: number; count: number }, through = false): Promise<void> {
    const source = Buffer.alloc(count * BLOCK_BYTES);
    const version = ++this.#version;
    for (let i = 0; i < count; i++) {
      const block = first + i;
      fillBlock(source.subarray(i * BLOCK_BYTES, (i + 1) * BLOCK_BYTES), block, version);
      // Two writes of one block at once have no order: then it is not known which one stays.
      this.latest[block] = this.#inFlight.has(block) ? ANYTHING : version;
      this.#inFlight.set(block, (this.#inFlight.get(block) ?? 0) + 1);
      this.sure[block] = ANYTHING;
      this.seen.delete(block);
      this.#written.add(block);
    }
    const at = (first * BLOCK_BYTES) as LuByte;
    await (through ? this.lu.writeThrough([source], at) : this.lu.write(source, at));
    for (let i = 0; i < count; i++) this.#landed(first + i, version, through);
  }

  readonly #inFlight = new Map<number, number>();

  #landed(block: number, version: number, through: boolean): void {
    const left = this.#inFlight.get(block)! - 1;
    if (left === 0) this.#inFlight.delete(block);
    else this.#inFlight.set(block, left);
    if (through && left === 0 && this.latest[block] === version) this.sure[block] = version;
  }

  async #flush(): Promise<void> {
    const before = Int32Array.from(this.latest);
    const unsettled = new Set(this.#inFlight.keys());
    await this.lu.flush();
    for (let block = 0; block < REGION_BLOCKS; block++) {
      const known = before[block] !== ANYTHING && !unsettled.has(block);
      if (known && this.latest[block] === before[block]) this.sure[block] = before[block]!;
    }
  }

  /** Push stripes to their place, as pressure and idleness do in a long life. */
  async #destage(): Promise<void> {
    const one = this.rig.random.below(REGION_BLOCKS);
    const target = Buffer.alloc(BLOCK_BYTES);
    for await (const _ of this.lu.readAlternatives(target, (one * BLOCK_BYTES) as LuByte)) break;
  }

  async crash(): Promise<void> {
    this.#cut = true;
    await this.#ended();
    this.rig.before = () => {};
    this.rig.crash(this.spec.keep);
    if (this.spec.cutAgainAt !== undefined) await this.#cutRecovery(this.spec.cutAgainAt);
    if (this.spec.lost >= 0) this.rig.devices[this.spec.lost] = null;
    // It is back, and looks as good as any; only the labels of the others know that it missed something.
    if (this.spec.away !== undefined) this.rig.devices[this.spec.away] = this.#kept;
  }

  /** Whatever was in flight ends with an error before the next life begins. */
  async #ended(turns = 20): Promise<void> {
    for (let i = 0; i < turns; i++) await nextTurn();
  }

  async #cutRecovery(cutAt: number): Promise<void> {
    let operations = 0;
    this.rig.before = (operation) => {
      if (operations >= cutAt) throw new PowerCut();
      if (operation !== "read" && ++operations === cutAt) throw new PowerCut();
    };
    try {
      await this.rig.assemble();
    } catch (error) {
      if (operations < cutAt) throw error;
    }
    await this.#ended();
    this.rig.before = () => {};
    this.rig.crash(this.spec.keep);
  }

  async crashAgain(): Promise<void> {
    this.rig.crash("random");
    await this.#ended();
    await this.assemble();
  }

  async readAll(): Promise<Buffer> {
    const all = Buffer.alloc(REGION_BLOCKS * BLOCK_BYTES);
    await this.lu.read(all, 0 as LuByte);
    return all;
  }

  check(all: Buffer): void {
    const wanted = Buffer.alloc(BLOCK_BYTES);
    for (let block = 0; block < REGION_BLOCKS; block++) {
      if (this.sure[block] === ANYTHING) continue;
      fillBlock(wanted, block, this.sure[block]!);
      const found = all.subarray(block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES);
      equal(found.equals(wanted), true, `block ${block} is not version ${this.sure[block]}, which was flushed`);
    }
  }

  async assemble(): Promise<void> {
    this.group = await this.rig.assemble();
    this.lu = this.group.openLu(1);
  }
}

/** One crash, then: what was sure is there; all of it stays as it is after another stop, and without any one member. */
export async function runCrash(spec: CrashCase): Promise<number> {
  const run = new CrashRun(spec);
  await run.start();
  await run.work();
  const operations = run.operations;
  await run.crash();
  await run.assemble();
  const first = await run.readAll();
  run.check(first);
  // A second crash at once, nothing written: the same again.
  await run.crashAgain();
  equal((await run.readAll()).equals(first), true, "what was read once stays, after another crash");
  if (spec.background === "grow") await checkGrown(run, first);
  await run.group.close();
  run.rig.reopen();
  if (spec.lost < 0 && spec.away === undefined && spec.failing === undefined)
    run.rig.devices[run.rig.random.below(run.group.describe().disks.length)] = null;
  await run.assemble();
  equal((await run.readAll()).equals(first), true, "what was read once stays, without a member");
  await run.group.close();
  return operations;
}

/** If the group knows of the disk at all, the work goes on by itself, ends, and has changed nothing. */
async function checkGrown(run: CrashRun, wanted: Buffer): Promise<void> {
  const task = await run.rig.ended(run.group, "grow");
  const { disks, lus } = run.group.describe();
  equal(task?.state ?? "done", "done", task?.reason);
  equal(lus[0]!.width, run.spec.level === 5 ? disks.length : run.spec.members);
  equal((await run.readAll()).equals(wanted), true, "what was read once stays, when all is moved");
}
