import type { Random } from "../lib/prng.js";
import { BLOCK_BYTES, MIB, roundDown } from "../lib/units.js";
import type { BlockDevice } from "./device.js";

/** A bit that is no longer what was written. */
export interface RottenBit {
  readonly position: number;
  /** 0 to 7, least significant first. */
  readonly bit: number;
}

export interface RotRange {
  /** Bytes. */
  readonly from: number;
  readonly to: number;
}

/** Random places tried before the range is searched from one end to the other. */
const TRIES = 1024;
const SEARCH_BYTES = 1 * MIB;

/**
 * Flip bits on the medium itself, so that they stay wrong when the disk is opened again. Without a range, in blocks that somebody has
 * written (not all zero). A write of the same block at the same moment may be undone along with it.
 * @param device  whole blocks are read and written
 * @returns the flipped bits; none when nothing was ever written
 * @throws StorageError of the device
 */
export async function rotMedium(
  device: BlockDevice,
  { range, bits }: { readonly range: RotRange | null; readonly bits: number },
  random: Random,
): Promise<RottenBit[]> {
  const rotten: RottenBit[] = [];
  for (let i = 0; i < bits; i++) {
    const position = range === null ? await usedByte(device, random) : randomIn(range, random);
    if (position === null) return rotten;
    const bit = random.below(8);
    await flip(device, position, bit);
    rotten.push({ position, bit });
  }
  return rotten;
}

function randomIn({ from, to }: RotRange, random: Random): number {
  return from + random.below(to - from);
}

async function flip(device: BlockDevice, position: number, bit: number): Promise<void> {
  const start = roundDown(position, device.alignmentBytes);
  const unit = Buffer.alloc(device.alignmentBytes);
  await device.read(unit, start);
  unit.writeUInt8(unit.readUInt8(position - start) ^ (1 << bit), position - start);
  await device.write(unit, start);
}

async function usedByte(device: BlockDevice, random: Random): Promise<number | null> {
  const blockCount = device.sizeBytes / BLOCK_BYTES;
  const block = Buffer.alloc(BLOCK_BYTES);
  for (let i = 0; i < TRIES; i++) {
    const start = random.below(blockCount) * BLOCK_BYTES;
    await device.read(block, start);
    if (!isZero(block)) return start + random.below(BLOCK_BYTES);
  }
  // Hardly anything is written: the first written block after a random place, around the end.
  const middle = random.below(blockCount) * BLOCK_BYTES;
  const start = (await firstUsed(device, middle, device.sizeBytes)) ?? (await firstUsed(device, 0, middle));
  return start === null ? null : start + random.below(BLOCK_BYTES);
}

async function firstUsed(device: BlockDevice, from: number, to: number): Promise<number | null> {
  const buffer = Buffer.alloc(SEARCH_BYTES);
  for (let at = from; at < to; at += SEARCH_BYTES) {
    const piece = buffer.subarray(0, Math.min(SEARCH_BYTES, to - at));
    await device.read(piece, at);
    if (isZero(piece)) continue;
    for (let i = 0; ; i += BLOCK_BYTES) if (!isZero(piece.subarray(i, i + BLOCK_BYTES))) return at + i;
  }
  return null;
}

const ZEROS = Buffer.alloc(SEARCH_BYTES);

function isZero(bytes: Buffer): boolean {
  return bytes.equals(ZEROS.subarray(0, bytes.length));
}
