import type Database from "better-sqlite3";

/**
 * What keeps its data beside the database (the file system) and takes part in every group commit. A commit runs:
 *
 *   1. `await prepare()`   of what there is much of, as much as can be done in portions: rows, and bulk data (data LU)
 *   2. `seal()`            synchronous: write every dirty row into the open transaction; then SQLite COMMIT, and the next
 *                          transaction is open at once; the returned buffers become the record's sidecar
 *   3. `await settle()`    data that rows of this commit point at is flushed (data LU)
 *   4. the log record is appended and flushed (metadata LU)
 *   5. `durable(seq)`      then every waiter is answered
 *
 * Only one commit is between 1 and 5 at a time; changes meanwhile go into the next.
 *
 * The sidecar's buffers are copied before `seal`'s caller gives way to anything else: views of memory that changes later are fine.
 * 3 and 5 also run when the commit changed nothing and wrote no record; `durable` then names the last record there is.
 * An error thrown by any of them fails the store. No statement may be iterating while a commit may run (that is: across an `await`).
 * A commit stays well below a quarter of the log (16 MiB by default), pages and sidecar together.
 */
export interface CommitParticipant {
  prepare(): Promise<void>;
  seal(): readonly Buffer[];
  settle(): Promise<void>;
  durable(seq: number): void;
  /**
   * Called before a checkpoint would drop log records up to and including `seq`: the sidecars that are still needed must be
   * made unnecessary (their data written home, in commits that are waited for with `durable(true)`). May do nothing when there are none.
   */
  releaseSidecars(seq: number): Promise<void>;
  /** The oldest record whose sidecar is still needed at recovery; Infinity when there is none. */
  oldestSidecar(): number;
  /** Pages that `releaseSidecars` of everything would change now, at most. Asked before each commit. */
  releasePages(): number;
}

/** For a page store without data beside it. */
export const NO_PARTICIPANT: CommitParticipant = {
  prepare: async () => {},
  seal: () => [],
  settle: async () => {},
  durable: () => {},
  releaseSidecars: async () => {},
  oldestSidecar: () => Number.POSITIVE_INFINITY,
  releasePages: () => 0,
};

/** A SQLite database whose pages and log live on an LU. SQLite itself works on a scratch copy that can be thrown away at any time. */
export interface PageStore {
  /** A transaction is always open. Change rows synchronously, then `await durable()`. Never BEGIN or COMMIT by hand. */
  readonly db: Database.Database;
  /** The last record that is durable. */
  readonly durableSeq: number;
  /** Rises when the open transaction becomes a commit: changes from then on belong to the next one. */
  readonly sealCount: number;
  /** Commits keep below so many bytes, a quarter of the log; one that needs three times as much fails the store. Absent: any size will do. */
  readonly recordBytesMax?: number;
  /** ... and the one that is open now below so many: up to twice as much while the log is roomy. Absent: as `recordBytesMax`. */
  readonly commitBytesMax?: number;
  /** There is room in the log for more that will have to be released, while something is. Absent: always. */
  readonly logIsRoomy?: boolean;
  /** Set once, before the first change. */
  join(participant: CommitParticipant): void;
  /**
   * Resolves when everything that was applied to `db` before this call is on the LU. Calls share commits.
   * After a failed commit every call rejects (EIO) and nothing more is written: the owner must stop the service.
   * @param releasing  what `releaseSidecars` does waits for it, so that commits may use the part of the log that is kept for this. Default: false.
   */
  durable(releasing?: boolean): Promise<void>;
  /**
   * For `prepare` of a commit that changes thousands of pages: SQLite writes what is changed so far, so that the commit has less to do in one piece. Nothing
   * of it is durable before the rest is. Pages that change again afterwards are in the record twice.
   */
  portion(): void;
  /**
   * Pages that may still be added before SQLite would say SQLITE_FULL, with a reserve held back. A caller refuses (ENOSPC) before it
   * begins an operation that grows the database; after SQLITE_FULL the open transaction could not be trusted.
   */
  freePages(): number;
  /**
   * As `freePages`, with a part of the reserve: for what adds next to nothing, or frees something in the end. The rest is for what a commit itself
   * adds. Counted anew each time; ask only when `freePages` says too little.
   */
  emergencyPages(share: number): number;
  /** Pages that accepted changes will still take, as `source` says then: neither of the two gives them away. */
  promise(source: () => number): void;
  /**
   * Whether there is room in the scratch folder for a copy that grows. While there is not, a caller refuses (EBUSY) what makes it grow; everything else
   * goes on, with room that is held for it. It comes back by itself.
   */
  hasScratchRoom(): boolean;
  /** Bring the page area up to date and drop the log before it. Runs by itself when the log fills; here for tests and for close. */
  checkpoint(): Promise<void>;
  /** What is open in the transaction is not to be believed: nothing more is written, as after a failed commit. */
  giveUp?(error: Error): void;
  /** Commit, checkpoint, release, remove the scratch copy. */
  close(): Promise<void>;
}
