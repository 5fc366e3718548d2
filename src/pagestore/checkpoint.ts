import { type LuByte, MIB } from "../lib/units.js";
import type { LogicalUnit } from "../lu/lu.js";
import type { ChecksumTable } from "./checksum-table.js";
import { type Image, type ImageMap, type LoadedPage, loadImages, runsOf } from "./images.js";
import { homeOf } from "./layout.js";
import type { LogArea } from "./log.js";
import { inParallel } from "./parallel.js";
import type { HealCounters } from "./prove.js";
import { type Superblock, writeSuperblock } from "./superblock.js";

/** Pages read back at once; while they are written home, commits go on. */
export const CHECKPOINT_BYTES = 4 * MIB;
const WRITES_IN_FLIGHT = 8;

/** What a checkpoint takes over from the store, all of it belonging to record `seq`. */
export interface Snapshot {
  readonly seq: number;
  readonly pageCount: number;
  readonly epoch: number;
  readonly images: ImageMap;
  /** No record follows. */
  readonly closed: boolean;
}

export interface CheckpointParts {
  readonly lu: LogicalUnit;
  readonly log: LogArea;
  readonly table: ChecksumTable;
  /** CHECKPOINT_BYTES, for pages on their way home. */
  readonly buffer: Buffer;
  /** One block. */
  readonly superblockBuffer: Buffer;
  readonly counters: HealCounters;
}

/**
 * Bring the page area up to the snapshot and move the log's tail.
 *
 * The images come from the log itself, proven by their checksums, so nothing here depends on what SQLite holds by now. Until the new
 * superblock is durable the old one and the old tail count: whatever was written home by then is written again by replay.
 *
 * @param oldestSidecar  asked at the end: the tail does not pass this record
 * @returns the superblock that counts now
 */
export async function runCheckpoint(
  parts: CheckpointParts,
  superblock: Superblock,
  snapshot: Snapshot,
  oldestSidecar: () => number,
): Promise<Superblock> {
  const { lu, log, table } = parts;
  const images: Image[] = [];
  // What lies behind the end of a database that has shrunk has no home.
  for (const image of snapshot.images.values()) if (image.page <= snapshot.pageCount) images.push(image);
  await loadImages(lu, log, images, parts.buffer, parts.counters, (pages) => writeHome(parts, superblock, pages));
  const generation = superblock.generation + 1;
  await table.write(generation);
  await lu.flush();
  const tail = log.tailAt(Math.min(snapshot.seq + 1, oldestSidecar()));
  const next: Superblock = {
    ...superblock,
    generation,
    epoch: snapshot.epoch,
    pageCount: snapshot.pageCount,
    tableBlocksUsed: table.blocksUsed,
    checkpointSeq: snapshot.seq,
    tailSeq: tail.seq,
    tailPosition: tail.position,
    tailChain: tail.previousChecksum,
    closed: snapshot.closed,
  };
  await writeSuperblock(lu, parts.superblockBuffer, next);
  log.drop(tail.seq);
  return next;
}

async function writeHome(parts: CheckpointParts, superblock: Superblock, pages: readonly LoadedPage[]): Promise<void> {
  await inParallel(runsOf(pages), WRITES_IN_FLIGHT, async (run) => {
    const sources = run.map((page) => page.content);
    await parts.lu.writev(sources, homeOf(superblock.geometry, run[0]?.page ?? 0) as LuByte);
    for (const page of run) parts.table.set(page.page, page.checksum);
  });
}
