import type Database from "better-sqlite3";
import { assert } from "../../lib/assert.js";
import type { BlockChecksums } from "../../lib/block-checksums.js";
import type { Clock } from "../../lib/clock.js";
import { StorageError } from "../../lib/errors.js";
import type { Logger } from "../../lib/log.js";
import type { Random } from "../../lib/prng.js";
import { BLOCK_BYTES } from "../../lib/units.js";
import { ChecksumInspector } from "../../lu/checksum-inspector.js";
import type { BlockInspector, LogicalUnit } from "../../lu/lu.js";
import type { BufferSource } from "../../pagestore/buffers.js";
import type { CommitParticipant, PageStore } from "../../pagestore/contract.js";
import type { ApplyObserver, Contents, ContentsFault, SpaceCount } from "../contents-contract.js";
import type { Inode, InodeMarks } from "../inode.js";
import type { KeptReply } from "../vfs.js";
import type { BlockWatcher } from "./block-index.js";
import { type CheckOptions, ContentsCheck } from "./check.js";
import { Committer } from "./committer.js";
import { DataInspector, type FileLabels } from "./data-inspector.js";
import { DataWriter } from "./data-writer.js";
import { DatabaseRoom } from "./database-room.js";
import type { ContentsEvent } from "./events.js";
import { decodeExtentMap, newBlockMap } from "./extent-map.js";
import { FileWriter } from "./file-writer.js";
import { FrameCache } from "./frame-cache.js";
import { Freer } from "./freer.js";
import { GroupTable } from "./group-table.js";
import {
  CACHE_BYTES_DEFAULT,
  CACHE_BYTES_MIN,
  FREED_GROUPS_PER_STEP,
  GROUPS_MAX,
  GROUPS_MIN,
  intentBlocksOf,
  PAGES_PER_COMMIT_MIN,
  PAGES_PER_COMMIT_SHARE,
  RECORD_BYTES_DEFAULT,
  SEGMENT_ROWS_PER_PAGE,
} from "./limits.js";
import { ReadEpochs } from "./read-epochs.js";
import { Reader } from "./reader.js";
import { loadIntents, type RecoveryParts, settleUsedBlocks } from "./recovery.js";
import { type ContentsGeometry, createContentsTables, loadSpaceGeometry, recordBlockCount } from "./schema.js";
import { SidecarRecovery } from "./sidecar-recovery.js";
import { type FrozenContents, SnapshotGate } from "./snapshot-gate.js";
import { SpaceMap } from "./space-map.js";
import { Truncation } from "./truncation.js";
import { WriteBack } from "./write-back.js";

export interface FileContentsOptions {
  readonly dataLu: LogicalUnit;
  /** Where the data cache lies. */
  readonly arena: BufferSource;
  /** With `recordBytesMax` (in bytes) a commit keeps below it. */
  readonly store: PageStore & { readonly recordBytesMax?: number; copyAtSeal?(target: string): Promise<void> };
  readonly inodes: InodeMarks;
  readonly clock: Clock;
  readonly log: Logger;
  readonly random: Random;
  /** Of the data cache, taken from the arena; at least 4 MiB, default 128 MiB. Half of it may be dirty. */
  readonly cacheBytes?: number;
  /** More groups than this are freed in steps of so many, a commit each. Default 256. */
  readonly freedGroupsPerStep?: number;
  readonly onEvent?: (event: ContentsEvent) => void;
  readonly without?: WithoutChecks;
  /** The answer of a write that the commit being sealed makes durable: to be kept in that commit. */
  readonly onReplySaved?: (kept: KeptReply) => void;
}

/** What is switched off, for a simulator that must notice. checksum: what is read from the data LU is believed. */
export interface WithoutChecks {
  readonly checksum?: boolean;
  /** As in NamespaceParts. */
  readonly promise?: boolean;
}

/** Counts since the start, and sizes now. */
export interface ContentsStatistics {
  readonly cachedBlocks: number;
  readonly dirtyBlocks: number;
  readonly groups: number;
  readonly freeBlocks: number;
  readonly promisedBlocks: number;
  readonly writtenBytes: number;
  readonly loggedIntents: number;
  readonly commits: number;
  readonly loadedBlocks: number;
  readonly directBlocks: number;
  readonly healedBlocks: number;
  readonly unreadableBlocks: number;
  readonly failedWriteBacks: number;
}

