import type { Random } from "../../src/lib/prng.js";
import { BLOCK_BYTES } from "../../src/lib/units.js";
import { LAYOUT } from "../../src/raid/layout.js";
import { JOURNAL_BYTES_MIN } from "../../src/raid/limits.js";
import type { Drive } from "./drive.js";

/** Where the rows of groups as small as these begin. */
export const ROWS_START = LAYOUT.journal + JOURNAL_BYTES_MIN;

/** Flip some bits of a block that was written, behind everybody's back. */
export function rotBlock(drive: Drive, index: number, random: Random): void {
  const block = Buffer.alloc(BLOCK_BYTES);
  drive.media.platter.read(block, index * BLOCK_BYTES);
  for (let i = random.below(4); i >= 0; i--) block[random.below(BLOCK_BYTES)]! ^= 1 << random.below(8);
  drive.media.platter.write(block, index * BLOCK_BYTES);
}

/** Blocks that were ever written in [from, to) of the disk. */
export function writtenBlocks(drive: Drive, from: number, to: number): number[] {
  return drive.media.platter
    .blocks()
    .filter((index) => index * BLOCK_BYTES >= from && index * BLOCK_BYTES < to)
    .sort((a, b) => a - b);
}

/** Bit rot in what a member says of itself and of the group: labels, bitmap, journal. All of it has checksums and copies elsewhere. */
export function injectMetadataRot(drive: Drive, random: Random): void {
  const areas = [
    [LAYOUT.labelSlot0, LAYOUT.reserved],
    [LAYOUT.bitmapSlot0, LAYOUT.padding],
    [LAYOUT.journal, LAYOUT.journal + 2 ** 20],
  ] as const;
  const [from, to] = areas[random.below(areas.length)]!;
  const written = writtenBlocks(drive, from, to);
  for (let i = 0; i < 3 && written.length > 0; i++) rotBlock(drive, written[random.below(written.length)]!, random);
}
