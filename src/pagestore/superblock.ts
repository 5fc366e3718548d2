import { assert } from "../lib/assert.js";
import { StorageError } from "../lib/errors.js";
import { BLOCK_BYTES, type LuByte } from "../lib/units.js";
import type { LogicalUnit } from "../lu/lu.js";
import { beginBlock, isSealedBlock, isZero, readU64, sealBlock, writeU64 } from "./block.js";
import {
  type Geometry,
  KIND_BYTES,
  MAGIC,
  NAME_BYTES,
  planGeometry,
  SUPERBLOCK,
  tableBlocksOf,
  UUID_BYTES,
} from "./layout.js";
import { type HealCounters, proveNewest } from "./prove.js";

export interface Superblock {
  readonly uuid: Buffer;
  /** What the database is for: `fs`, `chn`. */
  readonly kind: string;
  readonly name: string;
  /** Since 1970 UTC. */
  readonly createdSeconds: number;
  readonly geometry: Geometry;
  /** Rises by one with every superblock written; names its slot. */
  readonly generation: number;
  /** Of the node that wrote it. */
  readonly epoch: number;
  /** Pages of the database after record `checkpointSeq`. */
  readonly pageCount: number;
  /** Table blocks from the start that have ever been written. */
  readonly tableBlocksUsed: number;
  /** All records up to this one are in the page area. */
  readonly checkpointSeq: number;
  /** Where reading the log begins: the next record's sequence number, its position, and the checksum of the record before it. */
  readonly tailSeq: number;
  readonly tailPosition: number;
  readonly tailChain: number;
  /** Whoever wrote it wrote nothing after it: no record stands behind the last one. Whoever opens the store to write says first that it is open. */
  readonly closed: boolean;
}

/** Space that two superblocks take. */
export const SUPERBLOCKS_BYTES = 2 * BLOCK_BYTES;

export function encodeSuperblock(block: Buffer, s: Superblock): void {
  beginBlock(block, MAGIC.superblock, s.uuid);
  writeText(block, s.kind, SUPERBLOCK.kind, KIND_BYTES);
  writeText(block, s.name, SUPERBLOCK.name, NAME_BYTES);
  writeU64(block, s.createdSeconds, SUPERBLOCK.createdSeconds);
  writeU64(block, s.generation, SUPERBLOCK.generation);
  writeU64(block, s.epoch, SUPERBLOCK.epoch);
  writeU64(block, s.geometry.luBytes, SUPERBLOCK.luBytes);
  writeU64(block, s.geometry.logStart, SUPERBLOCK.logStart);
  writeU64(block, s.geometry.logBytes, SUPERBLOCK.logBytes);
  writeU64(block, s.geometry.tableStart, SUPERBLOCK.tableStart);
  writeU64(block, s.geometry.pagesStart, SUPERBLOCK.pagesStart);
  block.writeUInt32LE(s.geometry.pageCapacity, SUPERBLOCK.pageCapacity);
  block.writeUInt32LE(s.pageCount, SUPERBLOCK.pageCount);
  block.writeUInt32LE(s.tableBlocksUsed, SUPERBLOCK.tableBlocksUsed);
  block.writeUInt32LE(s.tailChain, SUPERBLOCK.tailChain);
  writeU64(block, s.checkpointSeq, SUPERBLOCK.checkpointSeq);
  writeU64(block, s.tailSeq, SUPERBLOCK.tailSeq);
  writeU64(block, s.tailPosition, SUPERBLOCK.tailPosition);
  block.writeUInt32LE(s.closed ? 1 : 0, SUPERBLOCK.closed);
  sealBlock(block);
  assert(isSane(s), "a superblock is sane before it is written");
}

