import { z } from "zod";
import { assert } from "../lib/assert.js";
import { StorageError } from "../lib/errors.js";
import { BLOCK_BYTES, KIB, MIB } from "../lib/units.js";

/**
 * The stream of a backup: blocks of 64 KiB, written and read in order, never sought in. docs/format/backup.md has the same tables.
 *
 * Head of a block, 40 bytes, little-endian:
 *    0 [8] magic "SWBACKUP"    8 u32 version    12 u32 checksum (CRC-32C of the block, this field zero)
 *   16 [16] backup             32 u64 sequence (from 0)
 * What follows the heads of all blocks of a part, put together, is its records.
 */
export const BLOCK = {
  ...{ magic: 0, version: 8, checksum: 12, backup: 16, sequence: 32, content: 40 },
  end: 64 * KIB,
} as const;
export const MAGIC = Buffer.from("SWBACKUP", "latin1");
export const VERSION = 1;
export const ID_BYTES = 16;

/** Head of a record: u8 type, three bytes zero, u32 length of what follows. */
export const RECORD = { type: 0, length: 4, content: 8 } as const;

export const RecordType = {
  /** Nothing more in this block. */
  padding: 0,
  /** JSON (headerSchema): what is backed up; the first record of a part. */
  header: 1,
  /** JSON: rows of inodes, in order. */
  inodes: 2,
  /** JSON: directory entries, in order. */
  entries: 3,
  /** JSON (tablesSchema): inodes and entries have ended. */
  tables: 4,
  /** Binary: what a group of a file holds. */
  group: 5,
  /** JSON: records of a node, from the shared LU. */
  node: 6,
  /** JSON (endSchema): the last record of a part. */
  end: 7,
  /** JSON: why the daemon could not go on. Never written to a target. */
  failed: 8,
} as const;
export type RecordType = (typeof RecordType)[keyof typeof RecordType];

/** Blocks of a file that one group record speaks of, as in the file system's extent rows. */
export const GROUP_BLOCKS = 64;

/** Head of a group record: u64 inode, u32 group, u32 zero, u64 mask (bit i: block i is there). The blocks follow, 4096 bytes each. */
export const GROUP = { ino: 0, group: 8, mask: 16, content: 24 } as const;

/** A record longer than this is damage. JSON records hold a page of rows. */
export const RECORD_BYTES_MAX = 8 * MIB;

const count = z.int().min(0);
const id = z.string().regex(/^[0-9a-f]{32}$/);

export const headerSchema = z.object({
  kind: z.enum(["file-system", "shared"]),
  /** Of the file system; "shared" for the shared LU. */
  name: z.string().max(255),
  /** Of the data LU, or of the shared group. */
  uuid: z.string().max(64),
  backup: id,
  /** The backup that this one adds to; null: it is full. */
  parent: id.nullable(),
  /** The full backup that the chain begins with: itself when it is one. */
  chain: id,
  /** The part of this backup that was broken off, and that this one goes on from; null: it is from the beginning. */
  continues: id.nullable(),
  /** RFC 3339, UTC: the moment that the backup shows. */
  time: z.iso.datetime(),
  node: z.string().max(64),
  /** What is expected: of file data at most, in bytes. */
  dataBytes: count,
  /** Of the file system, for whoever makes a new one: level and bytes of its data LU, bytes of its metadata LU. */
  level: z.union([z.literal(1), z.literal(5)]).optional(),
  sizeBytes: count.optional(),
  metadataBytes: count.optional(),
});
export type BackupHeader = z.infer<typeof headerSchema>;

export const tablesSchema = z.object({ inodes: count, entries: count, nextIno: count });
export type TablesEnd = z.infer<typeof tablesSchema>;

export const endSchema = z.object({ records: count, groups: count, dataBytes: count });
export type BackupEnd = z.infer<typeof endSchema>;

export const failedSchema = z.object({ message: z.string() });

/** A record on its way into a stream. The parts are free again when the next one is asked for. */
export interface OutgoingRecord {
  readonly type: RecordType;
  readonly parts: readonly Buffer[];
}

export function jsonRecord(type: RecordType, value: unknown): OutgoingRecord {
  return { type, parts: [Buffer.from(JSON.stringify(value))] };
}

/** @param at  byte of the stream at which the block begins that is not what was written */
export function damaged(what: string, at: number): StorageError {
  return new StorageError("EIO", `the backup is damaged at byte ${at}: ${what}`, { at });
}

assert(BLOCK.sequence + 8 === BLOCK.content, "the head of a block is without gaps");
assert(GROUP.content + GROUP_BLOCKS * BLOCK_BYTES <= RECORD_BYTES_MAX, "a full group fits into a record");
