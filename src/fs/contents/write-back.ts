import type { CancelTimer, Clock } from "../../lib/clock.js";
import { StorageError } from "../../lib/errors.js";
import type { Logger } from "../../lib/log.js";
import type { PageStore } from "../../pagestore/contract.js";
import type { InodeMarks } from "../inode.js";
import type { DataWriter } from "./data-writer.js";
import type { ContentsEvent } from "./events.js";
import type { FileState } from "./file-state.js";
import type { FrameCache } from "./frame-cache.js";
import type { GroupTable } from "./group-table.js";
import {
  BATCH_BLOCKS,
  COMMIT_ASKED_AT,
  PUBLISHED_BLOCKS_PER_COMMIT,
  RETRY_MS,
  WATERMARK_BLOCKS,
  WRITE_BACK_AGE_MS,
} from "./limits.js";
import type { SpaceMap } from "./space-map.js";
import { type JobPart, WriteBackJob } from "./write-back-job.js";

/** Batches that background write-back keeps in flight: one is prepared while the other waits for its last chunks. */
const BATCHES_IN_FLIGHT = 2;

export interface WriteBackParts {
  readonly table: GroupTable;
  readonly frames: FrameCache;
  readonly space: SpaceMap;
  readonly writer: DataWriter;
  readonly inodes: InodeMarks;
  readonly store: PageStore;
  readonly clock: Clock;
  readonly log: Logger;
  readonly onEvent: (event: ContentsEvent) => void;
}

/**
 * Brings dirty data home. Each job takes all dirty blocks of its inodes and publishes each inode's in one piece (I-4). It runs when somebody asks
 * (`writeBack`), when much is dirty (`kick`), and when something has been dirty for long (a timer).
 */
export class WriteBack {
  readonly #parts: WriteBackParts;
  readonly #watermark: number;
  #batches = 0;
  #ageTimer: CancelTimer | null = null;
  #retryTimer: CancelTimer | null = null;
  #publishedSinceCommit = 0;
  #closed = false;
  readonly #jobsInFlight = new Set<Promise<void>>();
  failureCount = 0;

  constructor(parts: WriteBackParts) {
    this.#parts = parts;
    this.#watermark = Math.min(Math.floor(parts.frames.pinnedMax / 4), WATERMARK_BLOCKS);
  }