/** @returns null when it is not a superblock, or not one that this version understands */
export function decodeSuperblock(block: Buffer): Superblock | null {
  if (!isSealedBlock(block, MAGIC.superblock, null)) return null;
  if (!isZero(block, SUPERBLOCK.reserved, SUPERBLOCK.end)) return null;
  const superblock: Superblock = {
    uuid: Buffer.from(block.subarray(SUPERBLOCK.uuid, SUPERBLOCK.uuid + UUID_BYTES)),
    kind: readText(block, SUPERBLOCK.kind, KIND_BYTES),
    name: readText(block, SUPERBLOCK.name, NAME_BYTES),
    createdSeconds: readU64(block, SUPERBLOCK.createdSeconds),
    geometry: decodeGeometry(block),
    generation: readU64(block, SUPERBLOCK.generation),
    epoch: readU64(block, SUPERBLOCK.epoch),
    pageCount: block.readUInt32LE(SUPERBLOCK.pageCount),
    tableBlocksUsed: block.readUInt32LE(SUPERBLOCK.tableBlocksUsed),
    checkpointSeq: readU64(block, SUPERBLOCK.checkpointSeq),
    tailSeq: readU64(block, SUPERBLOCK.tailSeq),
    tailPosition: readU64(block, SUPERBLOCK.tailPosition),
    tailChain: block.readUInt32LE(SUPERBLOCK.tailChain),
    closed: block.readUInt32LE(SUPERBLOCK.closed) === 1,
  };
  return block.readUInt32LE(SUPERBLOCK.closed) <= 1 && isSane(superblock) ? superblock : null;
}

function decodeGeometry(block: Buffer): Geometry {
  return {
    luBytes: readU64(block, SUPERBLOCK.luBytes),
    logStart: readU64(block, SUPERBLOCK.logStart),
    logBytes: readU64(block, SUPERBLOCK.logBytes),
    tableStart: readU64(block, SUPERBLOCK.tableStart),
    pagesStart: readU64(block, SUPERBLOCK.pagesStart),
    pageCapacity: block.readUInt32LE(SUPERBLOCK.pageCapacity),
  };
}

/** Only what planGeometry makes is accepted: a layout that this version cannot produce is not one that it may write to. */
function isSane(s: Superblock): boolean {
  const plan = planOrNull(s.geometry);
  return (
    plan !== null &&
    Object.entries(plan).every(([key, value]) => s.geometry[key as keyof Geometry] === value) &&
    s.pageCount <= plan.pageCapacity &&
    s.tableBlocksUsed <= tableBlocksOf(plan.pageCapacity) &&
    s.tailSeq >= 1 &&
    s.tailSeq <= s.checkpointSeq + 1 &&
    s.tailPosition % BLOCK_BYTES === 0
  );
}

function planOrNull(geometry: Geometry): Geometry | null {
  try {
    return planGeometry(geometry.luBytes, geometry.logBytes);
  } catch {
    return null;
  }
}

/**
 * The newest valid superblock, or null when the LU carries none. A bad one is looked for in the other copies first.
 * @throws StorageError EIO from the LU
 */
export async function readNewestSuperblock(lu: LogicalUnit, counters: HealCounters): Promise<Superblock | null> {
  if (lu.sizeBytes < SUPERBLOCKS_BYTES) return null;
  const blocks = Buffer.alloc(SUPERBLOCKS_BYTES);
  await lu.read(blocks, 0 as LuByte);
  let newest: Superblock | null = null;
  for (const slot of [0, 1]) {
    const at = slot * BLOCK_BYTES;
    const block = blocks.subarray(at, at + BLOCK_BYTES);
    await proveNewest(lu, block, at, (candidate) => decodeSuperblock(candidate)?.generation ?? -1, counters);
    const found = decodeSuperblock(block);
    if (found === null || found.generation % 2 !== slot) continue;
    if (newest === null || found.generation > newest.generation) newest = found;
  }
  return newest;
}

/** Durable when it resolves. */
export async function writeSuperblock(lu: LogicalUnit, block: Buffer, superblock: Superblock): Promise<void> {
  encodeSuperblock(block, superblock);
  await lu.writeThrough([block], ((superblock.generation % 2) * BLOCK_BYTES) as LuByte);
}

/** @throws StorageError EINVAL when the text is too long or holds NUL */
export function checkText(text: string, byteCountMax: number, what: string): void {
  if (Buffer.byteLength(text) > byteCountMax || text.includes("\0")) {
    throw new StorageError("EINVAL", `${what} of a page store is too long`, { text, byteCountMax });
  }
}

function writeText(block: Buffer, text: string, at: number, byteCountMax: number): void {
  assert(Buffer.byteLength(text) <= byteCountMax, "a text fits its field");
  block.write(text, at, byteCountMax, "utf8");
}

function readText(block: Buffer, at: number, byteCountMax: number): string {
  const field = block.subarray(at, at + byteCountMax);
  const end = field.indexOf(0);
  return field.toString("utf8", 0, end === -1 ? byteCountMax : end);
}
