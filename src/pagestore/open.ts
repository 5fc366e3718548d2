import fs from "node:fs/promises";
import type { Clock } from "../lib/clock.js";
import { StorageError } from "../lib/errors.js";
import type { Logger } from "../lib/log.js";
import { KIB, MIB } from "../lib/units.js";
import type { LogicalUnit } from "../lu/lu.js";
import { type BufferSource, ORDINARY_MEMORY, takeBuffers } from "./buffers.js";
import { ChecksumTable } from "./checksum-table.js";
import { uuidText } from "./format.js";
import type { ImageMap } from "./images.js";
import { loadScratch } from "./load.js";
import { LogArea } from "./log.js";
import { ObservedLu } from "./observed-lu.js";
import type { HealCounters } from "./prove.js";
import { Replay } from "./replay.js";
import { removeScratch, Scratch, scratchError, scratchPath } from "./scratch.js";
import { realFolder, type ScratchFolder } from "./scratch-folder.js";
import { newStatistics } from "./statistics.js";
import { LogPageStore } from "./store.js";
import { readNewestSuperblock, type Superblock, writeSuperblock } from "./superblock.js";
import { UntouchedLu } from "./untouched-lu.js";
import type { WarmPages } from "./warm-copy.js";

const CACHE_BYTES_DEFAULT = 48 * MIB;
/** Read where a record would stand if there were one. */
const EMPTY_WINDOW_BYTES = 64 * KIB;

export interface OpenOptions {
  readonly lu: LogicalUnit;
  /** Where SQLite's copy goes while the store is open. Space for the whole database; no durability wanted, so a tmpfs is fine. */
  readonly scratchDir: string;
  readonly clock: Clock;
  readonly log: Logger;
  /** The folder of the copies, as far as its room goes. Default: as the system says. */
  readonly folder?: ScratchFolder | undefined;
  /** The owner epoch of this node; goes into every record. Default: 0. */
  readonly epoch?: () => number;
  /** SQLite's page cache. Default: 48 MiB. */
  readonly cacheBytes?: number;
  /** Each sidecar from the log's tail on, in order, before this function resolves. The buffer belongs to the callee. */
  readonly onReplay?: (seq: number, sidecar: Buffer) => void;
  /** Default: ordinary memory. PAGE_STORE_BUFFER_BYTES are taken. */
  readonly arena?: BufferSource;
  /**
   * Look at a store while its owner writes it: nothing is ever written to the LU, and `durable` is refused. A view that was torn by the owner is
   * EIO or EBUSY: open again. Default: false.
   */
  readonly readOnly?: boolean;
  /**
   * Takes the search of the rest of the log for a damaged record, which goes on when the store is there, and the healing of bad copies after it: nothing may
   * be served or committed before it has resolved, and a rejection means that nothing can be. Default: it is waited for.
   */
  readonly searching?: ((search: Promise<void>) => void) | undefined;
  /** A copy that was kept while the last owner wrote; it is used up. What of it is no longer true is read anew. */
  readonly warm?: ((tailSeq: number) => Promise<WarmPages | null>) | undefined;
  /** Run SQLite's quick_check. Default: false (pages and records are proven by their checksums anyway). */
  readonly quickCheck?: boolean;
}

/**
 * Read the page area and replay the log into a scratch copy, and open SQLite on it.
 * @throws StorageError ENXIO (no page store here), ESTALE (a newer owner has written it), EIO (damaged in every copy)
 */
export async function openPageStore(options: OpenOptions): Promise<LogPageStore> {
  const { clock, log: logger } = options;
  const readOnly = options.readOnly ?? false;
  const lu = new ObservedLu(readOnly ? new UntouchedLu(options.lu) : options.lu);
  lu.holdHeals();
  const statistics = newStatistics();
  // Whoever only looks owns nothing, and sees every owner's work.
  const epoch = readOnly ? () => Number.MAX_SAFE_INTEGER : (options.epoch ?? (() => 0));
  const startedMs = clock.monotonicMs();
  const superblock = await findSuperblock(lu, epoch(), statistics, logger);
  const buffers = takeBuffers(options.arena ?? ORDINARY_MEMORY);
  const log = new LogArea(lu, superblock.geometry, {
    position: superblock.tailPosition,
    seq: superblock.tailSeq,
    chain: superblock.tailChain,
  });
  const images: ImageMap = new Map();
  const window = superblock.closed ? buffers.record.subarray(0, EMPTY_WINDOW_BYTES) : buffers.record;
  const replay = new Replay(lu, log, superblock.uuid, window, statistics);
  const replayed = await replay.run(superblock, epoch(), images, (seq, sidecar) => {
    if (sidecar.length > 0) options.onReplay?.(seq, sidecar);
  });
  const wasClosed = superblock.closed && log.nextSeq === superblock.checkpointSeq + 1;
  const search = wasClosed ? Promise.resolve() : replay.search();
  search.catch(() => {});
  if (options.searching === undefined) await search;
  if (log.nextSeq <= superblock.checkpointSeq) {
    const detail = { lastSeq: log.nextSeq - 1, checkpointSeq: superblock.checkpointSeq };
    throw new StorageError("EIO", "records that were durable are missing from the log", detail);
  }
  // What was just read may still be in a volatile cache, from an owner that died before its flush; new records will stand on it.
  await lu.flush();
  const opened = readOnly ? superblock : openedBy(superblock, epoch());
  const table = new ChecksumTable(lu, superblock.geometry, superblock.uuid);
  await table.load(superblock.tableBlocksUsed, superblock.generation, statistics);
  const { pageCount } = replayed;
  const file = scratchPath({ directory: options.scratchDir, uuid: uuidText(superblock.uuid) });
  await emptyScratch(options.scratchDir, file);
  const warm = await usable(await options.warm?.(superblock.tailSeq), superblock, log);
  const load = { lu, geometry: superblock.geometry, log, table, images, pageCount, counters: statistics, warm };
  try {
    await loadScratch({ ...load, homePageCount: superblock.pageCount, buffer: buffers.checkpoint }, file);
    if (readOnly) await refuseTorn(lu, superblock, statistics);
    // Not one byte is written before everything is proven.
    if (opened !== superblock) await writeSuperblock(lu, buffers.superblock, opened);
    const proven = search.then(() => lu.healFound());
    if (options.searching === undefined) await proven;
    else options.searching(proven);
    const scratch = openScratch(options, superblock);
    const ms = clock.monotonicMs() - startedMs;
    const found = { pageStore: superblock.name, pageCount, records: replayed.records, warm: warm !== undefined, ms };
    // Whoever looks on does so now and then; an owner once.
    logger[readOnly ? "debug" : "info"](found, "page store opened");
    return new LogPageStore({
      ...{ lu, log, table, scratch, buffers, superblock: opened, images, pageCount, wasClosed },
      ...{ epoch, lastEpoch: replayed.epoch, clock, logger, statistics, readOnly },
    });
  } catch (error) {
    removeScratch(file);
    throw scratchError(error);
  }
}

