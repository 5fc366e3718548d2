import { assert } from "../../lib/assert.js";
import { StorageError } from "../../lib/errors.js";
import { formatSize } from "../../lib/size.js";
import { BLOCK_BYTES, KIB, MIB, roundDown } from "../../lib/units.js";
import { LABEL_END_BYTES, LAYOUT } from "../../raid/layout.js";
import { NODES_MAX } from "../../raid/limits.js";

/**
 * Where the partitions of a shared group lie, the same on every member (docs/format/shared.md holds the same tables; a test compares them).
 * The label, and the reserved area with heartbeat and lease, are where they are on every disk. Partition i (node `chn` i+1) begins at
 * `LAYOUT.journal` + i * partitionBytes. In each:
 *       0 header, even sequence numbers         4096 header, odd sequence numbers         8192 zero, up to
 *   65536 the LU of the partition, to its end
 */
export const PARTITION = { header0: 0, header1: 4096, padding: 8192, lu: 65536 } as const;

/**
 * One copy's header of a partition: one block of 4096 bytes, little-endian.
 *   0 [8] magic "STRPPART"   8 u32 version       12 u32 checksum (CRC-32C of the block, this field zero)
 *  16 [16] groupUuid        32 u32 node (1: chn1)                 36 u32 copy (slot of the member)
 *  40 u64 sequence          48 u64 generation    56 u64 epoch     64 u32 currentCopies (bit per slot)
 *  68 u32 flags (2: closed by its writer; 1: and the current copies are equal) 72 [64] writer        136 reserved
 * `sequence` rises with every header written and picks the block; `generation` rises when the set of current copies changes, and when the
 * partition is opened for writing. A copy is current when its own header carries the newest generation and names it.
 */
export const PARTITION_HEADER = {
  magic: 0,
  version: 8,
  checksum: 12,
  groupUuid: 16,
  node: 32,
  copy: 36,
  sequence: 40,
  generation: 48,
  epoch: 56,
  currentCopies: 64,
  flags: 68,
  writer: 72,
  reserved: 136,
  end: 4096,
} as const;

assert(PARTITION_HEADER.end === BLOCK_BYTES, "a partition header is exactly one block");
assert(PARTITION.header1 === PARTITION_HEADER.end, "the two headers stand one after the other");

/** Both headers of a copy. */
export const HEADER_PAIR_BYTES = 2 * PARTITION_HEADER.end;

/** Thousands of records fit; and bringing a copy up to date, which reads all of it, takes seconds. */
const PARTITION_BYTES_MAX = 64 * MIB;
/** A page store with room for some hundred records. */
const PARTITION_BYTES_MIN = MIB;

/** The nodes of a cabinet, in the order of their partitions. */
export const NODE_NAMES: readonly string[] = Array.from({ length: NODES_MAX }, (_, i) => `chn${i + 1}`);

/** @returns 0-based place of the node's partition @throws StorageError EINVAL */
export function partitionIndex(node: string): number {
  const index = NODE_NAMES.indexOf(node);
  if (index >= 0) return index;
  throw new StorageError("EINVAL", `there is no partition for "${node}": nodes are chn1 to chn${NODES_MAX}`);
}

/**
 * Bytes of one partition, header included, on members of which the smallest has `sizeBytes`.
 * @throws StorageError ENOSPC
 */
export function partitionBytesFor(sizeBytes: number): number {
  const space = sizeBytes - LAYOUT.journal - LABEL_END_BYTES;
  const partitionBytes = Math.min(roundDown(space / NODES_MAX, 64 * KIB), PARTITION_BYTES_MAX);
  if (partitionBytes >= PARTITION_BYTES_MIN) return partitionBytes;
  throw new StorageError("ENOSPC", `a disk of ${formatSize(sizeBytes)} is too small for a shared group`, { sizeBytes });
}

/** Byte of each member where a partition begins. */
export function partitionStart(index: number, partitionBytes: number): number {
  assert(index >= 0 && index < NODES_MAX, "a partition is one of eight");
  return LAYOUT.journal + index * partitionBytes;
}
