import { constants } from "node:fs";
import { copyFile } from "node:fs/promises";
import type Database from "better-sqlite3";
import { AssertionError, assert } from "../lib/assert.js";
import { crc32c } from "../lib/crc32c.js";
import { messageOf, StorageError } from "../lib/errors.js";
import type { Logger } from "../lib/log.js";
import { nextTurn } from "../lib/next-turn.js";
import { BLOCK_BYTES, MIB } from "../lib/units.js";
import { ChecksumInspector } from "../lu/checksum-inspector.js";
import type { BlockInspector } from "../lu/lu.js";
import { Checkpointer, type CheckpointerParts } from "./checkpointer.js";
import { type CommitParticipant, NO_PARTICIPANT, type PageStore } from "./contract.js";
import { uuidText } from "./format.js";
import type { ObservedLu } from "./observed-lu.js";
import { PageInspector } from "./page-inspector.js";
import { bodyStartOf, RecordEntries, recordBytesOf, sealRecord } from "./record.js";
import { type Frames, type Scratch, scratchError } from "./scratch.js";
import type { PageStoreStatistics } from "./statistics.js";
import { Waiters } from "./waiters.js";

/** `freePages` looks anew after one call for so many free pages: an operation adds a handful of them. When few are left, it looks each time. */
const FREE_PAGES_PER_CALL = 64;
const FREE_PAGES_CALLS_MAX = 256;
const FREE_PAGES_RESERVE_MIN = 64;
const FREE_PAGES_RESERVE_MAX = 2048;
/** Turns of the event loop that a commit waits for those who were just answered: well below a millisecond. */
const GATHER_TURNS_MAX = 4;

export interface StoreParts extends CheckpointerParts {
  readonly lu: ObservedLu;
  readonly scratch: Scratch;
  /** Of the database. */
  readonly pageCount: number;
  /** Of the last record or superblock; ours is never lower. */
  readonly lastEpoch: number;
  readonly epoch: () => number;
  readonly logger: Logger;
  /** As LogPageStore.wasClosed. */
  readonly wasClosed: boolean;
  /** Somebody else's: nothing is written. */
  readonly readOnly: boolean;
}

/** While the database is copied the WAL grows; past this folding it at once would be felt (some 100 ms), so the copy is given up. */
const WAL_BYTES_WHILE_COPIED_MAX = 128 * MIB;

interface DatabaseCopy {
  readonly target: string;
  readonly done: (copied: Promise<void>) => void;
}

/** A commit between SQLite's COMMIT and its record. */
interface SealedCommit {
  readonly record: Buffer;
  readonly frames: Frames;
  readonly sidecarBytes: number;
}

/**
 * The page store: group commit into the log, checkpoint out of it.
 *
 * One commit is in flight at a time (`#commitAll`), so a record is written only when the one before it is durable, which replay relies
 * on. A checkpoint runs beside the commits and never touches the log's head.
 * The first error in either ends the store: what is durable is on the LU, everything else is lost with the scratch copy.
 */
export class LogPageStore implements PageStore {
  readonly db: Database.Database;
  readonly uuid: string;
  readonly kind: string;
  readonly name: string;
  readonly #parts: StoreParts;
  readonly #entries = new RecordEntries();
  readonly #pageReserve: number;
  readonly #checkpointer: Checkpointer;
  sealCount = 0;
  #participant: CommitParticipant = NO_PARTICIPANT;
  #pageCount: number;
  #epoch: number;
  #sealedBytes = 0;
  #failure: Error | null = null;
  #closed = false;
  /** Waiters of the next commit, and of the one in flight. */
  #next: Waiters | null = null;
  #inFlight: Waiters | null = null;
  #committing: Promise<void> | null = null;
  readonly #promises: (() => number)[] = [];
  #freePages = 0;
  #freePagesCallsLeft = 0;
  #wantedCopy: DatabaseCopy | null = null;
  #copying: Promise<void> | null = null;

