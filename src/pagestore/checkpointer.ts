import type { Clock } from "../lib/clock.js";
import { StorageError } from "../lib/errors.js";
import { BLOCK_BYTES, MIB, roundDown } from "../lib/units.js";
import type { LogicalUnit } from "../lu/lu.js";
import type { StoreBuffers } from "./buffers.js";
import { runCheckpoint } from "./checkpoint.js";
import type { ChecksumTable } from "./checksum-table.js";
import type { CommitParticipant } from "./contract.js";
import { type ImageMap, noteImage } from "./images.js";
import type { LogArea } from "./log.js";
import type { RecordEntries } from "./record.js";
import type { PageStoreStatistics } from "./statistics.js";
import type { Superblock } from "./superblock.js";
import { Signal } from "./waiters.js";

/** A checkpoint starts when this part of the log is in use: early enough to end before the log is full. */
const CHECKPOINT_AT = 1 / 3;
/** And not before this part of the log was written since the last one began. */
const CHECKPOINT_STEP = 1 / 8;
/** This part of the log is kept for the commits that `releaseSidecars` needs when everything else has to wait. */
const RESERVED = 1 / 4;
/** A commit is hardly ever larger, however large the log is. One that is waits for the release, whose own commits the rest of the reserve holds. */
const NEXT_BYTES_MAX = 8 * MIB;
/** The commits of a release write some pages more than once. */
const RELEASE_FACTOR = 1.5;

export interface CheckpointerParts {
  readonly lu: LogicalUnit;
  readonly log: LogArea;
  readonly table: ChecksumTable;
  readonly buffers: StoreBuffers;
  readonly superblock: Superblock;
  /** What the page area does not hold yet. */
  readonly images: ImageMap;
  readonly clock: Clock;
  readonly statistics: PageStoreStatistics;
}

/** What the store tells of itself when a checkpoint asks. */
export interface CheckpointHost {
  participant(): CommitParticipant;
  /** Of the database after the last durable record. */
  pageCount(): number;
  /** @throws StorageError ESTALE when it fell */
  epoch(): number;
  /** Of the record that is sealed and does not stand in the log yet. */
  sealedBytes(): number;
  /** Ends the store. */
  fail(error: unknown): void;
  /** @throws StorageError EIO once the store has failed */
  refuseFailed(): void;
}

/**
 * idle: no checkpoint runs. releasing: the participant makes sidecars unnecessary, and needs commits for it.
 * writing: pages go home; commits that do not fit wait for the end.
 */
type Phase = "idle" | "releasing" | "writing";

/** When checkpoints run, and who waits for them. One runs at a time, beside the commits, on a snapshot of the images. */
export class Checkpointer {
  readonly #parts: CheckpointerParts;
  readonly #host: CheckpointHost;
  readonly #reserveBytes: number;
  readonly #logChanged = new Signal();
  #superblock: Superblock;
  #images: ImageMap;
  /** Those that are on their way home. */
  #goingHome: ImageMap | null = null;
  #phase: Phase = "idle";
  #running: Promise<void> | null = null;
  /** Commits that what is being released waits for. */
  #neededCount = 0;
  /** The log's head when the last one began. */
  #startedAtHead: number;

  constructor(parts: CheckpointerParts, host: CheckpointHost) {
    this.#parts = parts;
    this.#host = host;
    this.#superblock = parts.superblock;
    this.#images = parts.images;
    this.#startedAtHead = parts.log.head;
    this.#reserveBytes = roundDown(parts.log.bytes * RESERVED, BLOCK_BYTES);
  }

  /** What commits keep below, so that the reserve holds those that a release needs. */
  get recordBytesMax(): number {
    return this.#reserveBytes;
  }

