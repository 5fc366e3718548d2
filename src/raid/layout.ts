import { StorageError } from "../lib/errors.js";
import { formatSize } from "../lib/size.js";
import { BLOCK_BYTES, MIB, roundDown, roundUp } from "../lib/units.js";
import {
  BAND_BYTES_MAX,
  BITMAP_BYTES,
  CHUNK_BYTES_MAX,
  CHUNK_BYTES_MIN,
  DISK_BYTES_MIN,
  JOURNAL_BYTES_MAX,
  JOURNAL_BYTES_MIN,
  LABEL_SLOT_BYTES,
  PARITY_RUN_BYTES,
  RESERVED_BYTES,
  ROWS_TARGET_MAX,
} from "./limits.js";

/**
 * Where the areas of a disk begin, in bytes; fixed up to the journal, whose size is on the label. Rows follow the journal.
 *         0 label slot 0         65536 label slot 1
 *    131072 reserved (heartbeat, lease)
 *   1179648 bitmap slot 0      1183744 bitmap slot 1
 *   1187840 padding to a whole MiB, zero
 *   2097152 journal
 * The last 131072 bytes of the disk are label slots 0 and 1 once more.
 */
export const LAYOUT = {
  labelSlot0: 0,
  labelSlot1: 65536,
  reserved: 131072,
  bitmapSlot0: 1179648,
  bitmapSlot1: 1183744,
  padding: 1187840,
  journal: 2097152,
} as const;

/** Both label slots at one end. */
export const LABEL_END_BYTES = 2 * LABEL_SLOT_BYTES;

/** The last block of the reserved area: for tests of a disk; nobody reads it (docs/format/reserved.md). */
export const TEST_BLOCK_AT = LAYOUT.reserved + RESERVED_BYTES - BLOCK_BYTES;

/** Bits of the write-intent bitmap (bitmap.ts), one per region of the row space. */
export const REGIONS_MAX = (BLOCK_BYTES - 64) * 8;

/** What all members of a group agree on; from the label. */
export interface GroupShape {
  readonly chunkBytes: number;
  readonly rowBytes: number;
  readonly rowCount: number;
  readonly journalBytes: number;
  /** What one bit of the bitmap stands for, on each member. */
  readonly regionBytes: number;
  /** RAID-5: so many stripes in a row have their parity on the same member. */
  readonly parityRun: number;
}

export function rowsStart(shape: GroupShape): number {
  return LAYOUT.journal + shape.journalBytes;
}

/** Bytes of a member in use, label at the end included: a device with less has shrunk. */
export function memberBytesNeeded(shape: GroupShape): number {
  return rowsStart(shape) + shape.rowCount * shape.rowBytes + LABEL_END_BYTES;
}

function isPowerOfTwo(n: number): boolean {
  return Number.isInteger(Math.log2(n));
}

function checkChunk(chunkBytes: number): void {
  if (isPowerOfTwo(chunkBytes) && chunkBytes >= CHUNK_BYTES_MIN && chunkBytes <= CHUNK_BYTES_MAX) return;
  throw new StorageError("EINVAL", `chunk of ${chunkBytes} bytes: must be a power of two from 16 KiB to 1 MiB`);
}

/** About 4096 rows at most, whole MiB, and whole pairs of chunk rows (RAID-1 over more than two members uses two at a time). */
function defaultRowBytes(space: number, chunkBytes: number): number {
  let rowBytes = MIB;
  while (space / rowBytes > ROWS_TARGET_MAX) rowBytes *= 2;
  return roundUp(rowBytes, 2 * chunkBytes);
}

function checkRow(rowBytes: number, chunkBytes: number): void {
  if (Number.isSafeInteger(rowBytes) && rowBytes > 0 && rowBytes % (2 * chunkBytes) === 0) return;
  throw new StorageError("EINVAL", `row of ${rowBytes} bytes: must be a multiple of two chunks (${2 * chunkBytes})`);
}

