import type Database from "better-sqlite3";
import { AssertionError, assert } from "../lib/assert.js";
import type { Clock } from "../lib/clock.js";
import { messageOf, StorageError } from "../lib/errors.js";
import type { Logger } from "../lib/log.js";
import { BLOCK_BYTES, roundDown } from "../lib/units.js";
import type { LogicalUnit } from "../lu/lu.js";
import type { StoreBuffers } from "./buffers.js";
import { runCheckpoint } from "./checkpoint.js";
import type { ChecksumTable } from "./checksum-table.js";
import { type CommitParticipant, NO_PARTICIPANT, type PageStore } from "./contract.js";
import { uuidText } from "./format.js";
import { type ImageMap, noteImage } from "./images.js";
import type { LogArea } from "./log.js";
import { bodyStartOf, RecordEntries, recordBytesOf, sealRecord } from "./record.js";
import type { Frames, Scratch } from "./scratch.js";
import type { PageStoreStatistics } from "./statistics.js";
import type { Superblock } from "./superblock.js";
import { Signal, Waiters } from "./waiters.js";

/** A checkpoint starts when this part of the log is in use: early enough to end before the log is full. */
const CHECKPOINT_AT = 1 / 3;
/** And not before this part of the log was written since the last one began. */
const CHECKPOINT_STEP = 1 / 8;
/** This part of the log is kept for the commits that `releaseSidecars` needs when everything else has to wait. */
const RESERVED = 1 / 4;
/** How long a commit holds back before it goes into the reserve: longer, the less of it is left. */
const RESERVE_DELAY_MS = 5;
const RESERVE_DELAY_MS_MAX = 200;
/** `freePages` looks anew after so many calls: an operation adds a handful of pages, and the reserve is far larger than this many of them. */
const FREE_PAGES_CALLS = 16;
const FREE_PAGES_RESERVE_MIN = 64;
const FREE_PAGES_RESERVE_MAX = 2048;

export interface StoreParts {
  readonly lu: LogicalUnit;
  readonly log: LogArea;
  readonly table: ChecksumTable;
  readonly scratch: Scratch;
  readonly buffers: StoreBuffers;
  readonly superblock: Superblock;
  /** What the page area does not hold yet. */
  readonly images: ImageMap;
  readonly pageCount: number;
  /** Of the last record or superblock; ours is never lower. */
  readonly lastEpoch: number;
  readonly epoch: () => number;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly statistics: PageStoreStatistics;
}

/** A commit between SQLite's COMMIT and its record. */
interface SealedCommit {
  readonly record: Buffer;
  readonly frames: Frames;
  readonly sidecarBytes: number;
}

/**
 * idle: no checkpoint runs. releasing: the participant makes sidecars unnecessary, and needs commits for it.
 * writing: pages go home; commits that do not fit wait for the end.
 */
type CheckpointPhase = "idle" | "releasing" | "writing";

/**
 * The page store: group commit into the log, checkpoint out of it.
 *
 * One commit is in flight at a time (`#commitAll`), so a record is written only when the one before it is durable, which replay relies
 * on. One checkpoint runs at a time beside the commits; it works on a snapshot of `#images` and never touches the log's head.
 * The first error in either ends the store: what is durable is on the LU, everything else is lost with the scratch copy.
 */
export class LogPageStore implements PageStore {
  readonly db: Database.Database;
  readonly uuid: string;
  readonly kind: string;
  readonly name: string;
  readonly #parts: StoreParts;
  readonly #entries = new RecordEntries();
  readonly #reserveBytes: number;
  readonly #pageReserve: number;
  readonly #logChanged = new Signal();
  #participant: CommitParticipant = NO_PARTICIPANT;
  #superblock: Superblock;
  #images: ImageMap;
  #pageCount: number;
  #epoch: number;
  #failure: Error | null = null;
  #closed = false;
  /** Waiters of the next commit, and of the one in flight. */
  #next: Waiters | null = null;
  #inFlight: Waiters | null = null;
  #committing: Promise<void> | null = null;
  #checkpointing: Promise<void> | null = null;
  #phase: CheckpointPhase = "idle";
  /** The log's head when the last checkpoint began. */
  #checkpointedHead: number;
  #freePages = 0;
  #freePagesCallsLeft = 0;

  constructor(parts: StoreParts) {
    this.#parts = parts;
    this.db = parts.scratch.db;
    this.uuid = uuidText(parts.superblock.uuid);
    this.kind = parts.superblock.kind;
    this.name = parts.superblock.name;
    this.#superblock = parts.superblock;
    this.#images = parts.images;
    this.#pageCount = parts.pageCount;
    this.#epoch = parts.lastEpoch;
    this.#checkpointedHead = parts.log.head;
    this.#reserveBytes = roundDown(parts.log.bytes * RESERVED, BLOCK_BYTES);
    const wanted = Math.floor(parts.superblock.geometry.pageCapacity / 32);
    this.#pageReserve = Math.min(Math.max(wanted, FREE_PAGES_RESERVE_MIN), FREE_PAGES_RESERVE_MAX);
  }