  constructor(parts: StoreParts) {
    this.#parts = parts;
    this.db = parts.scratch.db;
    this.uuid = uuidText(parts.superblock.uuid);
    this.kind = parts.superblock.kind;
    this.name = parts.superblock.name;
    this.#pageCount = parts.pageCount;
    this.#epoch = parts.lastEpoch;
    this.#checkpointer = new Checkpointer(parts, {
      participant: () => this.#participant,
      pageCount: () => this.#pageCount,
      epoch: () => this.#checkedEpoch(),
      sealedBytes: () => this.#sealedBytes,
      fail: (error) => this.#fail(error),
      refuseFailed: () => {
        if (this.#failure !== null) throw this.#refusal();
      },
    });
    const wanted = Math.floor(parts.superblock.geometry.pageCapacity / 32);
    this.#pageReserve = Math.min(Math.max(wanted, FREE_PAGES_RESERVE_MIN), FREE_PAGES_RESERVE_MAX);
  }

  get durableSeq(): number {
    return this.#parts.log.nextSeq - 1;
  }

  /** Whoever had it before has closed it: everything that was committed is here, with whatever it wrote last. */
  get wasClosed(): boolean {
    return this.#parts.wasClosed;
  }

  get failed(): boolean {
    return this.#failure !== null;
  }

  /** Why the store has failed. */
  get failure(): Error | null {
    return this.#failure;
  }

  get logIsRoomy(): boolean {
    return this.#checkpointer.isRoomy;
  }

  get recordBytesMax(): number {
    return this.#checkpointer.recordBytesMax;
  }

  get commitBytesMax(): number {
    return this.#checkpointer.commitBytesMax;
  }

  get logUsedBytes(): number {
    return this.#parts.log.usedBytes;
  }

  statistics(): Readonly<PageStoreStatistics> {
    return this.#parts.statistics;
  }

  /** For a scrub of the LU; its owner closes it. After the store is closed it knows nothing. */
  inspector(): BlockInspector {
    const { lu, log, table } = this.#parts;
    const isClosed = () => this.#closed;
    return new ChecksumInspector(new PageInspector({ lu, log, table, checkpointer: this.#checkpointer, isClosed }));
  }

  join(participant: CommitParticipant): void {
    assert(this.#participant === NO_PARTICIPANT, "a participant joins once");
    this.#participant = participant;
  }

  durable(releasing = false): Promise<void> {
    if (this.#failure !== null || this.#closed) return Promise.reject(this.#refusal());
    if (this.#parts.readOnly) return Promise.reject(this.#readOnlyRefusal());
    this.#next ??= new Waiters();
    this.#committing ??= this.#commitAll();
    const durable = this.#next.join();
    if (releasing) this.#checkpointer.releaseNeeds(durable);
    return durable;
  }

  portion(): void {
    this.#parts.scratch.portion();
  }

  /**
   * Called inside the participant's `seal` only: the database as that commit leaves it is copied to a file of its own, beside the
   * service. Whether the commit becomes durable is another matter.
   * @param target  a path that does not exist, best in the scratch folder
   * @throws StorageError EBUSY (one is being copied, or too much was committed meanwhile), ENOSPC, EIO
   */
  copyAtSeal(target: string): Promise<void> {
    if (this.#copying !== null || this.#wantedCopy !== null) {
      return Promise.reject(new StorageError("EBUSY", "the database is being copied already"));
    }
    return new Promise((resolve) => {
      this.#wantedCopy = { target, done: resolve };
    });
  }

  freePages(): number {
    if (this.#freePagesCallsLeft === 0) {
      this.#freePages = this.#pagesBeyond(this.#pageReserve);
      const calls = Math.floor(this.#freePages / FREE_PAGES_PER_CALL);
      this.#freePagesCallsLeft = Math.min(FREE_PAGES_CALLS_MAX, Math.max(1, calls));
    }
    this.#freePagesCallsLeft--;
    return this.#freePages;
  }

  emergencyPages(share: number): number {
    return this.#pagesBeyond(Math.floor(this.#pageReserve * (1 - share)));
  }

  promise(source: () => number): void {
    this.#promises.push(source);
  }

  #pagesBeyond(reserve: number): number {
    const { pageCapacity } = this.#parts.superblock.geometry;
    const promised = this.#promises.reduce((sum, source) => sum + source(), 0);
    return Math.max(0, pageCapacity - reserve - promised - this.#parts.scratch.pagesInUse());
  }

  hasScratchRoom(): boolean {
    return this.#closed || this.#failure !== null || this.#parts.scratch.hasRoom();
  }

  async checkpoint(): Promise<void> {
    await this.#checkpointer.settled();
    if (this.#failure !== null || this.#closed) throw this.#refusal();
    if (this.#parts.readOnly) throw this.#readOnlyRefusal();
    await this.#checkpointer.start();
    if (this.#failure !== null) throw this.#refusal();
  }

  giveUp(error: Error): void {
    this.#fail(error);
  }

  /** Let go without writing anything: what is open in the transaction is lost. */
  async abandon(): Promise<void> {
    this.#fail(new StorageError("EIO", "the page store was given up", { name: this.name }));
    await this.close();
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    try {
      if (this.#failure === null && !this.#parts.readOnly) {
        await this.durable();
        // This needs commits. What is still held back then is replayed at the next open.
        if (this.#checkpointer.hasSidecars) await this.#checkpointer.start();
        this.#closed = true;
        await this.#committing;
        await this.#checkpointer.close();
        if (this.#failure !== null) throw this.#refusal();
      }
    } finally {
      this.#closed = true;
      await this.#checkpointer.settled();
      await this.#committing;
      await this.#copying;
      this.#parts.scratch.close();
    }
  }

  /** Runs commits as long as somebody waits for one. */
  async #commitAll(): Promise<void> {
    try {
      // Everything that this turn of the event loop still applies goes into the same commit.
      await nextTurn();
      while (this.#next !== null && this.#failure === null) {
        const answered = await this.#commitOnce();
        await this.#gather(answered);
      }
    } catch (error) {
      this.#fail(error);
    } finally {
      this.#committing = null;
    }
  }

  /**
   * Those who were just answered usually ask again at once. Without a pause they would always miss the next commit, and two halves of
   * the clients would take turns with twice the commits; so wait until as many as there were have come, but for a few turns only.
   */
  async #gather(answered: number): Promise<void> {
    const expected = answered + (this.#next?.count ?? 0);
    if (answered <= 1) return;
    for (let turn = 0; turn < GATHER_TURNS_MAX && (this.#next?.count ?? 0) < expected; turn++) await nextTurn();
  }

  /** @returns how many were answered */
  async #commitOnce(): Promise<number> {
    if (this.#checkpointer.isTight) await this.#checkpointer.roomToSeal();
    await this.#participant.prepare();
    const waiters = this.#next;
    assert(waiters !== null, "somebody waits for a commit");
    this.#next = null;
    this.#inFlight = waiters;
    const sealed = this.#seal();
    await this.#participant.settle();
    if (sealed !== null) await this.#append(sealed);
    if (this.#failure !== null) return 0;
    this.#participant.durable(this.durableSeq);
    this.#parts.statistics.commits++;
    this.#parts.statistics.waiters += waiters.count;
    this.#inFlight = null;
    waiters.resolve();
    if (this.#checkpointer.isDue) void this.#checkpointer.start();
    return waiters.count;
  }

  /** Synchronous: what is sealed, committed and copied here is one state of the database; the next transaction is open afterwards. */
  #seal(): SealedCommit | null {
    const { scratch, buffers } = this.#parts;
    // Thawed early, the copy finds out and fails; nothing else depends on it.
    if (scratch.walBytes > WAL_BYTES_WHILE_COPIED_MAX) scratch.thaw();
    const sidecar = this.#participant.seal();
    this.sealCount++;
    const frames = scratch.commit();
    this.#freePagesCallsLeft = 0;
    let sidecarBytes = 0;
    for (const part of sidecar) sidecarBytes += part.length;
    if (frames.count === 0 && sidecarBytes === 0) {
      this.#beginCopy();
      scratch.begin();
      return null;
    }
    const byteCount = recordBytesOf(frames.count, sidecarBytes);
    const byteCountMax = this.#checkpointer.recordBytesLimit;
    if (byteCount > byteCountMax) {
      const detail = { byteCount, byteCountMax };
      throw new StorageError("EFBIG", "a commit is larger than the log can hold", detail);
    }
    const fits = byteCount <= buffers.record.length;
    this.#sealedBytes = byteCount;
    const record = fits ? buffers.record.subarray(0, byteCount) : Buffer.allocUnsafeSlow(byteCount);
    this.#fillBody(record, frames, sidecar, sidecarBytes);
    this.#beginCopy();
    scratch.begin();
    return { record, frames, sidecarBytes };
  }

  /** Between SQLite's COMMIT and the next BEGIN. Where the scratch folder's file system can, nothing but references is copied. */
  #beginCopy(): void {
    const wanted = this.#wantedCopy;
    if (wanted === null) return;
    this.#wantedCopy = null;
    const { scratch } = this.#parts;
    const copying = copyFile(scratch.freeze(), wanted.target, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE)
      .catch((error: unknown) => {
        throw scratchError(error);
      })
      .then(() => {
        if (scratch.frozen) return;
        throw new StorageError("EBUSY", "too much was changed while the metadata was copied");
      })
      .finally(() => {
        scratch.thaw();
        this.#copying = null;
      });
    this.#copying = copying.catch(() => {});
    wanted.done(copying);
  }

  #fillBody(record: Buffer, frames: Frames, sidecar: readonly Buffer[], sidecarBytes: number): void {
    let at = bodyStartOf(frames.count, sidecarBytes);
    this.#entries.reserve((record.length - at) / BLOCK_BYTES);
    this.#parts.scratch.readFrames(frames, record.subarray(at), this.#entries.pages);
    // SQLite puts the first page of a new database into its file directly, and changes it with the first page that follows.
    assert(this.#pageCount > 0 || frames.count === 0 || this.#holdsFirstPage(frames), "page 1 is logged");
    this.#entries.pages.fill(0, frames.count, this.#entries.count);
    at += frames.count * BLOCK_BYTES;
    for (const part of sidecar) at += part.copy(record, at);
    record.fill(0, at);
  }

  #holdsFirstPage(frames: Frames): boolean {
    return this.#entries.pages.subarray(0, frames.count).includes(1);
  }

  async #append({ record, frames, sidecarBytes }: SealedCommit): Promise<void> {
    const { log, statistics } = this.#parts;
    await this.#checkpointer.waitForRoom(record.length);
    const pageCount = frames.count === 0 ? this.#pageCount : frames.pageCount;
    const fields = {
      seq: log.nextSeq,
      epoch: this.#checkedEpoch(),
      position: log.head,
      previousChecksum: log.chain,
      pageCount,
      pagesLogged: frames.count,
      sidecarBytes,
    };
    const checksum = sealRecord(record, this.#parts.superblock.uuid, fields, this.#entries);
    await log.append(record);
    // From here on the record is durable.
    const bodyStart = bodyStartOf(frames.count, sidecarBytes);
    this.#noteBlocks(record, bodyStart);
    this.#checkpointer.noteImages(log.head + bodyStart, this.#entries, frames.count);
    log.accept(record.length, checksum);
    this.#sealedBytes = 0;
    this.#pageCount = pageCount;
    statistics.records++;
    statistics.pagesLogged += frames.count;
    statistics.sidecarBytes += sidecarBytes;
    statistics.bytesLogged += record.length;
  }

  #noteBlocks(record: Buffer, bodyStart: number): void {
    const { log } = this.#parts;
    for (let at = 0; at < bodyStart; at += BLOCK_BYTES) {
      log.noteBlock(log.head + at, crc32c(record.subarray(at, at + BLOCK_BYTES)));
    }
    for (let i = 0; i < this.#entries.count; i++) {
      log.noteBlock(log.head + bodyStart + i * BLOCK_BYTES, this.#entries.checksums[i] ?? 0);
    }
  }

  #checkedEpoch(): number {
    const epoch = this.#parts.epoch();
    if (epoch < this.#epoch) throw new StorageError("ESTALE", "the epoch fell", { epoch, lastEpoch: this.#epoch });
    this.#epoch = epoch;
    return epoch;
  }

  #fail(error: unknown): void {
    if (this.#failure !== null) return;
    this.#failure = error instanceof Error ? error : new Error(messageOf(error));
    this.#parts.logger.error({ err: this.#failure, pageStore: this.name }, "page store failed");
    const refusal = this.#refusal();
    this.#inFlight?.reject(refusal);
    this.#next?.reject(refusal);
    this.#inFlight = null;
    this.#next = null;
    this.#checkpointer.wake();
    // A fact of ours did not hold: not an operating error, and nothing to go on from.
    if (error instanceof AssertionError) queueMicrotask(() => rethrow(error));
  }

  #readOnlyRefusal(): StorageError {
    return new StorageError("EROFS", "the page store is open for reading only", { name: this.name });
  }

  #refusal(): StorageError {
    if (this.#failure === null) return new StorageError("EIO", "the page store is closed", { name: this.name });
    return new StorageError("EIO", "the page store has failed", { name: this.name }, this.#failure);
  }
}

function rethrow(error: Error): never {
  throw error;
}
