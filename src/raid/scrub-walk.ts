import type { RowMap } from "./geometry.js";
import type { LabelLu } from "./label.js";
import type { GroupShape } from "./layout.js";
import { countRows } from "./rows.js";

/** Rows of one LU that lie in one piece on the members. */
export interface WalkPart {
  readonly lu: LabelLu;
  /** Byte of the row space where it begins. */
  readonly at: number;
  /** Of the LU's member space. */
  readonly from: number;
  readonly to: number;
}

/** The rows that LUs use, in their order on the disks. Asked anew at every step, because LUs come and go. */
export interface RowTable {
  readonly shape: GroupShape;
  readonly rowsStart: number;
  readonly lus: { readonly lus: readonly LabelLu[] };
  rowMap(lu: number): RowMap;
}

/** The first part at or behind byte `at` of the row space; null: there is none. */
export function nextPart(table: RowTable, at: number): WalkPart | null {
  const { rowBytes, rowCount } = table.shape;
  const start = table.rowsStart;
  let first: WalkPart | null = null;
  for (const lu of table.lus.lus) {
    const map = table.rowMap(lu.number);
    for (const { from, to } of map.overlaps(start + at, start + rowBytes * rowCount)) {
      const found = map.memberByte(from) - start;
      if (first === null || found < first.at) first = { lu, at: found, from, to };
    }
  }
  return first;
}

/** Bytes of each member that LUs use, up to byte `upTo` of the row space. */
export function usedBytes(table: RowTable, upTo = Number.POSITIVE_INFINITY): number {
  const { rowBytes } = table.shape;
  const runs = table.lus.lus.flatMap((lu) => lu.runs);
  if (upTo === Number.POSITIVE_INFINITY) return countRows(runs) * rowBytes;
  return runs.reduce((sum, run) => {
    const inRun = upTo - run.first * rowBytes;
    return sum + Math.min(Math.max(inRun, 0), run.count * rowBytes);
  }, 0);
}
