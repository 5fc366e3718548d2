import { isStorageError } from "../../src/lib/errors.js";
import type { Random } from "../../src/lib/prng.js";
import { BLOCK_BYTES, KIB, type LuByte, MIB } from "../../src/lib/units.js";
import type { Without } from "../../src/raid/contract.js";
import { LABEL_END_BYTES } from "../../src/raid/layout.js";
import { FaultBudget } from "./fault-budget.js";
import { LuModel } from "./lu-model.js";
import { destage, flush, type LuUnderTest, read, smallRange, stripeRange, write } from "./lu-operations.js";
import { Machine, type MachineBroken, THREADS } from "./machine.js";
import { ROWS_START } from "./rot.js";
import { Simulation } from "./simulation.js";
import type { World } from "./world.js";

const DISK_BYTES = 32 * MIB;
const CHUNK_BYTES = 16 * KIB;
const ROWS_END = DISK_BYTES - LABEL_END_BYTES;

/** Of an LU, in blocks: all of it is read after each recovery. */
const BLOCKS_MIN = 16;
const BLOCKS_MAX = 400;

/** Sizes and levels by seed: two LUs on the same disks, in different regions of the write-intent bitmap. */
const SHAPES = [
  { members: 2, levels: [1, 1], chunkBytes: CHUNK_BYTES, rows: 12, parityRun: 1 },
  { members: 3, levels: [5, 1], chunkBytes: CHUNK_BYTES, rows: 12, parityRun: 1 },
  { members: 4, levels: [5, 5], chunkBytes: CHUNK_BYTES, rows: 12, parityRun: 4 },
  { members: 5, levels: [5, 1], chunkBytes: CHUNK_BYTES, rows: 12, parityRun: 2 },
  { members: 3, levels: [5, 5], chunkBytes: 128 * KIB, rows: 2, parityRun: 2 },
  { members: 3, levels: [1, 5], chunkBytes: CHUNK_BYTES, rows: 12, parityRun: 1 },
] as const;

/** An LU whose size changes. */
interface SizedLu extends LuUnderTest {
  /** Members that it is spread over, as the model knows it: an LU is larger after its group has grown. */
  width: number;
  /** Blocks that it may have instead, while it is being resized. */
  resizingTo: number | null;
}

/** Groups and LUs without anything on top, and the model of what they hold. */
export class LuWorld implements World {
  readonly simulation: Simulation;
  readonly machine: Machine;
  readonly budget = new FaultBudget();
  readonly proves = false;
  patient = false;
  readonly units: SizedLu[] = [];
  readonly #shape: (typeof SHAPES)[number];

  constructor(seed: number, without: Without, broken: MachineBroken) {
    this.simulation = new Simulation(seed);
    this.#shape = SHAPES[Math.floor(seed / 3) % SHAPES.length]!;
    const { members, chunkBytes, parityRun } = this.#shape;
    this.machine = new Machine({
      ...{
        simulation: this.simulation,
        members,
        chunkBytes,
        rowBytes: 2 * chunkBytes,
        parityRun,
        diskBytes: DISK_BYTES,
      },
      ...{ without, broken, threads: THREADS },
    });
  }

  async create(): Promise<void> {
    const { machine, simulation } = this;
    await simulation.until(machine.create(), "creating the group");
    const rowBytes = 2 * this.#shape.chunkBytes;
    for (const [i, level] of this.#shape.levels.entries()) {
      const { number, name } = await simulation.until(
        machine.group.createLu(`lu${i}`, level, this.#shape.rows * rowBytes),
        "an LU",
      );
      const lu = machine.group.openLu(number);
      const model = new LuModel(lu.sizeBytes / BLOCK_BYTES);
      this.units.push({ number, name, lu, model, width: lu.description.width, resizingTo: null });
      // What lies between them makes the second one's region another.
      if (i === 0) await simulation.until(machine.group.createLu("between", 1, MIB), "an LU");
    }
  }

  reopen(): void {
    for (const unit of this.units) {
      unit.lu = this.machine.group.openLu(unit.number);
      this.#adoptSize(unit);
    }
  }

  /** @throws Error when it has neither the size that it had nor the one that it was being given */
  #adoptSize(unit: SizedLu): void {
    const { model, lu, resizingTo } = unit;
    const { width } = lu.description;
    const blockCount = lu.sizeBytes / BLOCK_BYTES;
    if (width === unit.width && blockCount !== model.blockCount && blockCount !== resizingTo)
      throw new Error(`${unit.name} has ${blockCount} blocks, not ${model.blockCount} or ${resizingTo}`);
    if (blockCount !== model.blockCount) model.resize(blockCount);
    unit.width = width;
    unit.resizingTo = null;
  }

  resize(random: Random): Promise<unknown> {
    const unit = this.units[random.below(this.units.length)]!;
    this.#adoptSize(unit);
    const { blockCount } = unit.model;
    const wanted = Math.ceil((blockCount * (4 + random.below(13))) / 8);
    const larger = wanted > blockCount;
    if (larger && wanted > BLOCKS_MAX) return Promise.resolve();
    const done = larger ? this.#resizeOpen(unit, wanted) : this.#resizeClosed(unit, Math.max(wanted, BLOCKS_MIN));
    return larger ? Promise.all([done, this.burst(random)]) : done;
  }