/** A share of the disk; at least eight of the largest records (one band of every member), so that one never fills it. */
function journalBytesFor(sizeBytes: number, memberCount: number): number {
  const least = Math.max(JOURNAL_BYTES_MIN, 8 * memberCount * BAND_BYTES_MAX);
  return roundDown(Math.min(Math.max(sizeBytes / 32, least), JOURNAL_BYTES_MAX), MIB);
}

function regionBytesFor(space: number, chunkBytes: number): number {
  let regionBytes = Math.max(MIB, 2 * chunkBytes);
  while (space / regionBytes > REGIONS_MAX) regionBytes *= 2;
  return regionBytes;
}

function checkParityRun(parityRun: number, chunkBytes: number): void {
  if (parityRunIsSound(parityRun, chunkBytes)) return;
  throw new StorageError(
    "EINVAL",
    `parity on one member for ${parityRun} stripes: must be a power of two, 1 MiB at most`,
  );
}

function parityRunIsSound(parityRun: number, chunkBytes: number): boolean {
  return parityRun >= 1 && isPowerOfTwo(parityRun) && parityRun * chunkBytes <= PARITY_RUN_BYTES;
}

/**
 * Cut members of `sizeBytes` (the smallest one's) into areas.
 * @throws StorageError EINVAL for a chunk, row or parity run that cannot be; ENOSPC for a disk without room for two rows
 */
export function planShape(
  sizeBytes: number,
  memberCount: number,
  chunkBytes: number,
  wanted: { readonly rowBytes?: number | undefined; readonly parityRun?: number | undefined } = {},
): GroupShape {
  checkChunk(chunkBytes);
  if (sizeBytes < DISK_BYTES_MIN) {
    throw new StorageError(
      "ENOSPC",
      `a disk of ${formatSize(sizeBytes)} is too small: ${formatSize(DISK_BYTES_MIN)} at least`,
    );
  }
  const journalBytes = journalBytesFor(sizeBytes, memberCount);
  const space = sizeBytes - LAYOUT.journal - journalBytes - LABEL_END_BYTES;
  const rowBytes = wanted.rowBytes ?? defaultRowBytes(space, chunkBytes);
  checkRow(rowBytes, chunkBytes);
  const rowCount = Math.floor(space / rowBytes);
  if (rowCount < 2) throw new StorageError("ENOSPC", `rows of ${formatSize(rowBytes)} are too large for these disks`);
  const parityRun = wanted.parityRun ?? Math.max(1, PARITY_RUN_BYTES / chunkBytes);
  checkParityRun(parityRun, chunkBytes);
  return { chunkBytes, rowBytes, rowCount, journalBytes, regionBytes: regionBytesFor(space, chunkBytes), parityRun };
}

/** Is a shape that a label claims one that `planShape` could have made? */
export function shapeIsSound(shape: GroupShape, sizeBytes: number): boolean {
  const { chunkBytes, rowBytes, rowCount, journalBytes, regionBytes, parityRun } = shape;
  return (
    isPowerOfTwo(chunkBytes) &&
    chunkBytes >= CHUNK_BYTES_MIN &&
    chunkBytes <= CHUNK_BYTES_MAX &&
    rowBytes > 0 &&
    rowBytes % (2 * chunkBytes) === 0 &&
    journalBytes >= JOURNAL_BYTES_MIN &&
    journalBytes <= JOURNAL_BYTES_MAX &&
    journalBytes % BLOCK_BYTES === 0 &&
    isPowerOfTwo(regionBytes) &&
    regionBytes % (2 * chunkBytes) === 0 &&
    parityRunIsSound(parityRun, chunkBytes) &&
    rowCount > 0 &&
    (rowCount * rowBytes) / regionBytes <= REGIONS_MAX &&
    memberBytesNeeded(shape) <= sizeBytes
  );
}

/** The areas that must agree with LAYOUT; compared by a test. */
export const AREA_BYTES = { label: LABEL_END_BYTES, reserved: RESERVED_BYTES, bitmap: BITMAP_BYTES } as const;
