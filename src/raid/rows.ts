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

/**
 * `count` more rows behind the runs that an LU has: those that follow its last one first, so that its runs stay few.
 * @returns all its runs then, null when there are not enough
 */
export function appendRows(runs: readonly RowRun[], free: readonly RowRun[], count: number): RowRun[] | null {
  const last = runs[runs.length - 1]!;
  const end = last.first + last.count;
  const next = free.find((run) => run.first === end);
  const joined = Math.min(next?.count ?? 0, count);
  const left = free.filter((run) => run !== next);
  if (next !== undefined) left.push({ first: end + joined, count: next.count - joined });
  const rest = joined === count ? [] : takeRows(left, count - joined);
  if (rest === null) return null;
  return [...runs.slice(0, -1), { first: last.first, count: last.count + joined }, ...rest];
}

/** The first `count` rows of an LU. */
export function firstRows(runs: readonly RowRun[], count: number): RowRun[] {
  const kept: RowRun[] = [];
  let left = count;
  for (const run of runs) {
    if (left > 0) kept.push({ first: run.first, count: Math.min(run.count, left) });
    left -= run.count;
  }
  return kept;
}
