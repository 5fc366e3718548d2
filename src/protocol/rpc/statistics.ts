/** Latency of one bucket: up to 2^index microseconds. The last bucket holds everything slower (about 2 seconds). */
export const LATENCY_BUCKETS = 22;

/** What is counted of one procedure: three stores per request. */
export class ProcedureCounter {
  calls = 0;
  /** Replies with a status other than success. */
  errors = 0;
  readonly latency = new Uint32Array(LATENCY_BUCKETS);

  record(latencyMs: number): void {
    this.calls++;
    const microseconds = (latencyMs * 1000) | 0;
    const bucket = Math.min(32 - Math.clz32(microseconds), LATENCY_BUCKETS - 1);
    this.latency[bucket] = (this.latency[bucket] ?? 0) + 1;
  }
}

export interface ProcedureStatistics {
  readonly program: string;
  readonly procedure: string;
  readonly calls: number;
  readonly errors: number;
  /** Calls answered within 2^index microseconds (and not within 2^(index-1)). */
  readonly latencyBuckets: readonly number[];
}

/** The latency that `share` (0 to 1) of the calls did not exceed, as the upper edge of its bucket, in microseconds. */
export function latencyQuantileUs(buckets: readonly number[], share: number): number {
  let left = buckets.reduce((sum, n) => sum + n, 0) * share;
  for (let i = 0; i < buckets.length; i++) {
    left -= buckets[i] ?? 0;
    if (left <= 0) return 2 ** i;
  }
  return 2 ** (buckets.length - 1);
}
