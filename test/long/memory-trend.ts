/** What the daemon holds at one moment. */
export interface MemorySample {
  readonly hours: number;
  readonly residentMib: number;
  readonly heapMib: number;
  readonly externalMib: number;
}

/** The part of a run in which caches fill and the heap finds its size, and of which no trend is told. */
const WARM_SHARE = 1 / 3;

export function afterWarmUp(samples: readonly MemorySample[]): readonly MemorySample[] {
  return samples.slice(Math.ceil(samples.length * WARM_SHARE));
}

/** Least squares. @returns MiB per hour */
export function slopeOf(samples: readonly MemorySample[], of: (sample: MemorySample) => number): number {
  const count = samples.length;
  const meanX = samples.reduce((sum, { hours }) => sum + hours, 0) / count;
  const meanY = samples.reduce((sum, sample) => sum + of(sample), 0) / count;
  let [above, below] = [0, 0];
  for (const sample of samples) {
    above += (sample.hours - meanX) * (of(sample) - meanY);
    below += (sample.hours - meanX) ** 2;
  }
  return below === 0 ? 0 : above / below;
}
