import { crc32c as native } from "@node-rs/crc32";

/**
 * CRC-32C (Castagnoli, RFC 3720 appendix B.4): reflected polynomial 0x82F63B78, initial and final XOR 0xFFFFFFFF.
 * The native package uses the CPU's CRC instruction. `previous` continues an earlier result over the next bytes.
 * @returns u32
 */
export function crc32c(bytes: Uint8Array, previous = 0): number {
  return native(bytes, previous) >>> 0;
}

/**
 * The CRC-32C of A followed by one block B of 4096 bytes, from the two CRCs alone: appending zeros to A is a linear map of its CRC
 * (as crc32_combine of zlib), here with the length fixed and the map in four tables of 256. So a run of blocks whose CRCs are known
 * is verified by one pass over the whole run, which costs a third of a call for each block.
 * @returns u32
 */
export function crc32cAppendBlock(previous: number, block: number): number {
  const t = SHIFT_BY_BLOCK;
  const shifted =
    t[previous & 0xff]! ^
    t[256 + ((previous >>> 8) & 0xff)]! ^
    t[512 + ((previous >>> 16) & 0xff)]! ^
    t[768 + (previous >>> 24)]!;
  return (shifted ^ block) >>> 0;
}

/** For each byte of a CRC and each of its values: that part of the CRC after 4096 zero bytes more. */
const SHIFT_BY_BLOCK = shiftTables(new Uint8Array(4096));

function shiftTables(zeros: Uint8Array): Uint32Array {
  const tables = new Uint32Array(4 * 256);
  for (let bit = 0; bit < 32; bit++) {
    const image = shiftedBit(zeros, bit);
    const base = Math.floor(bit / 8) * 256;
    for (let value = 0; value < 256; value++) if ((value >>> (bit % 8)) & 1) tables[base + value]! ^= image;
  }
  return tables;
}

/** The difference that one bit makes: initial and final XOR cancel out. */
function shiftedBit(zeros: Uint8Array, bit: number): number {
  return native(zeros, (1 << bit) >>> 0) ^ native(zeros, 0);
}
