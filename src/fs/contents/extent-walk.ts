import type Database from "better-sqlite3";
import { nextTurn } from "../../lib/next-turn.js";
import { type BlockMap, newBlockMap, tryDecodeExtentMap } from "./extent-map.js";
import type { GroupTable } from "./group-table.js";
import { EXTENT_ROWS_AFTER } from "./schema.js";

/** Rows of one piece: at some 20 microseconds each 1.3 ms, then everybody else has a turn. */
const ROWS_PER_SLICE = 64;

type Row = readonly [ino: number, group: number, map: Buffer];

/** Goes over all extent rows in the order of their keys, beside the service. A damaged row is passed over: `check` tells of it. */
export class ExtentWalk {
  readonly #db: Database.Database;
  readonly #table: GroupTable;
  readonly #rowsAfter: Database.Statement<[number, number, number], Row>;
  readonly #rowOf: Database.Statement<[number, number], Buffer>;
  readonly #map = newBlockMap();

  constructor(db: Database.Database, table: GroupTable) {
    this.#db = db;
    this.#table = table;
    this.#rowsAfter = db.prepare<[number, number, number], Row>(EXTENT_ROWS_AFTER).raw();
    this.#rowOf = db.prepare<[number, number], Buffer>("SELECT map FROM extent WHERE ino = ? AND grp = ?").pluck();
  }

  /**
   * @param visit  called for each row, with a map that is valid during the call and says what holds at that moment; true: enough
   * @returns whether `visit` said so; false also when the file system was closed
   */
  async run(visit: (ino: number, group: number, map: BlockMap) => boolean): Promise<boolean> {
    let [ino, group] = [-1, -1];
    while (this.#db.open) {
      this.#table.writeRows();
      const rows = this.#rowsAfter.all(ino, group, ROWS_PER_SLICE);
      for (const row of rows) {
        [ino, group] = row;
        if (tryDecodeExtentMap(row[2], this.#map) && visit(ino, group, this.#map)) return true;
      }
      if (rows.length < ROWS_PER_SLICE) return false;
      await nextTurn();
    }
    return false;
  }

  /** Slot of the block at `address` in this row, as it is now; -1 when it does not map it. */
  slotOf(ino: number, group: number, address: number): number {
    if (!this.#db.open) return -1;
    this.#table.writeRows();
    const row = this.#rowOf.get(ino, group);
    if (row === undefined || !tryDecodeExtentMap(row, this.#map)) return -1;
    return this.#map.addresses.indexOf(address);
  }
}
