import type { RowRun } from "./geometry.js";

/** The runs of rows that no LU has, in order. */
export function freeRuns(taken: readonly RowRun[], rowCount: number): RowRun[] {
  const free: RowRun[] = [];
  let next = 0;
  for (const run of [...taken].sort((a, b) => a.first - b.first)) {
    if (run.first > next) free.push({ first: next, count: run.first - next });
    next = run.first + run.count;
  }
  if (next < rowCount) free.push({ first: next, count: rowCount - next });
  return free;
}

export function countRows(runs: readonly RowRun[]): number {
  return runs.reduce((count, run) => count + run.count, 0);
}

/**
 * Choose `count` rows: the smallest free run that holds them all, else from the largest down, so that an LU has few runs.
 * @returns null when there are not enough
 */
export function takeRows(free: readonly RowRun[], count: number): RowRun[] | null {
  const bySize = [...free].sort((a, b) => a.count - b.count);
  const whole = bySize.find((run) => run.count >= count);
  if (whole !== undefined) return [{ first: whole.first, count }];
  const chosen: RowRun[] = [];
  let left = count;
  for (const run of bySize.reverse()) {
    const part = Math.min(run.count, left);
    if (part > 0) chosen.push({ first: run.first, count: part });
    left -= part;
  }
  return left > 0 ? null : chosen.sort((a, b) => a.first - b.first);
}
