import { assert } from "../lib/assert.js";
import { StorageError } from "../lib/errors.js";
import { BLOCK_BYTES, KIB, MIB, roundDown } from "../lib/units.js";

/**
 * What lies where on the LU of a page store, and every offset in its structures (docs/format/pagestore.md holds the same tables; a test
 * compares them). Little-endian; each structure fills whole blocks of 4096 bytes; reserved bytes are zero.
 *
 *   block 0, 1   superblocks; the one of generation g is block g % 2, so that writing one never hurts the other
 *   64 KiB       log, circular
 *                checksum table of the page area: two slots for each block of it
 *                page area: SQLite's page n at pagesStart + (n - 1) * 4096
 */
export const FORMAT_VERSION = 1;

export const KIND_BYTES = 16;
export const NAME_BYTES = 64;
export const UUID_BYTES = 16;

/** "SWPSTORE", "SWRECORD", "SWRECLST", "SWPGSUMS" read as little-endian text. */
export const MAGIC = {
  superblock: Buffer.from("SWPSTORE", "latin1").readBigUInt64LE(),
  record: Buffer.from("SWRECORD", "latin1").readBigUInt64LE(),
  list: Buffer.from("SWRECLST", "latin1").readBigUInt64LE(),
  table: Buffer.from("SWPGSUMS", "latin1").readBigUInt64LE(),
} as const;

/** The first 16 bytes of every structure. The checksum is CRC-32C of the block with this field zero. */
const HEAD = { magic: 0, version: 8, checksum: 12, uuid: 16 } as const;

export const SUPERBLOCK = {
  ...HEAD,
  kind: 32,
  name: 48,
  createdSeconds: 112,
  generation: 120,
  epoch: 128,
  luBytes: 136,
  logStart: 144,
  logBytes: 152,
  tableStart: 160,
  pagesStart: 168,
  pageCapacity: 176,
  pageCount: 180,
  tableBlocksUsed: 184,
  tailChain: 188,
  checkpointSeq: 192,
  tailSeq: 200,
  tailPosition: 208,
  closed: 216,
  reserved: 220,
  end: 4096,
} as const;

/**
 * Head of a log record: one block. Its entries name and prove the blocks that follow: first the pages, then the sidecar (number 0).
 * Entries that do not fit go into list blocks between head and pages.
 */
export const RECORD = {
  ...HEAD,
  seq: 32,
  epoch: 40,
  position: 48,
  previousChecksum: 56,
  pageCount: 60,
  pagesLogged: 64,
  sidecarBytes: 68,
  listChecksum: 72,
  reserved: 76,
  entries: 96,
  end: 4096,
} as const;

export const LIST = { ...HEAD, seq: 32, index: 40, reserved: 44, entries: 48, end: 4096 } as const;

/** An entry of a record: u32 page number (0: sidecar), u32 CRC-32C of the block. */
export const ENTRY_BYTES = 8;
export const ENTRIES_IN_HEAD = (RECORD.end - RECORD.entries) / ENTRY_BYTES;
export const ENTRIES_IN_LIST = (LIST.end - LIST.entries) / ENTRY_BYTES;

/** A block of the checksum table: a u32 for each page, 0 while the page was never written home. */
export const TABLE = { ...HEAD, generation: 32, index: 40, reserved: 44, entries: 48, end: 4096 } as const;
export const PAGES_IN_TABLE_BLOCK = (TABLE.end - TABLE.entries) / 4;

for (const structure of [SUPERBLOCK, RECORD, LIST, TABLE]) {
  assert(structure.end === BLOCK_BYTES, "a structure is exactly one block");
}
assert(Number.isInteger(ENTRIES_IN_HEAD), "entries fill the head");
assert(Number.isInteger(ENTRIES_IN_LIST), "entries fill a list block");
assert(Number.isInteger(PAGES_IN_TABLE_BLOCK), "entries fill a table block");
assert(SUPERBLOCK.createdSeconds - SUPERBLOCK.name === NAME_BYTES, "the name has its room");

/** All positions in bytes on the LU. */
export interface Geometry {
  readonly luBytes: number;
  readonly logStart: number;
  readonly logBytes: number;
  readonly tableStart: number;
  readonly pagesStart: number;
  readonly pageCapacity: number;
}

/** Superblocks and room to grow; a multiple of every usual chunk of a small LU. */
const LOG_START = 64 * KIB;
export const LOG_BYTES_DEFAULT = 64 * MIB;
/** Below this, three quarters of the log would not hold the first commit of a file system. */
export const LOG_BYTES_MIN = 256 * KIB;
/** SQLite's smallest useful database with some tables. */
const PAGE_CAPACITY_MIN = 64;
/** SQLITE_MAX_PAGE_COUNT. */
const PAGE_CAPACITY_MAX = 0xfffffffe;

/**
 * @param luBytes   size of the LU
 * @param logBytes  wanted; rounded down to whole blocks. Default: 64 MiB, at most a quarter of the LU
 * @throws StorageError ENOSPC when the LU is too small, EINVAL when the log is
 */
export function planGeometry(luBytes: number, logBytes = Math.min(LOG_BYTES_DEFAULT, luBytes / 4)): Geometry {
  const log = roundDown(logBytes, BLOCK_BYTES);
  if (log < LOG_BYTES_MIN)
    throw new StorageError("EINVAL", "the log of a page store is too small", { logBytes, luBytes });
  const tableStart = LOG_START + log;
  // Each table block serves its pages and stands there twice: whole groups of that size, then what a last short group holds.
  const blocks = Math.floor((luBytes - tableStart) / BLOCK_BYTES);
  const groups = Math.floor(blocks / (PAGES_IN_TABLE_BLOCK + 2));
  const rest = Math.max(0, blocks - groups * (PAGES_IN_TABLE_BLOCK + 2) - 2);
  const pageCapacity = Math.min(groups * PAGES_IN_TABLE_BLOCK + rest, PAGE_CAPACITY_MAX);
  if (pageCapacity < PAGE_CAPACITY_MIN)
    throw new StorageError("ENOSPC", "the LU is too small for a page store", { luBytes });
  const pagesStart = tableStart + tableBlocksOf(pageCapacity) * 2 * BLOCK_BYTES;
  return { luBytes, logStart: LOG_START, logBytes: log, tableStart, pagesStart, pageCapacity };
}

/** Table blocks that pages 1 to `pageCount` need. */
export function tableBlocksOf(pageCount: number): number {
  return Math.ceil(pageCount / PAGES_IN_TABLE_BLOCK);
}

/** @param page  SQLite's page number, from 1 */
export function homeOf(geometry: Geometry, page: number): number {
  return geometry.pagesStart + (page - 1) * BLOCK_BYTES;
}
