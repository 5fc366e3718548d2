import { deepEqual, equal } from "node:assert/strict";
import { test } from "node:test";
import { type LuByte, MIB } from "../../src/lib/units.js";
import type { LogicalUnit } from "../../src/lu/lu.js";
import type { Group } from "../../src/raid/contract.js";
import { RaidRig } from "./raid-rig.js";

/** An LU against a flat buffer: random aligned reads, writes, flushes and reopenings, with all members and without each one. */

const SEED = Number(process.env.SEED ?? 20260);
const LU_BYTES = 3 * MIB;

class Model {
  readonly bytes: Buffer;
  lu: LogicalUnit;

  constructor(
    readonly rig: RaidRig,
    public group: Group,
  ) {
    this.lu = group.openLu(1);
    this.bytes = Buffer.alloc(this.lu.sizeBytes);
  }

  /** A random range in blocks, small ones and stripe-aligned ones often. */
  range(): { at: LuByte; byteCount: number } {
    const { random } = this.rig;
    const step = random.below(4) === 0 ? this.lu.stripeBytes : 4096;
    const at = random.below(Math.min(this.bytes.length, LU_BYTES) / step) * step;
    const most = Math.min((this.bytes.length - at) / step, step === 4096 ? 40 : 4);
    return { at: at as LuByte, byteCount: (1 + random.below(most)) * step };
  }

  buffers(byteCount: number): Buffer[] {
    const { random } = this.rig;
    const list: Buffer[] = [];
    for (let left = byteCount; left > 0; ) {
      const part = Math.min(left, random.below(3) === 0 ? 4096 * (1 + random.below(8)) : left);
      list.push(Buffer.alloc(part));
      left -= part;
    }
    return list;
  }

  async write(): Promise<void> {
    const { at, byteCount } = this.range();
    const sources = this.buffers(byteCount);
    for (const source of sources)
      for (let i = 0; i < source.length; i += 4) source.writeUInt32LE(this.rig.random.next(), i);
    Buffer.concat(sources).copy(this.bytes, at);
    await (this.rig.random.below(8) === 0 ? this.lu.writeThrough(sources, at) : this.lu.writev(sources, at));
  }

  async read(): Promise<void> {
    const { at, byteCount } = this.range();
    const targets = this.buffers(byteCount);
    await this.lu.readv(targets, at);
    this.check(Buffer.concat(targets), at);
  }

  check(found: Buffer, at: number): void {
    for (let i = 0; i < found.length; i += 4096) {
      const right = found.subarray(i, i + 4096).equals(this.bytes.subarray(at + i, at + i + 4096));
      equal(right, true, `block at ${at + i} of a read of ${found.length} at ${at}`);
    }
  }

  async step(): Promise<void> {
    const dice = this.rig.random.below(20);
    if (dice < 8) await this.write();
    else if (dice < 10) await this.parallelWrites();
    else if (dice < 18) await this.read();
    else if (dice < 19) await this.lu.flush().then(() => this.rig.clock.pass());
    else await this.reopen();
  }

  /** Writes at once, to ranges that do not overlap, with reads and a flush between them. */
  async parallelWrites(): Promise<void> {
    await Promise.all([this.write(), this.lu.flush()]);
    await Promise.all([this.read(), this.read(), this.lu.flush()]);
  }

  async reopen(): Promise<void> {
    await this.group.close();
    this.rig.reopen();
    this.group = await this.rig.assemble();
    this.lu = this.group.openLu(1);
  }

  async readAll(): Promise<void> {
    for (let at = 0; at < this.bytes.length; at += MIB) {
      const target = Buffer.alloc(Math.min(MIB, this.bytes.length - at));
      await this.lu.read(target, at as LuByte);
      this.check(target, at);
    }
  }
}

/** By seed; 1 as on labels of before there were runs. 4 is the most that chunks of 256 KiB allow. */
const PARITY_RUNS = [1, 2, 4];

async function run(level: 1 | 5, members: number, chunkBytes: number, missing: number, seed: number): Promise<void> {
  const rig = new RaidRig({ members, seed, chunkBytes, parityRun: PARITY_RUNS[seed % PARITY_RUNS.length]! });
  const group = await rig.create();
  await group.createLu("lu", level, LU_BYTES);
  const model = new Model(rig, group);
  for (let i = 0; i < 40; i++) await model.step();
  if (missing >= 0) {
    await model.group.close();
    rig.reopen();
    rig.devices[missing] = null;
    model.group = await rig.assemble();
    model.lu = model.group.openLu(1);
    equal(model.group.describe().state, "degraded");
  }
  for (let i = 0; i < 60; i++) await model.step();
  await model.readAll();
  await model.reopen();
  await model.readAll();
  deepEqual(
    rig.events.filter((event) => event.kind === "member-failed" || event.kind === "resynced"),
    [],
  );
  await model.group.close();
}

const CASES: Array<[1 | 5, number]> = [
  [1, 2],
  [1, 3],
  [1, 4],
  [1, 5],
  [5, 3],
  [5, 4],
  [5, 5],
];

for (const [level, members] of CASES) {
  for (const chunkBytes of [16 * 1024, 64 * 1024, 256 * 1024]) {
    test(`model: RAID-${level} on ${members}, chunk ${chunkBytes}, all members (seed ${SEED})`, () =>
      run(level, members, chunkBytes, -1, SEED + members));
  }
  for (let missing = 0; missing < members; missing++) {
    test(`model: RAID-${level} on ${members} without member ${missing} (seed ${SEED})`, () =>
      run(level, members, 64 * 1024, missing, SEED + 10 * members + missing));
  }
}
