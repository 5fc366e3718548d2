import type { Random } from "../../src/lib/prng.js";
import { BLOCK_BYTES, type LuByte } from "../../src/lib/units.js";
import type { LogicalUnit } from "../../src/lu/lu.js";
import type { LuModel } from "./lu-model.js";

/** An LU under test. The number stays, the object is another one in every life. */
export interface LuUnderTest {
  readonly number: number;
  readonly name: string;
  lu: LogicalUnit;
  model: LuModel;
}

export interface BlockRange {
  readonly first: number;
  readonly count: number;
}

export function smallRange({ model }: LuUnderTest, random: Random): BlockRange {
  const first = random.below(model.blockCount - 6);
  return { first, count: 1 + random.below(6) };
}

export function stripeRange({ lu, model }: LuUnderTest, random: Random): BlockRange {
  const blocks = lu.stripeBytes / BLOCK_BYTES;
  const stripes = Math.floor(model.blockCount / blocks);
  const first = random.below(stripes);
  return { first: first * blocks, count: blocks * Math.min(1 + random.below(2), stripes - first) };
}

export async function write({ lu, model }: LuUnderTest, { first, count }: BlockRange, through: boolean): Promise<void> {
  const begun = model.beginWrite(first, count);
  const at = (first * BLOCK_BYTES) as LuByte;
  await (through ? lu.writeThrough([begun.source], at) : lu.write(begun.source, at));
  model.endWrite(begun, through);
}

export async function flush({ lu, model }: LuUnderTest): Promise<void> {
  const mark = model.mark();
  await lu.flush();
  model.flushed(mark);
}

/** Push a stripe to its place, as pressure does. */
export async function destage({ lu, model }: LuUnderTest, random: Random): Promise<void> {
  const at = random.below(model.blockCount) * BLOCK_BYTES;
  for await (const _ of lu.readAlternatives(Buffer.alloc(BLOCK_BYTES), at as LuByte)) break;
}

export async function read({ lu, model }: LuUnderTest, { first, count }: BlockRange): Promise<void> {
  const mark = model.mark();
  const target = Buffer.allocUnsafe(count * BLOCK_BYTES);
  await lu.read(target, (first * BLOCK_BYTES) as LuByte);
  model.checkRead(target, first, mark);
}