/**
 * What files contain: block maps, space, the data cache and its write-back, and the part that these have in a group commit.
 * docs/decisions/0008-file-contents.md explains the design, docs/format/contents.md the tables and the sidecar.
 *
 * The file system joins the page store with a participant that calls `prepare`, `seal` (before it writes its own dirty rows: sealing
 * changes sizes), `settle` and `durable` of this object, and calls `start` before the first request.
 */
export class FileContents implements Contents, CommitParticipant {
  readonly #lu: LogicalUnit;
  readonly #store: PageStore;
  readonly #frames: FrameCache;
  readonly #space: SpaceMap;
  readonly #table: GroupTable;
  readonly #epochs: ReadEpochs;
  readonly #writer: DataWriter;
  readonly #writeBack: WriteBack;
  readonly #committer: Committer;
  readonly #reader: Reader;
  readonly #truncation: Truncation;
  readonly #freer: Freer;
  readonly #databaseRoom: DatabaseRoom;
  readonly #fileWriter: FileWriter;
  readonly #inodes: InodeMarks;
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #blockWatchers: BlockWatcher[] = [];
  readonly #inspectors = new Set<DataInspector>();
  readonly #gate: SnapshotGate;
  readonly #firstMap: Database.Statement<[number, number], Buffer>;
  #relief: Promise<void> | null = null;