  get durableSeq(): number {
    return this.#parts.log.nextSeq - 1;
  }

  get failed(): boolean {
    return this.#failure !== null;
  }

  /** Why the store has failed. */
  get failure(): Error | null {
    return this.#failure;
  }

  /** The largest record that can be written; a transaction that needs more fails the store. */
  get recordBytesMax(): number {
    return this.#parts.log.bytes - this.#reserveBytes;
  }

  get logUsedBytes(): number {
    return this.#parts.log.usedBytes;
  }

  statistics(): Readonly<PageStoreStatistics> {
    return this.#parts.statistics;
  }

  join(participant: CommitParticipant): void {
    assert(this.#participant === NO_PARTICIPANT, "a participant joins once");
    this.#participant = participant;
  }

  durable(): Promise<void> {
    if (this.#failure !== null || this.#closed) return Promise.reject(this.#refusal());
    this.#next ??= new Waiters();
    this.#committing ??= this.#commitAll();
    return this.#next.join();
  }

  freePages(): number {
    if (this.#freePagesCallsLeft === 0) {
      const { pageCapacity } = this.#superblock.geometry;
      this.#freePages = Math.max(0, pageCapacity - this.#pageReserve - this.#parts.scratch.pagesInUse());
      this.#freePagesCallsLeft = FREE_PAGES_CALLS;
    }
    this.#freePagesCallsLeft--;
    return this.#freePages;
  }

  async checkpoint(): Promise<void> {
    await this.#checkpointing;
    if (this.#failure !== null || this.#closed) throw this.#refusal();
    await this.#startCheckpoint();
    if (this.#failure !== null) throw this.#refusal();
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    try {
      if (this.#failure === null) {
        await this.durable();
        await this.checkpoint();
      }
    } finally {
      this.#closed = true;
      await this.#checkpointing;
      await this.#committing;
      this.#parts.scratch.close();
    }
  }

  /** Runs commits as long as somebody waits for one. */
  async #commitAll(): Promise<void> {
    try {
      // Everything that this turn of the event loop still applies goes into the same commit.
      await new Promise<void>((resolve) => setImmediate(resolve));
      while (this.#next !== null && this.#failure === null) await this.#commitOnce();
    } catch (error) {
      this.#fail(error);
      // A fact of ours did not hold: not an operating error.
      if (error instanceof AssertionError) throw error;
    } finally {
      this.#committing = null;
    }
  }

  async #commitOnce(): Promise<void> {
    await this.#participant.prepare();
    const waiters = this.#next;
    assert(waiters !== null, "somebody waits for a commit");
    this.#next = null;
    this.#inFlight = waiters;
    const sealed = this.#seal();
    await this.#participant.settle();
    if (sealed !== null) await this.#append(sealed);
    if (this.#failure !== null) return;
    this.#participant.durable(this.durableSeq);
    this.#parts.statistics.commits++;
    this.#parts.statistics.waiters += waiters.count;
    this.#inFlight = null;
    waiters.resolve();
    if (this.#checkpointIsDue()) void this.#startCheckpoint();
  }

  #checkpointIsDue(): boolean {
    const { log } = this.#parts;
    if (log.usedBytes <= log.bytes * CHECKPOINT_AT) return false;
    // A tail that sidecars hold back does not move with every checkpoint.
    return log.head - this.#checkpointedHead > log.bytes * CHECKPOINT_STEP;
  }

  /** Synchronous: what is sealed, committed and copied here is one state of the database; the next transaction is open afterwards. */
  #seal(): SealedCommit | null {
    const { scratch, buffers } = this.#parts;
    const sidecar = this.#participant.seal();
    const frames = scratch.commit();
    this.#freePagesCallsLeft = 0;
    let sidecarBytes = 0;
    for (const part of sidecar) sidecarBytes += part.length;
    if (frames.count === 0 && sidecarBytes === 0) {
      scratch.begin();
      return null;
    }
    const byteCount = recordBytesOf(frames.count, sidecarBytes);
    if (byteCount > this.recordBytesMax) {
      const detail = { byteCount, byteCountMax: this.recordBytesMax };
      throw new StorageError("EFBIG", "a commit is larger than the log can hold", detail);
    }
    const fits = byteCount <= buffers.record.length;
    const record = fits ? buffers.record.subarray(0, byteCount) : Buffer.allocUnsafeSlow(byteCount);
    this.#fillBody(record, frames, sidecar, sidecarBytes);
    scratch.begin();
    return { record, frames, sidecarBytes };
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
    await this.#waitForRoom(record.length);
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
    const checksum = sealRecord(record, this.#superblock.uuid, fields, this.#entries);
    await log.append(record);
    // From here on the record is durable.
    this.#noteImages(log.head + bodyStartOf(frames.count, sidecarBytes), frames.count);
    log.accept(record.length, checksum);
    this.#pageCount = pageCount;
    statistics.records++;
    statistics.pagesLogged += frames.count;
    statistics.sidecarBytes += sidecarBytes;
    statistics.bytesLogged += record.length;
  }

  #noteImages(position: number, count: number): void {
    const { pages, checksums } = this.#entries;
    for (let i = 0; i < count; i++) {
      noteImage(this.#images, pages[i] ?? 0, position + i * BLOCK_BYTES, checksums[i] ?? 0);
    }
  }

  #checkedEpoch(): number {
    const epoch = this.#parts.epoch();
    if (epoch < this.#epoch) throw new StorageError("ESTALE", "the epoch fell", { epoch, lastEpoch: this.#epoch });
    this.#epoch = epoch;
    return epoch;
  }

  /**
   * Until a record of this size may be appended. Most commits pass at once. The reserve is for what `releaseSidecars` commits; which
   * commits those are cannot be told, so while it runs all of them may go into the reserve, slowly.
   */
  async #waitForRoom(byteCount: number): Promise<void> {
    const { log } = this.#parts;
    let started = 0;
    while (log.freeBytes - byteCount < this.#reserveBytes) {
      if (this.#failure !== null) throw this.#refusal();
      if (this.#phase === "releasing") {
        if (await this.#mayUseReserve(byteCount)) return;
      } else if (this.#phase === "writing") {
        await this.#logChanged.wait();
      } else {
        // The first may have begun before the newest record; the second covers everything.
        if (started++ === 2) throw new StorageError("ENOSPC", "the log is full of sidecars that are still needed");
        this.#parts.statistics.logStalls++;
        void this.#startCheckpoint();
      }
    }
  }

  async #mayUseReserve(byteCount: number): Promise<boolean> {
    const { log, clock } = this.#parts;
    const left = log.freeBytes - byteCount;
    if (left < 0) throw new StorageError("ENOSPC", "the log is full and its sidecars cannot be released");
    const delayMs = Math.min(RESERVE_DELAY_MS * (this.#reserveBytes / (left + 1)), RESERVE_DELAY_MS_MAX);
    let waited = false;
    await new Promise<void>((resolve) => {
      const cancel = clock.after(delayMs, () => {
        waited = true;
        resolve();
      });
      void this.#logChanged.wait().then(() => {
        cancel();
        resolve();
      });
    });
    return waited && this.#phase === "releasing";
  }

  /** Never rejects: an error fails the store. A checkpoint that runs already is shared. */
  #startCheckpoint(): Promise<void> {
    if (this.#checkpointing === null && this.#failure === null) {
      this.#checkpointing = this.#runCheckpoint()
        .catch((error: unknown) => this.#fail(error))
        .finally(() => {
          this.#checkpointing = null;
          this.#enterPhase("idle");
        });
    }
    return this.#checkpointing ?? Promise.resolve();
  }

  async #runCheckpoint(): Promise<void> {
    const { clock, statistics } = this.#parts;
    const startedMs = clock.monotonicMs();
    if (this.#participant.oldestSidecar() <= this.durableSeq) {
      this.#enterPhase("releasing");
      await this.#participant.releaseSidecars(this.durableSeq);
    }
    if (this.#failure !== null) return;
    this.#enterPhase("writing");
    this.#checkpointedHead = this.#parts.log.head;
    const images = this.#images;
    const snapshot = { seq: this.durableSeq, pageCount: this.#pageCount, epoch: this.#checkedEpoch(), images };
    if (images.size === 0 && this.#superblock.tailSeq > snapshot.seq) return;
    this.#images = new Map();
    const parts = {
      ...this.#parts,
      buffer: this.#parts.buffers.checkpoint,
      superblockBuffer: this.#parts.buffers.superblock,
      counters: statistics,
    };
    this.#superblock = await runCheckpoint(parts, this.#superblock, snapshot, () => this.#participant.oldestSidecar());
    statistics.checkpoints++;
    statistics.checkpointPages += images.size;
    statistics.checkpointMs += clock.monotonicMs() - startedMs;
  }

  #enterPhase(phase: CheckpointPhase): void {
    this.#phase = phase;
    this.#logChanged.raise();
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
    this.#logChanged.raise();
  }

  #refusal(): StorageError {
    if (this.#failure === null) return new StorageError("EIO", "the page store is closed", { name: this.name });
    return new StorageError("EIO", "the page store has failed", { name: this.name }, this.#failure);
  }
}
