import { assert } from "../../lib/assert.js";
import { isStorageError, StorageError } from "../../lib/errors.js";
import { BLOCK_BYTES } from "../../lib/units.js";
import { GROUP_BLOCKS } from "./limits.js";

/** Where the blocks of one file group lie: addresses in blocks from the start of the data LU, -1 for a hole. */
export interface BlockMap {
  readonly addresses: Float64Array;
  readonly crcs: Uint32Array;
  /** Bytes of the stored block that are still the file's; the rest reads as zero (a truncate cut it). 4096 when whole. */
  readonly validBytes: Uint16Array;
}

/** Column `map` of table `extent`; docs/format/contents.md has the table. All little-endian. */
export const EXTENT_MAP = { present: 0, cut: 8, entries: 16, addressBytes: 6, crcBytes: 4, validBytes: 2 } as const;

export const EXTENT_MAP_BYTES_MAX =
  EXTENT_MAP.entries + GROUP_BLOCKS * (EXTENT_MAP.addressBytes + EXTENT_MAP.crcBytes + EXTENT_MAP.validBytes);

/**
 * Encode one group.
 * @param scratch  at least EXTENT_MAP_BYTES_MAX; the result is a view of it
 * @returns null when no block is present: the row is deleted then
 */
export function encodeExtentMap(map: BlockMap, scratch: Buffer): Buffer | null {
  assert(scratch.length >= EXTENT_MAP_BYTES_MAX, "the scratch buffer holds a full map");
  scratch.fill(0, 0, EXTENT_MAP.entries);
  let present = 0;
  for (let slot = 0; slot < GROUP_BLOCKS; slot++) if (map.addresses[slot]! >= 0) present++;
  if (present === 0) return null;
  let address: number = EXTENT_MAP.entries;
  let crc = address + present * EXTENT_MAP.addressBytes;
  let valid = crc + present * EXTENT_MAP.crcBytes;
  for (let slot = 0; slot < GROUP_BLOCKS; slot++) {
    if (map.addresses[slot]! < 0) continue;
    setBit(scratch, EXTENT_MAP.present, slot);
    address = scratch.writeUIntLE(map.addresses[slot]!, address, EXTENT_MAP.addressBytes);
    crc = scratch.writeUInt32LE(map.crcs[slot]!, crc);
    if (map.validBytes[slot] === BLOCK_BYTES) continue;
    setBit(scratch, EXTENT_MAP.cut, slot);
    valid = scratch.writeUInt16LE(map.validBytes[slot]!, valid);
  }
  return scratch.subarray(0, valid);
}

/**
 * Decode into `map`, which is overwritten whole.
 * @throws StorageError EIO when the bytes are no map: the row is damaged, and nothing is guessed
 */
export function decodeExtentMap(bytes: Buffer, map: BlockMap): void {
  const present = countBits(bytes, EXTENT_MAP.present);
  const cut = countBits(bytes, EXTENT_MAP.cut);
  const wanted =
    EXTENT_MAP.entries + present * (EXTENT_MAP.addressBytes + EXTENT_MAP.crcBytes) + cut * EXTENT_MAP.validBytes;
  if (bytes.length !== wanted || present === 0) {
    throw new StorageError("EIO", "an extent map is damaged", { byteCount: bytes.length, wanted });
  }
  let address: number = EXTENT_MAP.entries;
  let crc = address + present * EXTENT_MAP.addressBytes;
  let valid = crc + present * EXTENT_MAP.crcBytes;
  for (let slot = 0; slot < GROUP_BLOCKS; slot++) {
    map.validBytes[slot] = BLOCK_BYTES;
    map.addresses[slot] = -1;
    if (!hasBit(bytes, EXTENT_MAP.present, slot)) continue;
    map.addresses[slot] = bytes.readUIntLE(address, EXTENT_MAP.addressBytes);
    map.crcs[slot] = bytes.readUInt32LE(crc);
    address += EXTENT_MAP.addressBytes;
    crc += EXTENT_MAP.crcBytes;
    if (!hasBit(bytes, EXTENT_MAP.cut, slot)) continue;
    map.validBytes[slot] = bytes.readUInt16LE(valid);
    valid += EXTENT_MAP.validBytes;
  }
}

/** @returns false when the row is damaged; `map` is overwritten all the same */
export function tryDecodeExtentMap(bytes: Buffer, map: BlockMap): boolean {
  try {
    decodeExtentMap(bytes, map);
    return true;
  } catch (error) {
    if (isStorageError(error)) return false;
    throw error;
  }
}

export function newBlockMap(): BlockMap {
  return {
    addresses: new Float64Array(GROUP_BLOCKS).fill(-1),
    crcs: new Uint32Array(GROUP_BLOCKS),
    validBytes: new Uint16Array(GROUP_BLOCKS).fill(BLOCK_BYTES),
  };
}

function setBit(bytes: Buffer, at: number, slot: number): void {
  bytes[at + (slot >> 3)]! |= 1 << (slot & 7);
}

function hasBit(bytes: Buffer, at: number, slot: number): boolean {
  return (bytes[at + (slot >> 3)]! & (1 << (slot & 7))) !== 0;
}

/** @returns set bits of the u64 at `at`; 0 when the bytes are too short for one. */
function countBits(bytes: Buffer, at: number): number {
  let count = 0;
  for (let i = 0; i < 8; i++) for (let byte = bytes[at + i] ?? 0; byte !== 0; byte &= byte - 1) count++;
  return count;
}