  constructor(options: FileContentsOptions) {
    const { dataLu: lu, store, inodes, clock, log } = options;
    const { db } = store;
    this.#firstMap = db
      .prepare<[number, number], Buffer>("SELECT map FROM extent WHERE ino = ? AND grp < ? ORDER BY grp LIMIT 1")
      .pluck();
    const onEvent = options.onEvent ?? (() => {});
    const cacheBytes = options.cacheBytes ?? CACHE_BYTES_DEFAULT;
    assert(cacheBytes >= CACHE_BYTES_MIN, "the cache holds a large write and its write-back");
    this.#lu = lu;
    this.#store = store;
    this.#inodes = inodes;
    this.#clock = clock;
    this.#log = log;
    const frames = new FrameCache(options.arena.take(cacheBytes, "data cache"));
    const blockWatchers = this.#blockWatchers;
    const space = new SpaceMap(db, loadSpaceGeometry(db, lu), blockWatchers);
    const groupsMax = Math.max(GROUPS_MIN, Math.min(GROUPS_MAX, frames.frameCount));
    const pagesMax = pagesPerCommit(store.recordBytesMax ?? RECORD_BYTES_DEFAULT);
    const table = new GroupTable({ db, frames, space, inodes, groupsMax, pagesMax, blockWatchers });
    const epochs = new ReadEpochs((freed) => space.releaseAll(freed));
    const writer = new DataWriter(lu, frames);
    this.#frames = frames;
    this.#space = space;
    this.#table = table;
    this.#epochs = epochs;
    this.#writer = writer;
    this.#writeBack = new WriteBack({ table, frames, space, writer, inodes, store, clock, log, onEvent });
    const writeBack = this.#writeBack;
    const onReplySaved = options.onReplySaved ?? (() => {});
    this.#committer = new Committer({ db, table, frames, epochs, writer, writeBack, inodes, store, onReplySaved });
    const believing = options.without?.checksum === true;
    this.#reader = new Reader({ lu, table, frames, epochs, log, onEvent, believing });
    this.#gate = new SnapshotGate({ store, committer: this.#committer, writeBack, epochs, reader: this.#reader });
    const groupsPerStep = options.freedGroupsPerStep ?? FREED_GROUPS_PER_STEP;
    const freer = new Freer({ db, table, inodes, store, log, groupsPerStep });
    this.#freer = freer;
    this.#truncation = new Truncation({ freer, table, frames, inodes, clock });
    const truncation = this.#truncation;
    this.#databaseRoom = new DatabaseRoom(store, table);
    store.promise(() => 2 * Math.ceil(space.segmentCount / SEGMENT_ROWS_PER_PAGE));
    const [databaseRoom, reader] = [this.#databaseRoom, this.#reader];
    const reclaim = (attempt: number) => this.#reclaim(attempt);
    const relieve = () => this.#relieve();
    this.#fileWriter = new FileWriter({
      ...{ table, frames, space, databaseRoom, reader, writeBack, truncation, freer, inodes, clock, reclaim, relieve },
    });
  }

  /** Make the tables of a new file system on this data LU. */
  static createTables(db: PageStore["db"], geometry: ContentsGeometry): void {
    createContentsTables(db, geometry);
  }

  /**
   * Take over what the page store's replay has collected, and go on with what was interrupted. Once, after `store.join`.
   * @param readOnly  nothing is ever written back
   * @throws StorageError EIO
   */
  async start(recovery: SidecarRecovery = new SidecarRecovery(), { readOnly = false } = {}): Promise<void> {
    const relieve = () => {
      if (readOnly) throw new StorageError("EIO", "there is more data in the log than the data cache can hold");
      return this.#relieve();
    };
    const parts: RecoveryParts = {
      ...{ db: this.#store.db, table: this.#table, frames: this.#frames, committer: this.#committer },
      ...{ writeBack: this.#writeBack, inodes: this.#inodes, clock: this.#clock },
      relieve,
    };
    if (readOnly) await this.#writeBack.close();
    else this.grow();
    settleUsedBlocks(parts);
    const blockCount = await loadIntents(parts, recovery);
    if (blockCount > 0) this.#log.info({ blockCount }, "file data was recovered from the log");
    if (readOnly) return;
    this.#freer.resume();
    this.#writeBack.kick();
  }

  read(inode: Inode, offset: number, target: Buffer): number | Promise<number> {
    refuseDead(inode);
    return this.#reader.read(inode, offset, target);
  }

  write(
    inode: Inode,
    offset: number,
    source: Buffer,
    observer: ApplyObserver,
    checksums: BlockChecksums | null = null,
  ): void | Promise<void> {
    refuseDead(inode);
    return this.#fileWriter.write(inode, offset, source, observer, checksums);
  }

  truncate(inode: Inode, sizeBytes: number, observer: ApplyObserver): void | Promise<void> {
    refuseDead(inode);
    return this.#fileWriter.truncate(inode, sizeBytes, observer);
  }

  discard(inode: Inode): void {
    this.#truncation.discard(this.#table.stateOf(inode));
  }

  stabilize(inode: Inode): Promise<void> {
    const state = this.#table.peek(inode);
    return state === null ? this.#store.durable() : this.#committer.stabilize(state);
  }

  keepReply(inode: Inode, kept: KeptReply): void {
    this.#table.stateOf(inode).keepReply(kept);
  }

  headAddress(ino: number): number {
    this.#table.writeRows();
    const map = this.#firstMap.get(ino, this.#freer.firstGroup(ino));
    if (map === undefined) return -1;
    const blocks = newBlockMap();
    decodeExtentMap(map, blocks);
    return (blocks.addresses.find((address) => address >= 0) ?? -1) * BLOCK_BYTES;
  }

  space(): SpaceCount {
    const { geometry, reserveBlocks, availableCount } = this.#space;
    return { totalBlocks: geometry.blockCount - reserveBlocks, freeBlocks: availableCount };
  }

  /** What the data LU has grown by is used from now on; the commit that uses it makes it durable. Nothing when it has not grown. */
  grow(): void {
    const blockCount = Math.floor(this.#lu.sizeBytes / BLOCK_BYTES);
    const before = this.#space.geometry.blockCount;
    if (blockCount <= before) return;
    recordBlockCount(this.#store.db, blockCount);
    this.#space.grow(blockCount);
    this.#log.info({ blockCount, before, lu: this.#lu.description.name }, "the file system has grown");
  }

  /**
   * For a scrub of the data LU; DataInspector says what it costs. Its owner closes it.
   * @param folder  for a table that exists while something is prepared
   */
  inspector(folder: string, labels: FileLabels): BlockInspector {
    const inspector: DataInspector = new DataInspector({
      ...{ store: this.#store, table: this.#table, space: this.#space, blockWatchers: this.#blockWatchers },
      ...{ folder, labels, onClose: () => this.#inspectors.delete(inspector) },
    });
    this.#inspectors.add(inspector);
    return new ChecksumInspector(inspector);
  }

  prepare(): Promise<void> {
    return this.#committer.prepare();
  }

  seal(): readonly Buffer[] {
    this.#databaseRoom.refresh();
    const sidecar = this.#committer.seal();
    this.#gate.sealed();
    return sidecar;
  }

  /**
   * Freeze what files contain, beside the service: the metadata goes to a file of its own, and no block that it names is used again
   * until it is released. Given up, rather than that clients find no space. SnapshotGate tells how.
   * @throws StorageError EBUSY, ENOSPC (scratch folder), EIO
   */
  freeze(target: string): Promise<FrozenContents> {
    return this.#gate.freeze(target);
  }

  settle(): Promise<void> {
    return this.#committer.settle();
  }

  durable(seq: number): void {
    this.#committer.durable(seq);
  }

  releaseSidecars(seq: number): Promise<void> {
    return this.#committer.releaseSidecars(seq);
  }

  oldestSidecar(): number {
    return this.#committer.oldestSidecar();
  }

  releasePages(): number {
    return this.#table.releasePages;
  }

  /** Prove that extents, allocation and inodes agree, beside the service; with `data`, that every block reads back. Nothing is changed, except that bad copies are healed. */
  async *check(options: CheckOptions = {}): AsyncIterable<ContentsFault> {
    const parts = {
      ...{ db: this.#store.db, table: this.#table, space: this.#space, freer: this.#freer },
      ...{ epochs: this.#epochs, reader: this.#reader, inodes: this.#inodes },
    };
    const check = new ContentsCheck(parts, options.onSlice);
    yield* check.structure(options.files ?? []);
    if (options.data === true) yield* check.data();
  }

  statistics(): ContentsStatistics {
    const { healedBlocks, unreadableBlocks, directBlocks, loadedBlocks } = this.#reader.counters;
    return {
      cachedBlocks: this.#frames.usedCount,
      dirtyBlocks: this.#frames.pinnedCount,
      groups: this.#table.groupCount,
      freeBlocks: this.#space.freeCount,
      promisedBlocks: this.#space.promisedCount,
      writtenBytes: this.#writer.writtenBytes,
      loggedIntents: this.#committer.intentCount,
      commits: this.#committer.commitCount,
      ...{ loadedBlocks, directBlocks, healedBlocks, unreadableBlocks },
      failedWriteBacks: this.#writeBack.failureCount,
    };
  }

  async settleAll(): Promise<void> {
    await this.#writeBack.writeBackAll();
    await this.#store.durable();
  }

  /** Write everything home and commit it. The page store is closed afterwards, by its owner. @throws StorageError EIO */
  async close(): Promise<void> {
    for (const inspector of this.#inspectors) inspector.end();
    this.#gate.giveUp("the file system is closed");
    this.#fileWriter.close();
    await this.#freer.close();
    try {
      await this.#writeBack.writeBackAll();
      await this.#store.durable();
    } finally {
      await this.#writeBack.close();
    }
  }

  /** Shared by all who wait for it. */
  #relieve(): Promise<void> {
    this.#relief ??= this.#writeBack
      .writeBackAll()
      .then(() => this.#store.durable())
      .finally(() => {
        this.#relief = null;
      });
    return this.#relief;
  }

  /** In rising order of cost: wait for the frees of the commits in progress; write everything back; let what is freed in steps end. */
  async #reclaim(attempt: number): Promise<boolean> {
    const freeing = this.#committer.freeingBlocks + this.#epochs.waitingBlocks;
    const pending = this.#space.promisedCount + this.#table.pendingRowCount;
    if (attempt === 0 && freeing + pending === 0 && !this.#freer.running) return false;
    if (attempt === 1) await this.#writeBack.writeBackAll();
    if (attempt === 2) this.#gate.giveUp("the file system needs the space that it holds back");
    if (attempt > 2 && !this.#freer.running) return false;
    await this.#store.durable();
    return true;
  }
}

/** Of the metadata database, that this layer may change in one commit. */
function pagesPerCommit(recordBytesMax: number): number {
  const pages = Math.floor(recordBytesMax / BLOCK_BYTES) - intentBlocksOf(recordBytesMax);
  return Math.max(PAGES_PER_COMMIT_MIN, Math.floor(pages * PAGES_PER_COMMIT_SHARE));
}

function refuseDead(inode: Inode): void {
  if (inode.dead) throw new StorageError("ESTALE", "the file was removed");
}
