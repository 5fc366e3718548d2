import { deepEqual, equal } from "node:assert/strict";
import { test } from "node:test";
import type { LogicalUnit } from "../../../src/lu/lu.js";
import { proveNewest } from "../../../src/pagestore/prove.js";

/** A block in two copies, told apart by their first byte: its version, 0 for an unsound one. */
function mirrored(copies: readonly [number, number]): { lu: LogicalUnit; healed: number[] } {
  const healed: number[] = [];
  const lu = {
    async *readAlternatives(target: Buffer) {
      for (const version of copies) {
        target.fill(version);
        yield;
      }
    },
    heal: async (good: Buffer) => void healed.push(good[0]!),
  };
  // Nothing else of it is asked.
  return { lu: lu as unknown as LogicalUnit, healed };
}

async function proven(first: number, second: number): Promise<{ version: number; healed: number[] }> {
  const { lu, healed } = mirrored([first, second]);
  const block = Buffer.alloc(4096, first);
  const versionOf = (b: Buffer): number => (b[0] === 0 ? -1 : b[0]!);
  const version = await proveNewest(lu, block, 0, versionOf, { healedBlocks: 0 });
  if (version !== -1) equal(block[0], version);
  return { version, healed };
}

test("prove: of two sound copies the newer counts, and the one that a lost write left old is rewritten", async () => {
  deepEqual(await proven(7, 7), { version: 7, healed: [] });
  deepEqual(await proven(6, 7), { version: 7, healed: [7] });
  deepEqual(await proven(7, 6), { version: 7, healed: [7] });
  deepEqual(await proven(0, 6), { version: 6, healed: [6] });
  deepEqual(await proven(0, 0), { version: -1, healed: [] });
});