  async #resizeOpen(unit: SizedLu, blocks: number): Promise<void> {
    const { group } = this.machine;
    const rowBlocks = this.#rowBlocks(unit);
    unit.resizingTo = Math.ceil(blocks / rowBlocks) * rowBlocks;
    await group.resizeLu(unit.number, blocks * BLOCK_BYTES).catch(unlessRefused);
    if (group === this.machine.group) this.#adoptSize(unit);
  }

  /** What a row adds to an LU. */
  #rowBlocks({ lu }: LuUnderTest): number {
    const { level, width } = lu.description;
    const share = level === 5 ? width - 1 : width / 2;
    return (share * this.machine.group.describe().rowBytes) / BLOCK_BYTES;
  }

  async #resizeClosed(unit: SizedLu, blocks: number): Promise<void> {
    const { group } = this.machine;
    const mark = unit.model.mark();
    await unit.lu.close();
    unit.model.flushed(mark);
    await this.#resizeOpen(unit, blocks);
    if (group === this.machine.group) unit.lu = group.openLu(unit.number);
  }

  async readAll(unit: LuUnderTest): Promise<Buffer> {
    const all = Buffer.allocUnsafe(unit.model.blockCount * BLOCK_BYTES);
    await this.simulation.until(unit.lu.read(all, 0 as LuByte), `reading ${unit.name}`);
    return all;
  }

  /** After a recovery: see that everything is there that must be, and keep what else there is. */
  async adopt(): Promise<void> {
    for (const unit of this.units) await this.#named(unit, (model, all) => model.adopt(all));
  }

  async #named(unit: LuUnderTest, look: (model: LuModel, all: Buffer) => void): Promise<void> {
    const all = await this.readAll(unit);
    try {
      look(unit.model, all);
    } catch (error) {
      throw new Error(`${unit.name}: ${(error as Error).message}`);
    }
  }

  /** Some requests at the same time. */
  burst(random: Random): Promise<unknown> {
    const requests = Array.from({ length: 1 + random.below(6) }, () => this.#request(random));
    return Promise.all(requests);
  }

  readers(count: number, random: Random): Promise<unknown> {
    const one = (): Promise<void> => {
      const unit = this.units[random.below(this.units.length)]!;
      return read(unit, smallRange(unit, random));
    };
    return Promise.all(Array.from({ length: count }, one));
  }

  #request(random: Random): Promise<void> {
    const unit = this.units[random.below(this.units.length)]!;
    const dice = random.below(16);
    if (dice < 6) return write(unit, smallRange(unit, random), false);
    if (dice < 9) return write(unit, stripeRange(unit, random), false);
    if (dice < 10) return write(unit, smallRange(unit, random), true);
    if (dice < 13) return flush(unit);
    const reading = dice < 14 ? destage(unit, random) : read(unit, smallRange(unit, random));
    return this.patient ? reading.catch(unlessUnread) : reading;
  }

  /** LUs have no copies of anything. */
  async fullScratch(): Promise<void> {}

  /** What is written is in the journal when it is flushed, and does not age. */
  checkAge(): void {}

  /** They have the size that they have. */
  async fillUp(): Promise<void> {}

  async makeRoom(): Promise<void> {}

  crashed(): void {
    for (const { model } of this.units) model.crashed();
  }

  /** Bring the group up from what is on the disks, and check it. */
  async recover(): Promise<void> {
    await this.simulation.until(this.machine.assemble(), "assembling");
    this.reopen();
    await this.adopt();
  }

  async stop(): Promise<void> {
    await this.simulation.until(this.machine.close(), "closing the group");
    for (const { model } of this.units) model.settle();
  }

  /** Every write is on the disks, none is only in memory. */
  async settle(): Promise<void> {
    await this.stop();
    await this.recover();
  }

  /** Between two lives: the same content although this member is missing. */
  async #checkWithout(index: number): Promise<void> {
    const twin = this.machine.copy(this.simulation, new Set([index]));
    try {
      await this.simulation.until(twin.assemble(), "assembling");
      for (const unit of this.units) {
        const lu = twin.group.openLu(unit.number);
        await this.#named({ ...unit, lu }, (model, all) => model.checkAll(all));
      }
    } catch (error) {
      throw new Error(`without disk ${index}: ${(error as Error).message}`);
    }
    await this.simulation.until(twin.group.close(), "closing the group");
  }

  async checkSilent(index: number, everything: boolean): Promise<void> {
    const { simulation, machine } = this;
    const twin = machine.copy(simulation, new Set());
    twin.drives[index]!.unanswered = { from: ROWS_START, to: ROWS_END, reads: Number.POSITIVE_INFINITY };
    await simulation.until(twin.assemble(), "assembling");
    // The others had heard of a new member, and that one had not.
    const complete = twin.group.describe().disks.every(({ state }) => state !== "missing");
    const block = Buffer.allocUnsafe(BLOCK_BYTES);
    for (const { number, name, model } of this.units) {
      for (let at = 0; at < model.blockCount; at++) {
        const reading = twin.group.openLu(number).read(block, (at * BLOCK_BYTES) as LuByte);
        const there = await simulation.until(reading, "a block").then(() => true, unlessRefusedToTell);
        if (everything && complete && !there)
          throw new Error(`${name}: block ${at} cannot be read, though the old disk has it`);
        if (there) model.checkSure(block, at);
      }
    }
    twin.cut();
  }

  async end(): Promise<void> {
    await this.settle();
    const members = this.machine.memberDrives();
    await this.stop();
    const victim = this.budget.mayMiss(this.machine.group.describe().disks);
    for (const index of members) if (victim === null || victim === index) await this.#checkWithout(index);
  }
}

/** It cannot be read now; never is it made up. */
function unlessUnread(error: unknown): void {
  if (!isStorageError(error, "EIO")) throw error;
}

function unlessRefusedToTell(error: unknown): false {
  unlessUnread(error);
  return false;
}

/** It cannot have this size now. */
function unlessRefused(error: unknown): void {
  if (!isStorageError(error, "EBUSY") && !isStorageError(error, "ENOSPC")) throw error;
}
