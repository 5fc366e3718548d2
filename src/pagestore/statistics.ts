/** Counted since the store was opened. */
export interface PageStoreStatistics {
  /** Group commits, with and without a record. */
  commits: number;
  /** Calls of `durable()` that those commits answered. */
  waiters: number;
  records: number;
  pagesLogged: number;
  sidecarBytes: number;
  /** Records with their heads. */
  bytesLogged: number;
  checkpoints: number;
  checkpointMs: number;
  checkpointPages: number;
  /** Commits that had to wait for room in the log. */
  logStalls: number;
  /** Blocks that did not match their checksum and were mended from another copy. */
  healedBlocks: number;
}

export function newStatistics(): PageStoreStatistics {
  return {
    commits: 0,
    waiters: 0,
    records: 0,
    pagesLogged: 0,
    sidecarBytes: 0,
    bytesLogged: 0,
    checkpoints: 0,
    checkpointMs: 0,
    checkpointPages: 0,
    logStalls: 0,
    healedBlocks: 0,
  };
}
