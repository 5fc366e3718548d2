import type { BlockDevice } from "../../device/device.js";
import { assert } from "../../lib/assert.js";
import {
  checksumHolds,
  getText,
  getU64,
  getUuid,
  isZero,
  putText,
  putU64,
  putUuid,
  sealChecksum,
} from "../../raid/fields.js";
import { NODES_MAX, SHARED_MEMBERS_MAX } from "../../raid/limits.js";
import { HEADER_PAIR_BYTES, PARTITION_HEADER } from "./layout.js";

const MAGIC = "STRPPART";
const VERSION = 1;
const EQUAL = 1;
const CLOSED = 2;
const WRITER_BYTES = PARTITION_HEADER.reserved - PARTITION_HEADER.writer;

/** What one copy of a partition says of itself and of the others, as its writer saw them. */
export interface PartitionHeader {
  readonly groupUuid: string;
  /** 0-based: 0 is chn1. */
  readonly partition: number;
  /** Slot of the member that this copy lies on. */
  readonly copy: number;
  readonly sequence: number;
  readonly generation: number;
  readonly epoch: number;
  /** Bit i: the copy on the member in slot i has everything that was acknowledged. */
  readonly currentCopies: number;
  /** Its writer has closed it since. */
  readonly closed: boolean;
  /** And left the current copies equal. */
  readonly equal: boolean;
  /** The node that wrote it: the partition's own, or the one that has taken it over. Empty: nobody yet. */
  readonly writer: string;
}

export function namesCurrent(header: PartitionHeader, slot: number): boolean {
  return (header.currentCopies & (1 << slot)) !== 0;
}

/** @returns one block */
export function encodePartitionHeader(header: PartitionHeader): Buffer {
  const block = Buffer.alloc(PARTITION_HEADER.end);
  block.write(MAGIC, PARTITION_HEADER.magic, "latin1");
  block.writeUInt32LE(VERSION, PARTITION_HEADER.version);
  putUuid(block, PARTITION_HEADER.groupUuid, header.groupUuid);
  block.writeUInt32LE(header.partition + 1, PARTITION_HEADER.node);
  block.writeUInt32LE(header.copy, PARTITION_HEADER.copy);
  putU64(block, PARTITION_HEADER.sequence, header.sequence);
  putU64(block, PARTITION_HEADER.generation, header.generation);
  putU64(block, PARTITION_HEADER.epoch, header.epoch);
  block.writeUInt32LE(header.currentCopies, PARTITION_HEADER.currentCopies);
  block.writeUInt32LE((header.equal ? EQUAL : 0) | (header.closed ? CLOSED : 0), PARTITION_HEADER.flags);
  putText(block, PARTITION_HEADER.writer, WRITER_BYTES, header.writer);
  sealChecksum(block, PARTITION_HEADER.checksum);
  assert(decodePartitionHeader(block) !== null, "a header that we write is one that we would read");
  return block;
}

/** @returns null unless every field, every reserved byte and the checksum hold */
export function decodePartitionHeader(block: Buffer): PartitionHeader | null {
  if (block.length !== PARTITION_HEADER.end || block.toString("latin1", 0, 8) !== MAGIC) return null;
  if (block.readUInt32LE(PARTITION_HEADER.version) !== VERSION) return null;
  if (!checksumHolds(block, PARTITION_HEADER.checksum)) return null;
  if (!isZero(block, PARTITION_HEADER.reserved, PARTITION_HEADER.end)) return null;
  const flags = block.readUInt32LE(PARTITION_HEADER.flags);
  const writer = getText(block, PARTITION_HEADER.writer, WRITER_BYTES);
  if ((flags !== 0 && flags !== CLOSED && flags !== (CLOSED | EQUAL)) || writer === null) return null;
  const header: PartitionHeader = {
    groupUuid: getUuid(block, PARTITION_HEADER.groupUuid),
    partition: block.readUInt32LE(PARTITION_HEADER.node) - 1,
    copy: block.readUInt32LE(PARTITION_HEADER.copy),
    sequence: getU64(block, PARTITION_HEADER.sequence),
    generation: getU64(block, PARTITION_HEADER.generation),
    epoch: getU64(block, PARTITION_HEADER.epoch),
    currentCopies: block.readUInt32LE(PARTITION_HEADER.currentCopies),
    closed: (flags & CLOSED) !== 0,
    equal: (flags & EQUAL) !== 0,
    writer,
  };
  return isSane(header) ? header : null;
}

function isSane({ partition, copy, sequence, generation, epoch, currentCopies }: PartitionHeader): boolean {
  return (
    partition >= 0 &&
    partition < NODES_MAX &&
    copy < SHARED_MEMBERS_MAX &&
    !Number.isNaN(sequence + generation + epoch) &&
    currentCopies > 0 &&
    currentCopies < 1 << SHARED_MEMBERS_MAX
  );
}

/** What a header must be about to count. */
export type HeaderPlace = Pick<PartitionHeader, "groupUuid" | "partition" | "copy">;

/**
 * The newer sound header of one copy; null when neither is sound.
 * @param start  byte of the member where the partition begins
 * @throws StorageError of the device
 */
export async function readHeaderPair(
  device: BlockDevice,
  start: number,
  place: HeaderPlace,
): Promise<PartitionHeader | null> {
  const pair = Buffer.alloc(HEADER_PAIR_BYTES);
  await device.read(pair, start);
  let newest: PartitionHeader | null = null;
  for (const index of [0, 1]) {
    const at = index * PARTITION_HEADER.end;
    const header = decodePartitionHeader(pair.subarray(at, at + PARTITION_HEADER.end));
    if (header === null || header.sequence % 2 !== index || !isAbout(header, place)) continue;
    if (newest === null || header.sequence > newest.sequence) newest = header;
  }
  return newest;
}

function isAbout(header: PartitionHeader, place: HeaderPlace): boolean {
  return header.groupUuid === place.groupUuid && header.partition === place.partition && header.copy === place.copy;
}

/** Durable when it resolves; the other header of the pair stays whole whatever happens meanwhile. */
export async function writeHeader(device: BlockDevice, start: number, header: PartitionHeader): Promise<void> {
  const at = start + (header.sequence % 2) * PARTITION_HEADER.end;
  await device.writeThrough([encodePartitionHeader(header)], at);
}
