export interface LatencyRow {
  readonly kind: "NULL" | "GETATTR" | "READ" | "large READ" | "WRITE";
  readonly count: number;
  readonly p99Ms: number;
  readonly maxMs: number;
}

/** What the bystander has seen since it was asked last. */
export interface BystanderReport {
  readonly rows: readonly LatencyRow[];
  /** Answers that were wrong, or did not come. */
  readonly wrong: readonly string[];
  /** How late its own timers came at most: a busy machine. */
  readonly lateMsMax: number;
}
