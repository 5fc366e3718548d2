import { assert } from "../lib/assert.js";
import { crc32c } from "../lib/crc32c.js";
import { BLOCK_BYTES } from "../lib/units.js";
import { FORMAT_VERSION, UUID_BYTES } from "./layout.js";

/** What all structures of the page store share: magic, version, checksum and the store's identity in the first 32 bytes. */

const CHECKSUM_AT = 12;
const ZERO4 = Buffer.alloc(4);
const ZERO_BLOCK = Buffer.alloc(BLOCK_BYTES);

/** CRC-32C of a block with its checksum field taken as zero. */
function checksumOf(block: Buffer): number {
  const head = crc32c(ZERO4, crc32c(block.subarray(0, CHECKSUM_AT)));
  return crc32c(block.subarray(CHECKSUM_AT + 4), head);
}

/** Clear `block` and write the common head; the caller fills in the fields, then calls {@link sealBlock}. */
export function beginBlock(block: Buffer, magic: bigint, uuid: Buffer): void {
  assert(block.length === BLOCK_BYTES, "a structure is one block");
  assert(uuid.length === UUID_BYTES, "a uuid has 16 bytes");
  block.fill(0);
  block.writeBigUInt64LE(magic, 0);
  block.writeUInt32LE(FORMAT_VERSION, 8);
  uuid.copy(block, 16);
}

/** @returns the checksum it has written */
export function sealBlock(block: Buffer): number {
  const checksum = checksumOf(block);
  block.writeUInt32LE(checksum, CHECKSUM_AT);
  return checksum;
}

/** @param uuid  null: of any store */
export function isSealedBlock(block: Buffer, magic: bigint, uuid: Buffer | null): boolean {
  if (block.readBigUInt64LE(0) !== magic) return false;
  if (block.readUInt32LE(8) !== FORMAT_VERSION) return false;
  if (uuid !== null && block.compare(uuid, 0, UUID_BYTES, 16, 16 + UUID_BYTES) !== 0) return false;
  return block.readUInt32LE(CHECKSUM_AT) === checksumOf(block);
}

export function sealedChecksum(block: Buffer): number {
  return block.readUInt32LE(CHECKSUM_AT);
}

export function isZero(block: Buffer, from: number, to: number): boolean {
  return block.compare(ZERO_BLOCK, 0, to - from, from, to) === 0;
}

export function readU64(block: Buffer, at: number): number {
  return Number(block.readBigUInt64LE(at));
}

/** @param value  a whole number, 0 to 2^53 - 1 */
export function writeU64(block: Buffer, value: number, at: number): void {
  assert(Number.isSafeInteger(value), "a u64 fits a number");
  block.writeBigUInt64LE(BigInt(value), at);
}
