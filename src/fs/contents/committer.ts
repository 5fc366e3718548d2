import type Database from "better-sqlite3";
import { assert } from "../../lib/assert.js";
import { nextTurn } from "../../lib/next-turn.js";
import { BLOCK_BYTES } from "../../lib/units.js";
import type { PageStore } from "../../pagestore/contract.js";
import type { InodeMarks } from "../inode.js";
import type { KeptReply } from "../vfs.js";
import { type CommitWork, LogRecord } from "./commit-work.js";
import type { DataWriter } from "./data-writer.js";
import { BlockFlag, type FileGroup, type FileState } from "./file-state.js";
import type { FrameCache } from "./frame-cache.js";
import type { GroupTable } from "./group-table.js";
import {
  GROUP_BLOCKS,
  INTENT_BLOCKS_PER_INODE,
  INTENT_BLOCKS_PER_WAITER,
  intentBlocksOf,
  RECORD_BYTES_DEFAULT,
} from "./limits.js";
import type { ReadEpochs } from "./read-epochs.js";
import { encodeIntent, encodeTouches, INTENT_BYTES_MAX } from "./sidecar.js";
import type { WriteBack } from "./write-back.js";

export interface CommitterParts {
  readonly db: Database.Database;
  readonly table: GroupTable;
  readonly frames: FrameCache;
  readonly epochs: ReadEpochs;
  readonly writer: DataWriter;
  readonly writeBack: WriteBack;
  readonly inodes: InodeMarks;
  readonly store: PageStore;
  /** The write that it answers is in the commit that is being sealed. */
  readonly onReplySaved: (kept: KeptReply) => void;
}

/**
 * The contents layer's part in a group commit (pagestore/contract.ts has the steps), and who waits for it.
 *
 * A file is stable up to a serial when everything up to it is published or in a record, and that commit is durable. Small dirty sets
 * go into the record itself; a large one is written back first, by its own caller and not in `prepare`, so that the other
 * files' commits do not wait for it.
 */
export class Committer {
  readonly #parts: CommitterParts;
  readonly #wanted = new Set<FileState>();
  readonly #records: LogRecord[] = [];
  #sealed: CommitWork | null = null;
  /** Reused: one commit at a time is between seal and durable. */
  readonly #intentBytes: Buffer;
  readonly #intentBlocksMax: number;
  readonly #putUnsettled: Database.Statement<[number, number]>;
  readonly #deleteUnsettled: Database.Statement<[number]>;
  intentCount = 0;
  commitCount = 0;
  /** Nothing goes into records as long as somebody wants all data on the data LU. */
  #intentHolders = 0;
  #releasing = false;

