import { deepEqual } from "node:assert/strict";
import { test } from "node:test";
import { BLOCK_BYTES, type LuByte } from "../../../src/lib/units.js";
import type { LogicalUnit } from "../../../src/lu/lu.js";
import { ObservedLu } from "../../../src/pagestore/observed-lu.js";

test("observed LU: a heal that was held is forgotten once its block is written anew", async () => {
  const healed: number[] = [];
  const below = {
    heal: async (_: Buffer, at: number) => void healed.push(at / BLOCK_BYTES),
    write: async () => {},
    writev: async () => {},
    writeThrough: async () => {},
  } as unknown as LogicalUnit;
  const lu = new ObservedLu(below);
  const block = Buffer.alloc(BLOCK_BYTES);
  const at = (index: number) => (index * BLOCK_BYTES) as LuByte;
  lu.holdHeals();
  for (let index = 0; index < 8; index++) await lu.heal(block, at(index));
  await lu.writeThrough([block], at(1));
  await lu.writev([block, block], at(3));
  await lu.write(block, at(6));
  await lu.healFound();
  deepEqual(healed, [0, 2, 5, 7]);
  await lu.heal(block, at(1));
  deepEqual(healed, [0, 2, 5, 7, 1], "from then on at once");
});