  /**
   * What the open commit keeps below: up to twice as much, as long as the log holds it beside the record that is on its way and what a release would
   * need after both.
   */
  get commitBytesMax(): number {
    const room = this.#parts.log.freeBytes - this.#host.sealedBytes() - this.#keptBytes;
    return Math.min(Math.max(room, this.#reserveBytes), 2 * this.#reserveBytes);
  }

  /** The largest record that fits without the reserve. */
  get recordBytesLimit(): number {
    return this.#parts.log.bytes - this.#reserveBytes;
  }

  /** The one that counts. */
  get superblock(): Superblock {
    return this.#superblock;
  }

  /** Whether the newest durable content of a page stands in the log, and its home is old, or being written. */
  hasImage(page: number): boolean {
    return this.#images.has(page) || this.#goingHome?.has(page) === true;
  }

  /** @param position  of the first page of a record that is durable now */
  noteImages(position: number, entries: RecordEntries, count: number): void {
    for (let i = 0; i < count; i++) {
      noteImage(this.#images, entries.pages[i] ?? 0, position + i * BLOCK_BYTES, entries.checksums[i] ?? 0);
    }
  }

  get isDue(): boolean {
    const { log } = this.#parts;
    if (log.usedBytes <= log.bytes * CHECKPOINT_AT) return false;
    // A tail that sidecars hold back does not move with every checkpoint.
    return log.head - this.#startedAtHead > log.bytes * CHECKPOINT_STEP;
  }

  /** Whoever waits for room looks again: the store has failed. */
  wake(): void {
    this.#logChanged.raise();
  }

  /** The one that runs, if any, has ended. Never rejects. */
  settled(): Promise<void> {
    return this.#running ?? Promise.resolve();
  }

  /** Never rejects: an error fails the store. A checkpoint that runs already is shared. */
  start(): Promise<void> {
    this.#running ??= this.#runOnce(false);
    return this.#running;
  }

  /** Sidecars hold back the log's tail. */
  get hasSidecars(): boolean {
    return this.#host.participant().oldestSidecar() < this.#parts.log.nextSeq;
  }

  /** The last one, when all commits have ended: the superblock says that nothing comes after it. Never rejects, as `start`. */
  async close(): Promise<void> {
    while (this.#running !== null) await this.#running;
    this.#running = this.#runOnce(true);
    await this.#running;
  }

  #runOnce(closing: boolean): Promise<void> {
    return this.#run(closing)
      .catch((error: unknown) => this.#host.fail(error))
      .finally(() => {
        this.#running = null;
        this.#enter("idle");
      });
  }

  async #run(closing: boolean): Promise<void> {
    const { clock, statistics, log } = this.#parts;
    const startedMs = clock.monotonicMs();
    const participant = this.#host.participant();
    const releasable = log.nextSeq - 1;
    if (!closing && participant.oldestSidecar() <= releasable) {
      this.#enter("releasing");
      await participant.releaseSidecars(releasable);
    }
    this.#host.refuseFailed();
    this.#enter("writing");
    this.#startedAtHead = log.head;
    const images = this.#images;
    const seq = log.nextSeq - 1;
    if (images.size === 0 && this.#superblock.tailSeq > seq && this.#superblock.closed === closing) return;
    const pageCount = this.#host.pageCount();
    const snapshot = { seq, pageCount, epoch: this.#host.epoch(), images, closed: closing };
    this.#images = new Map();
    this.#goingHome = images;
    const { checkpoint: buffer, superblock: superblockBuffer } = this.#parts.buffers;
    const parts = { ...this.#parts, buffer, superblockBuffer, counters: statistics };
    this.#superblock = await runCheckpoint(parts, this.#superblock, snapshot, () => participant.oldestSidecar());
    this.#goingHome = null;
    statistics.checkpoints++;
    statistics.checkpointPages += images.size;
    statistics.checkpointMs += clock.monotonicMs() - startedMs;
  }

  /** Until this commit has ended, which what is being released waits for, it and those before it may use the reserve. */
  releaseNeeds(commit: Promise<void>): void {
    this.#neededCount++;
    const ended = () => {
      this.#neededCount--;
    };
    commit.then(ended, ended);
    this.#logChanged.raise();
  }

  /**
   * Before a commit is sealed while the log is tight: it is put off until what is being released needs one, so that there is one record for both, and the
   * reserve holds it. How large it will be is not known; it stays below a quarter of the log (CommitParticipant).
   */
  async roomToSeal(): Promise<void> {
    for (let started = 0; this.isTight; ) {
      if (this.#phase === "releasing" && this.#neededCount > 0) return;
      this.#host.refuseFailed();
      if (this.#phase === "releasing") await this.#logChanged.wait();
      else if (started++ === 2) return;
      else {
        this.#parts.statistics.logStalls++;
        void this.start();
      }
    }
  }

  /** The next commit might need the reserve; while pages go home it can wait for that instead. */
  get isTight(): boolean {
    return this.#phase !== "writing" && this.#parts.log.freeBytes < this.#keptBytes + this.#nextBytes;
  }

  /** Sidecars may be added while others are released: what all of them need is kept with room to spare. */
  get isRoomy(): boolean {
    return this.#parts.log.freeBytes >= this.#keptBytes + 2 * this.#nextBytes;
  }

  /** For releasing what there is. */
  get #keptBytes(): number {
    const pages = this.#host.participant().releasePages();
    return Math.max(this.#reserveBytes, RELEASE_FACTOR * pages * BLOCK_BYTES);
  }

  get #nextBytes(): number {
    return Math.min(this.#reserveBytes, NEXT_BYTES_MAX);
  }

  /**
   * Until a record of this size may be appended. Most commits pass at once. The reserve is for the commits that `releaseSidecars` waits for: it may
   * take as long as slow disks take, and what is committed meanwhile waits for its end.
   */
  async waitForRoom(byteCount: number): Promise<void> {
    const { log } = this.#parts;
    let started = 0;
    while (log.freeBytes - byteCount < this.#reserveBytes) {
      this.#host.refuseFailed();
      if (this.#phase === "releasing" && this.#neededCount > 0) {
        if (log.freeBytes >= byteCount) return;
        throw new StorageError("ENOSPC", "the log is full and its sidecars cannot be released");
      }
      if (this.#phase !== "idle") await this.#logChanged.wait();
      else {
        // The first may have begun before the newest record; the second covers everything.
        if (started++ === 2) throw new StorageError("ENOSPC", "the log is full of sidecars that are still needed");
        this.#parts.statistics.logStalls++;
        void this.start();
      }
    }
  }

  #enter(phase: Phase): void {
    this.#phase = phase;
    this.#logChanged.raise();
  }
}
