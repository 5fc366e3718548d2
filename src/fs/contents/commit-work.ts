import type { FileState } from "./file-state.js";
import { RunList } from "./run-list.js";

/** A log record with intents. `seq` is known once it is durable. */
export class LogRecord {
  seq: number | null = null;
  /** Blocks whose newest logged version it holds. */
  liveCount = 0;
}

/** "Earlier intents of these blocks are not wanted any more"; or, with validBytes, "only their first bytes are". */
export interface Touch {
  readonly ino: number;
  readonly firstBlock: number;
  /** Infinity: to the end of the file. */
  readonly blockCount: number;
  /** -1: forget the intents. 0..4095: zero the block's intent from this byte on (a truncate inside the block; blockCount is 1). */
  readonly validBytes: number;
}

/** Everything that happens at, or only after, one commit. One collects while the transaction is open, one is between seal and durable. */
export class CommitWork {
  readonly record = new LogRecord();
  readonly touches: Touch[] = [];
  /** One entry per block whose intent in that record is obsolete once this commit is durable. */
  readonly releases: LogRecord[] = [];
  /** Blocks of the data LU that this commit unmaps. */
  readonly freed = new RunList();
  /** Extent rows that were written into the open transaction or deleted from it, before the seal writes the rest. */
  rowCount = 0;
  /** Of DataWriter.writtenBytes: everything that rows of this commit point at had been written by then. */
  dataMark = 0;
  /** Inodes whose saved state changed: at the seal their serials are taken. */
  readonly changed = new Set<FileState>();
  readonly sealed: Array<{ readonly state: FileState; readonly serial: number }> = [];
}
