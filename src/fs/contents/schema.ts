import type Database from "better-sqlite3";
import { StorageError } from "../../lib/errors.js";
import { BLOCK_BYTES, roundDown } from "../../lib/units.js";
import { SEGMENT_BLOCKS_MAX, SEGMENTS_WANTED } from "./limits.js";

export const CONTENTS_VERSION = 1;

/** The data LU as the tables are made for it, and as it is later; a LogicalUnit fits. */
export interface ContentsGeometry {
  readonly sizeBytes: number;
  readonly stripeBytes: number;
}

/** How the blocks of the data LU are divided; kept in table `contents_geometry`. All in blocks. */
export interface SpaceGeometry {
  readonly blockCount: number;
  readonly stripeBlocks: number;
  readonly segmentBlocks: number;
}

/** Tables of the contents layer; docs/format/contents.md describes every column. */
export const CONTENTS_TABLES = `
  CREATE TABLE contents_geometry (
    version INTEGER PRIMARY KEY,
    block_count INTEGER NOT NULL,
    stripe_blocks INTEGER NOT NULL,
    segment_blocks INTEGER NOT NULL
  ) STRICT;

  CREATE TABLE extent (
    ino INTEGER NOT NULL,
    grp INTEGER NOT NULL,
    map BLOB NOT NULL,
    PRIMARY KEY (ino, grp)
  ) WITHOUT ROWID, STRICT;

  CREATE TABLE segment (
    seg INTEGER PRIMARY KEY,
    bitmap BLOB NOT NULL
  ) STRICT;

  CREATE TABLE freeing (
    ino INTEGER PRIMARY KEY,
    grp INTEGER NOT NULL
  ) STRICT;

  CREATE TABLE unsettled (
    ino INTEGER PRIMARY KEY,
    blocks INTEGER NOT NULL
  ) STRICT;
`;

/** Segments are whole stripes; a stripe larger than a segment makes the segment as large. */
export function spaceGeometry(lu: ContentsGeometry): SpaceGeometry {
  const blockCount = Math.floor(lu.sizeBytes / BLOCK_BYTES);
  const stripeBlocks = Math.max(1, Math.floor(lu.stripeBytes / BLOCK_BYTES));
  const wanted = Math.min(SEGMENT_BLOCKS_MAX, Math.ceil(blockCount / SEGMENTS_WANTED));
  const segmentBlocks = Math.max(stripeBlocks, roundDown(wanted, stripeBlocks));
  return { blockCount, stripeBlocks, segmentBlocks };
}

/** Make the tables of a new file system. */
export function createContentsTables(db: Database.Database, geometry: ContentsGeometry): void {
  const space = spaceGeometry(geometry);
  db.exec(CONTENTS_TABLES);
  db.prepare("INSERT INTO contents_geometry VALUES (?, ?, ?, ?)").run(
    CONTENTS_VERSION,
    space.blockCount,
    space.stripeBlocks,
    space.segmentBlocks,
  );
}

/**
 * Stripes and segments stay as they were made: a group that has grown writes other stripes, and then whole ones of ours only lie together.
 * @returns with the blocks that the row names; an LU that has grown since is larger (`recordBlockCount`)
 * @throws StorageError EIO when the tables are of another version, or were made for a larger LU
 */
export function loadSpaceGeometry(db: Database.Database, lu: ContentsGeometry): SpaceGeometry {
  type Row = { version: number; block_count: number; stripe_blocks: number; segment_blocks: number };
  const row = db.prepare<[], Row>("SELECT * FROM contents_geometry").get();
  if (row === undefined || row.version !== CONTENTS_VERSION) {
    throw new StorageError("EIO", "the contents tables are of an unknown version", { row });
  }
  const now = spaceGeometry(lu);
  if (row.block_count > now.blockCount) {
    throw new StorageError("EIO", "the data LU is smaller than the file system on it", { row, now });
  }
  return { blockCount: row.block_count, stripeBlocks: row.stripe_blocks, segmentBlocks: row.segment_blocks };
}

/** The file system uses so many blocks from this commit on. */
export function recordBlockCount(db: Database.Database, blockCount: number): void {
  db.prepare("UPDATE contents_geometry SET block_count = ?").run(blockCount);
}