  /** Something became dirty: see whether it is time. Cheap when it is not. */
  kick(): void {
    if (this.#closed) return;
    if (this.#ageTimer === null) this.#armAgeTimer();
    if (this.#batches >= BATCHES_IN_FLIGHT || this.#retryTimer !== null || !this.#urgent()) return;
    this.#startBatches();
  }

  /**
   * Write back what is dirty of one inode now and publish it. Nothing to do is fine.
   * @throws StorageError EIO, ENOSPC from the data LU; the data stays dirty
   */
  async writeBack(state: FileState): Promise<void> {
    if (state.job !== null) return state.job.done;
    if (state.dirtyCount > 0) await this.#start([state]);
  }

  /** Write back everything that is dirty now, in batches. */
  async writeBackAll(): Promise<void> {
    await this.writeBackStates([...this.#parts.table.dirtyStates]);
    await Promise.all(this.#jobsInFlight);
  }

  /** As `writeBack`, for many inodes: small files share stripes. */
  async writeBackStates(states: readonly FileState[]): Promise<void> {
    let batch: FileState[] = [];
    let total = 0;
    for (const state of states) {
      if (state.job !== null) await state.job.done;
      if (state.job !== null || state.dirtyCount === 0 || state.dead) continue;
      batch.push(state);
      total += state.dirtyCount;
      if (total < BATCH_BLOCKS) continue;
      await this.#startAll(batch);
      batch = [];
      total = 0;
    }
    await this.#startAll(batch);
  }

  /** Stop the timers; jobs in flight end. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#ageTimer?.();
    this.#retryTimer?.();
    await Promise.allSettled([...this.#jobsInFlight]);
  }

  #urgent(): boolean {
    const { frames, table } = this.#parts;
    if (table.dirtyStates.size === 0) return false;
    if (table.dirtyGroupCount >= table.rowsMax / 2) return true;
    return frames.someoneWaits || frames.pinnedCount >= this.#watermark;
  }

  #startBatches(): void {
    while (this.#batches < BATCHES_IN_FLIGHT && this.#urgent()) {
      const states = this.#pick(BATCH_BLOCKS);
      if (states.length === 0) return;
      this.#batches++;
      this.#start(states).then(
        () => this.#batchEnded(true),
        () => this.#batchEnded(false),
      );
    }
  }

  #batchEnded(ok: boolean): void {
    this.#batches--;
    if (ok) this.kick();
  }

  /** Inodes that were dirty first, until they make a batch. */
  #pick(blockCount: number, dirtyBeforeMs = Number.POSITIVE_INFINITY): FileState[] {
    const states: FileState[] = [];
    let total = 0;
    for (const state of this.#parts.table.dirtyStates) {
      if (state.dirtySinceMs > dirtyBeforeMs || total >= blockCount) break;
      if (state.job !== null) continue;
      states.push(state);
      total += state.dirtyCount;
    }
    return states;
  }

  /** Some may have been taken into another job while this batch was put together. */
  async #startAll(batch: readonly FileState[]): Promise<void> {
    const ready = batch.filter((state) => state.job === null && state.dirtyCount > 0);
    const taken = batch.filter((state) => state.job !== null).map((state) => state.job!.done);
    if (ready.length > 0) await this.#start(ready);
    await Promise.all(taken);
  }

  #start(states: readonly FileState[]): Promise<void> {
    const job = new WriteBackJob(states);
    for (const state of states) job.capture(this.#parts.table, state);
    this.#parts.space.unpromise(job.blockCount);
    const done = this.#run(job);
    for (const part of job.parts) part.done = done;
    this.#jobsInFlight.add(done);
    const ended = () => this.#jobsInFlight.delete(done);
    done.then(ended, ended);
    return done;
  }

  async #run(job: WriteBackJob): Promise<void> {
    const { space, writer } = this.#parts;
    let allocated = false;
    let publishedCount = 0;
    try {
      space.allocate(job.addresses);
      allocated = true;
      await writer.write(job);
      for (const part of job.parts) {
        for (let room = this.#roomInCommit(part); room !== null; room = this.#roomInCommit(part)) await room;
        this.#publish(job, part);
        publishedCount++;
      }
    } catch (error) {
      this.#abandon(job, publishedCount, allocated);
      throw this.#failed(error, job);
    }
    this.#published(job);
  }

  /** A commit holds so much. Null at once when the open one can take this inode's rows, which is nearly always. */
  #roomInCommit(part: JobPart): Promise<void> | null {
    const { table, store } = this.#parts;
    const wanted = table.publicationPages(part.groupCount, part.end - part.first);
    if (table.commitPages === 0 || table.commitPages + wanted <= this.#commitPagesMax) return null;
    return store.durable(true);
  }

  /** Of this layer, in the open commit. */
  get #commitPagesMax(): number {
    const { table, store } = this.#parts;
    const { recordBytesMax = 1, commitBytesMax = recordBytesMax } = store;
    return Math.floor(table.pagesMax * (commitBytesMax / recordBytesMax));
  }

  #publish(job: WriteBackJob, part: JobPart): void {
    const { table, inodes, space, writer } = this.#parts;
    const { state } = part;
    job.publish(table, part, (address) => space.release(address));
    table.work.dataMark = writer.writtenBytes;
    if (state.dead) return;
    table.work.changed.add(state);
    // Only truncate lowers it; what it says runs with the blocks that this same commit maps.
    if (part.sizeBytes > state.inode.durableSizeBytes) state.inode.durableSizeBytes = part.sizeBytes;
    inodes.markDirty(state.inode);
  }

  /** Everything behind the parts that were published is dirty again. */
  #abandon(job: WriteBackJob, publishedCount: number, allocated: boolean): void {
    const { space, table, clock } = this.#parts;
    const parts = job.parts.slice(publishedCount);
    const first = parts[0]?.first ?? job.blockCount;
    if (allocated) for (const address of job.addresses.subarray(first)) space.release(address);
    job.abandon(table, parts, clock.monotonicMs());
    this.#forget(job);
  }

  #published(job: WriteBackJob): void {
    const { table } = this.#parts;
    this.#forget(job);
    this.#publishedSinceCommit += job.blockCount;
    const pagesMax = this.#commitPagesMax * COMMIT_ASKED_AT;
    if (table.commitPages >= pagesMax || this.#publishedSinceCommit >= PUBLISHED_BLOCKS_PER_COMMIT)
      this.#askForCommit();
    this.kick();
  }

  #forget(job: WriteBackJob): void {
    for (const part of job.parts) this.#parts.table.forgetIdle(part.state);
  }

  /** Somebody will see its failure: everything that needs durability awaits the same store. */
  #askForCommit(): void {
    this.#publishedSinceCommit = 0;
    this.#parts.store.durable().catch(() => {});
  }

  /** @returns the error for whoever waits */
  #failed(error: unknown, job: WriteBackJob): StorageError {
    this.failureCount++;
    const inodes = job.parts.map((part) => part.state.inode.ino);
    this.#parts.log.error({ err: error, blockCount: job.blockCount, ino: inodes[0] }, "file data could not be written");
    this.#parts.onEvent({ kind: "write-failed", ino: inodes[0] ?? 0, blockCount: job.blockCount, error });
    const failure = new StorageError("EIO", "file data could not be written", { blockCount: job.blockCount }, error);
    this.#parts.frames.failWaiters(failure);
    this.#armRetryTimer();
    return failure;
  }

  #armRetryTimer(): void {
    if (this.#closed || this.#retryTimer !== null) return;
    this.#retryTimer = this.#parts.clock.after(RETRY_MS, () => {
      this.#retryTimer = null;
      this.#writeBackOld(Number.POSITIVE_INFINITY);
      this.kick();
    });
  }

  #armAgeTimer(): void {
    const { clock } = this.#parts;
    this.#ageTimer = clock.after(WRITE_BACK_AGE_MS / 2, () => {
      this.#ageTimer = null;
      this.#writeBackOld(clock.monotonicMs() - WRITE_BACK_AGE_MS);
      if (this.#publishedSinceCommit > 0) this.#askForCommit();
      if (this.#parts.table.dirtyStates.size > 0 && !this.#closed) this.#armAgeTimer();
    });
  }

  /** One batch; the next timer takes the next. */
  #writeBackOld(dirtyBeforeMs: number): void {
    if (this.#closed || this.#retryTimer !== null) return;
    const states = this.#pick(BATCH_BLOCKS * 4, dirtyBeforeMs);
    if (states.length === 0) return;
    this.#start(states).then(
      () => this.#askForCommit(),
      () => {},
    );
  }
}
