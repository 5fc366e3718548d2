/** Sets of the blocks of a band, as bit masks (at most 30 blocks, limits.ts). */

/** Blocks from `first` to `end` - 1. */
export function maskOf(first: number, end: number): number {
  return (1 << end) - (1 << first);
}

/** Every run of adjacent blocks of the mask, in order. */
export function forEachRun(mask: number, visit: (first: number, end: number) => void): void {
  let left = mask;
  while (left !== 0) {
    const first = lowestOf(left);
    const end = first + lowestOf(~(left >>> first));
    visit(first, end);
    left &= ~maskOf(first, end);
  }
}

export function runsOf(mask: number): Array<readonly [first: number, end: number]> {
  const runs: Array<readonly [number, number]> = [];
  forEachRun(mask, (first, end) => runs.push([first, end]));
  return runs;
}

/** Every block of the mask, in order. */
export function forEachBlock(mask: number, visit: (block: number) => void): void {
  for (let left = mask; left !== 0; left &= left - 1) visit(lowestOf(left));
}

export function countBlocks(mask: number): number {
  let count = 0;
  for (let left = mask; left !== 0; left &= left - 1) count++;
  return count;
}

export function countRuns(mask: number): number {
  return countBlocks(mask & ~(mask << 1));
}

/** The first block of a mask that is not empty. */
export function lowestOf(mask: number): number {
  return 31 - Math.clz32(mask & -mask);
}

/** The last block of a mask that is not empty. */
export function highestOf(mask: number): number {
  return 31 - Math.clz32(mask);
}
