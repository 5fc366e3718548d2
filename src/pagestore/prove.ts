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

/**
 * Make sure of one block that proves itself, and that an older version of itself would prove as well: a disk that acknowledged a write and did
 * not do it still holds the one before. All copies are looked at, the newest counts, and those that lack it are rewritten.
 * @param block      4096 bytes as read; holds the newest content when the result is not -1
 * @param versionOf  of a sound block; -1 for any other
 * @returns the version, or -1 when no copy is sound
 * @throws StorageError what the LU answers while the newest is written
 */
export async function proveNewest(
  lu: LogicalUnit,
  block: Buffer,
  at: number,
  versionOf: (block: Buffer) => number,
  counters: HealCounters,
): Promise<number> {
  let newest = versionOf(block);
  let differing = false;
  const candidate = Buffer.allocUnsafe(block.length);
  for await (const _ of lu.readAlternatives(candidate, at as LuByte)) {
    const version = versionOf(candidate);
    if (version !== newest) differing = true;
    if (version <= newest) continue;
    newest = version;
    candidate.copy(block);
  }
  if (newest === -1 || !differing) return newest;
  await lu.heal(block, at as LuByte);
  counters.healedBlocks++;
  return newest;
}