  constructor(parts: CommitterParts) {
    this.#parts = parts;
    this.#intentBlocksMax = intentBlocksOf(parts.store.recordBytesMax ?? RECORD_BYTES_DEFAULT);
    this.#intentBytes = Buffer.alloc(this.#intentBlocksMax * INTENT_BYTES_MAX);
    this.#putUnsettled = parts.db.prepare(
      "INSERT INTO unsettled VALUES (?, ?) ON CONFLICT DO UPDATE SET blocks = excluded.blocks",
    );
    this.#deleteUnsettled = parts.db.prepare("DELETE FROM unsettled WHERE ino = ?");
  }

  /** Until `resumeIntents` small stable writes go to the data LU, too, before they are answered. */
  holdIntents(): void {
    this.#intentHolders++;
  }

  resumeIntents(): void {
    this.#intentHolders--;
    assert(this.#intentHolders >= 0, "intents are resumed by who held them");
  }

  /** Whether the extents alone say what every durable byte is: no record is needed for one. */
  get allStored(): boolean {
    return this.#parts.table.loggedStates.size === 0;
  }

  /** @throws StorageError EIO when the data LU or the store failed; the data stays dirty */
  async stabilize(state: FileState): Promise<void> {
    const target = state.serial;
    state.waiterCount++;
    try {
      do {
        if (state.publishedSerial < target && state.unsavedCount > this.#intentLimit(state)) {
          await this.#parts.writeBack.writeBack(state);
        }
        if (state.unsavedCount > 0) this.#wanted.add(state);
        await this.#parts.store.durable();
      } while (state.durableSerial < target && !state.dead);
    } finally {
      state.waiterCount--;
      this.#parts.table.forgetIdle(state);
    }
  }

  /**
   * Thousands of changed rows go into the database by portions. (Bulk data is no part of it: whoever waits for a large file writes it back before it asks for
   * a commit, so that others do not wait for it.)
   */
  async prepare(): Promise<void> {
    const { table, store } = this.#parts;
    for (const _ of table.portionsOfRows()) {
      store.portion();
      await nextTurn();
    }
  }

  /** Synchronous: every changed row, and the record's sidecar. */
  seal(): readonly Buffer[] {
    assert(this.#sealed === null, "one commit is sealed at a time");
    const { table } = this.#parts;
    const { work } = table;
    const intents = this.#sealIntents(work.record);
    for (const state of work.changed) this.#sealState(work, state);
    table.writeRows();
    this.#sealed = table.takeWork();
    if (work.record.liveCount > 0) this.#records.push(work.record);
    this.commitCount++;
    if (work.touches.length === 0 && intents.count === 0) return [];
    const head = encodeTouches(work.touches, intents.count);
    return intents.count === 0 ? [head] : [head, this.#intentBytes.subarray(0, intents.byteCount)];
  }

  /** What the sealed commit's rows point at is durable when it resolves; what others have written since is not waited for. */
  settle(): Promise<void> {
    assert(this.#sealed !== null, "a commit was sealed");
    return this.#parts.writer.settle(this.#sealed.dataMark);
  }

  durable(seq: number): void {
    const work = this.#sealed;
    assert(work !== null, "a durable commit was sealed");
    this.#sealed = null;
    work.record.seq = seq;
    for (const record of work.releases) record.liveCount--;
    for (const { state, serial } of work.sealed) state.durableSerial = Math.max(state.durableSerial, serial);
    this.#parts.epochs.retire(work.freed);
    this.#trimRecords();
  }

  /** Everything in records up to `seq` is written home, in a commit. @throws StorageError EIO */
  async releaseSidecars(seq: number): Promise<void> {
    this.#releasing = true;
    try {
      while (this.oldestSidecar() <= seq) {
        await this.#parts.writeBack.writeBackStates(this.#statesLoggedUpTo(seq));
        await this.#parts.store.durable(true);
      }
    } finally {
      this.#releasing = false;
    }
  }

  oldestSidecar(): number {
    const oldest = this.#records[0];
    if (oldest === undefined) return Number.POSITIVE_INFINITY;
    return oldest.seq ?? this.#parts.store.durableSeq + 1;
  }

  /** A record that recovery found, in rising order of `seq`. */
  adoptRecord(seq: number): LogRecord {
    const known = this.#records.find((record) => record.seq === seq);
    if (known !== undefined) return known;
    const record = new LogRecord();
    record.seq = seq;
    this.#records.push(record);
    this.#records.sort((a, b) => (a.seq ?? 0) - (b.seq ?? 0));
    return record;
  }

  /** Blocks that the commits in progress will free. */
  get freeingBlocks(): number {
    return this.#parts.table.work.freed.blockCount + (this.#sealed?.freed.blockCount ?? 0);
  }

  #sealIntents(record: LogRecord): { count: number; byteCount: number } {
    let count = 0;
    let byteCount = 0;
    for (const state of this.#wanted) {
      if (count + state.unsavedCount > this.#intentBlocksMax) continue;
      this.#wanted.delete(state);
      if (state.dead || state.unsavedCount === 0 || state.unsavedCount > this.#intentLimit(state)) continue;
      count += state.unsavedCount;
      for (const group of state.unsavedGroups) byteCount = this.#sealGroup(group, record, byteCount);
      assert(state.unsavedCount === 0, "an inode goes into the record whole");
      this.#parts.table.work.changed.add(state);
    }
    this.intentCount += count;
    return { count, byteCount };
  }

  #sealGroup(group: FileGroup, record: LogRecord, start: number): number {
    const { table, frames } = this.#parts;
    const { inode } = group.state;
    let at = start;
    for (let slot = 0; slot < GROUP_BLOCKS; slot++) {
      if ((group.flags[slot]! & BlockFlag.unsaved) === 0) continue;
      const block = group.index * GROUP_BLOCKS + slot;
      const byteCount = Math.min(BLOCK_BYTES, inode.sizeBytes - block * BLOCK_BYTES);
      const frame = frames.view(group.frames[slot]!);
      at = encodeIntent(this.#intentBytes, at, inode.ino, block, frame.subarray(0, byteCount));
      table.saveInRecord(group, slot, record);
    }
    return at;
  }

  #sealState(work: CommitWork, state: FileState): void {
    const { inode } = state;
    if (!state.dead && state.unsavedCount === 0 && inode.durableSizeBytes !== inode.sizeBytes) {
      inode.durableSizeBytes = inode.sizeBytes;
      this.#parts.inodes.markDirty(inode);
    }
    const serial = state.unsavedCount === 0 ? state.serial : state.publishedSerial;
    work.sealed.push({ state, serial });
    for (const kept of state.takeReplies(state.dead ? Number.POSITIVE_INFINITY : serial))
      this.#parts.onReplySaved(kept);
    if (state.unsettledCount === state.unsettledInRow) return;
    state.unsettledInRow = state.unsettledCount;
    if (state.unsettledCount === 0) this.#deleteUnsettled.run(inode.ino);
    else this.#putUnsettled.run(inode.ino, state.unsettledCount);
  }

  #trimRecords(): void {
    while (this.#records.length > 0 && this.#records[0]!.liveCount === 0 && this.#records[0]!.seq !== null) {
      this.#records.shift();
    }
  }

  /** Blocks of one inode that go into a record rather than to the data LU. */
  #intentLimit(state: FileState): number {
    if (this.#intentHolders > 0) return 0;
    // When it is tight the records that a release needs have rows, and no data that would have to be released again.
    if (this.#releasing && this.#parts.store.logIsRoomy === false) return 0;
    const shared = state.waiterCount * INTENT_BLOCKS_PER_WAITER;
    return Math.min(this.#intentBlocksMax, Math.max(INTENT_BLOCKS_PER_INODE, shared));
  }

  #statesLoggedUpTo(seq: number): FileState[] {
    return [...this.#parts.table.loggedStates].filter((state) => {
      for (const group of state.groups.values()) {
        for (const record of group.logged)
          if (record !== null && (record.seq ?? Number.POSITIVE_INFINITY) <= seq) return true;
      }
      return false;
    });
  }
}