/** The folder is made when somebody has removed it. @throws StorageError ENOSPC, EIO (isScratchTrouble) */
async function emptyScratch(folder: string, file: string): Promise<void> {
  try {
    await fs.mkdir(folder, { recursive: true });
    removeScratch(file);
  } catch (error) {
    throw scratchError(error);
  }
}

/** From here on a record may follow. One that says so already stays: a higher epoch comes with the first checkpoint. */
function openedBy(superblock: Superblock, epoch: number): Superblock {
  if (!superblock.closed) return superblock;
  return { ...superblock, generation: superblock.generation + 1, epoch, closed: false };
}

/**
 * A checkpoint of the owner moves the log's tail, and what lies before it may be overwritten: a view that was read meanwhile proves nothing.
 * As long as the superblock is the same, records from its tail on were left alone, and every page was proven by them or by the table.
 */
async function refuseTorn(lu: LogicalUnit, superblock: Superblock, counters: HealCounters): Promise<void> {
  const now = await readNewestSuperblock(lu, counters);
  if (now?.generation === superblock.generation && now.uuid.equals(superblock.uuid)) return;
  throw new StorageError("EBUSY", "the page store was changed by its owner while it was read", {
    name: superblock.name,
  });
}

/**
 * It must end inside the log as it is now: what left the log before is then in it, and what stands there is applied to it. A copy may also hold a record that
 * the log has not: its owner died while writing it, and the copy that was read is lost. Nothing of such a copy can be told apart.
 */
async function usable(
  warm: WarmPages | null | undefined,
  superblock: Superblock,
  log: LogArea,
): Promise<WarmPages | undefined> {
  if (warm === null || warm === undefined) return undefined;
  const inside = warm.nextSeq >= superblock.tailSeq && warm.nextSeq <= log.nextSeq;
  if (inside && warm.uuid.equals(superblock.uuid)) {
    const { position, previousChecksum } = log.tailAt(warm.nextSeq);
    if (position === warm.position && previousChecksum === warm.chain) return warm;
  }
  await fs.rm(warm.file, { force: true });
  return undefined;
}

async function findSuperblock(
  lu: LogicalUnit,
  epoch: number,
  counters: HealCounters,
  log: Logger,
): Promise<Superblock> {
  const superblock = await readNewestSuperblock(lu, counters);
  if (superblock === null) throw new StorageError("ENXIO", "the LU carries no page store", { lu: lu.description.name });
  if (superblock.geometry.luBytes > lu.sizeBytes) {
    const detail = { luBytes: lu.sizeBytes, expectedBytes: superblock.geometry.luBytes };
    throw new StorageError("EIO", "the LU is smaller than its page store", detail);
  }
  const unusedBytes = lu.sizeBytes - superblock.geometry.luBytes;
  if (unusedBytes > 0) log.info({ lu: lu.description.name, unusedBytes }, "the LU has grown, its page store cannot");
  if (superblock.epoch > epoch) {
    throw new StorageError("ESTALE", "the page store has a newer owner", { epoch, ownerEpoch: superblock.epoch });
  }
  return superblock;
}

function openScratch(options: OpenOptions, superblock: Superblock): Scratch {
  const scratch = new Scratch({
    directory: options.scratchDir,
    uuid: uuidText(superblock.uuid),
    cacheBytes: options.cacheBytes ?? CACHE_BYTES_DEFAULT,
    pageCapacity: superblock.geometry.pageCapacity,
    folder: options.folder ?? realFolder(options.scratchDir),
  });
  if (options.quickCheck !== true) return scratch;
  const verdict = scratch.db.pragma("quick_check(1)", { simple: true });
  if (verdict === "ok") return scratch;
  scratch.close();
  throw new StorageError("EIO", "the database is inconsistent", { verdict });
}
