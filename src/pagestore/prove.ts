import type { LuByte } from "../lib/units.js";
import type { LogicalUnit } from "../lu/lu.js";

/** How often a block on the LU did not match its checksum and another copy did. */
export interface HealCounters {
  healedBlocks: number;
}

/**
 * Make sure of one block that was read: if it is not good, look for a copy that is, and have the bad one rewritten.
 * @param block   4096 bytes as read; holds the proven content when the result is true, anything otherwise
 * @throws StorageError what the LU answers while the good copy is written
 */
export async function prove(
  lu: LogicalUnit,
  block: Buffer,
  at: number,
  isGood: (block: Buffer) => boolean,
  counters: HealCounters,
): Promise<boolean> {
  if (isGood(block)) return true;
  for await (const _ of lu.readAlternatives(block, at as LuByte)) {
    if (!isGood(block)) continue;
    await lu.heal(block, at as LuByte);
    counters.healedBlocks++;
    return true;
  }
  return false;
}
