import type Database from "better-sqlite3";
import { isStorageError, StorageError } from "../../lib/errors.js";
import type { Logger } from "../../lib/log.js";
import type { PageStore } from "../../pagestore/contract.js";
import type { InodeMarks } from "../inode.js";
import { decodeExtentMap, newBlockMap } from "./extent-map.js";
import type { GroupTable } from "./group-table.js";
import { GROUP_BLOCKS } from "./limits.js";

export interface FreerParts {
  readonly db: Database.Database;
  readonly table: GroupTable;
  readonly inodes: InodeMarks;
  readonly store: PageStore;
  readonly log: Logger;
  /** Rows that one commit frees. */
  readonly groupsPerStep: number;
}

/** A turn of the background work has ended; whoever waits looks again. */
interface Progress {
  readonly promise: Promise<void>;
  readonly resolve: () => void;
}

/**
 * Frees the extents of removed files and of what large truncates cut off: little at once, much in steps of one commit each. Table
 * `freeing` says for which inodes, and from which group on, this is not done; a restart goes on with them.
 *
 * While an inode stands there its size ends before that group, nothing of the groups behind is in memory, and whoever wants to write
 * there or to grow the file into them waits. So the rows have one owner, and a step needs to look at nothing else.
 */
export class Freer {
  readonly #parts: FreerParts;
  readonly #put: Database.Statement<[number, number]>;
  readonly #delete: Database.Statement<[number]>;
  readonly #rowsFrom: Database.Statement<[number, number, number], [number, Buffer]>;
  readonly #deleteRows: Database.Statement<[number, number, number]>;
  readonly #groupsFrom: Database.Statement<[number, number, number], number>;
  readonly #scratch = newBlockMap();
  /** Inode to first group: what the table says. The next step takes the first one. */
  readonly #pending = new Map<number, number>();
  /** A row of theirs is damaged: they are left as they are. */
  readonly #stuck = new Set<number>();
  #progress: Progress = newProgress();
  #running: Promise<void> | null = null;
  #stopped = false;

  constructor(parts: FreerParts) {
    const { db } = parts;
    this.#parts = parts;
    this.#put = db.prepare("INSERT INTO freeing VALUES (?, ?) ON CONFLICT DO UPDATE SET grp = excluded.grp");
    this.#delete = db.prepare("DELETE FROM freeing WHERE ino = ?");
    this.#rowsFrom = db
      .prepare<[number, number, number], [number, Buffer]>(
        "SELECT grp, map FROM extent WHERE ino = ? AND grp >= ? ORDER BY grp LIMIT ?",
      )
      .raw();
    this.#deleteRows = db.prepare("DELETE FROM extent WHERE ino = ? AND grp >= ? AND grp <= ?");
    this.#groupsFrom = db
      .prepare<[number, number, number], number>(
        "SELECT count(*) FROM (SELECT 1 FROM extent WHERE ino = ? AND grp >= ? LIMIT ?)",
      )
      .pluck();
    const rows = db.prepare<[], [number, number]>("SELECT ino, grp FROM freeing ORDER BY ino").raw();
    for (const [ino, group] of rows.all()) this.#pending.set(ino, group);
  }

  get running(): boolean {
    return this.#running !== null;
  }

  /** The first group that is being freed; Infinity when none is. */
  firstGroup(ino: number): number {
    if (this.#pending.size === 0) return Number.POSITIVE_INFINITY;
    return this.#pending.get(ino) ?? Number.POSITIVE_INFINITY;
  }

  /** What the table should say. */
  get pending(): ReadonlyMap<number, number> {
    return this.#pending;
  }

  /** Whether the rows from `first` on are too many for the commit that is open. @param usedBlocks of the inode; each row has one at least */
  isLarge(ino: number, first: number, usedBlocks: number): boolean {
    const { table, groupsPerStep } = this.#parts;
    if (this.firstGroup(ino) < Number.POSITIVE_INFINITY) return true;
    const room = table.pagesMax / 2 - table.commitPages;
    if (usedBlocks <= groupsPerStep && 2 * usedBlocks <= room) return false;
    table.writeRows();
    const rowCount = this.#groupsFrom.get(ino, first, groupsPerStep + 1) ?? 0;
    const blockCount = Math.min(usedBlocks, rowCount * GROUP_BLOCKS);
    return rowCount > groupsPerStep || (rowCount > 0 && rowCount + table.segmentPagesOf(blockCount) > room);
  }

  /**
   * Free in the background what lies from `first` on. The rows of these groups are written, and none of them is in memory.
   * The open commit holds this together with the change that makes them superfluous.
   */
  freeLater(ino: number, first: number): void {
    const group = Math.min(first, this.firstGroup(ino));
    this.#pending.set(ino, group);
    this.#put.run(ino, group);
    this.resume();
  }

  /** Free few rows now. @returns the number of blocks that were freed */
  freeNow(ino: number, first: number): number {
    let total = 0;
    for (;;) {
      const { blockCount, rowCount } = this.#freeRows(ino, first, Number.POSITIVE_INFINITY);
      total += blockCount;
      if (rowCount === 0) return total;
    }
  }

  /** Go on with what is left, in the background. */
  resume(): void {
    if (this.#running !== null || this.#stopped || this.#pending.size === this.#stuck.size) return;
    this.#running = this.#run().finally(() => {
      this.#running = null;
      this.#tell();
      this.resume();
    });
  }

  /**
   * Resolves when a step has ended, or when nothing goes on any more: look again, and call again.
   * @throws StorageError EIO when this inode's groups cannot be freed
   */
  async step(ino: number): Promise<void> {
    if (this.#stopped) throw new StorageError("EIO", "freeing file data has stopped", { ino });
    if (this.#stuck.has(ino)) throw new StorageError("EIO", "an extent map of the file is damaged", { ino });
    await this.#progress.promise;
  }

  async close(): Promise<void> {
    this.#stopped = true;
    this.#tell();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { table, store, log } = this.#parts;
    try {
      for (let ino = this.#next(); ino !== null; ino = this.#next()) {
        if (table.commitPages > table.pagesMax / 2) await store.durable();
        if (this.#stopped) return;
        this.#freeStep(ino);
        this.#tell();
        await store.durable();
      }
    } catch (error) {
      // The store has failed, and says so to everybody; the rows are there for the next start.
      this.#stopped = true;
      log.warn({ err: error }, "freeing file data has stopped");
    }
  }

  #next(): number | null {
    if (this.#stopped) return null;
    for (const ino of this.#pending.keys()) if (!this.#stuck.has(ino)) return ino;
    return null;
  }

  /** In turn: nobody waits for the end of another one's terabyte. */
  #freeStep(ino: number): void {
    const { table, log } = this.#parts;
    const first = this.firstGroup(ino);
    this.#pending.delete(ino);
    this.#pending.set(ino, first);
    try {
      const { rowCount } = this.#freeRows(ino, first, (table.pagesMax * 3) / 4);
      if (rowCount > 0) return;
      this.#pending.delete(ino);
      this.#delete.run(ino);
    } catch (error) {
      if (!isStorageError(error)) throw error;
      this.#stuck.add(ino);
      log.error({ err: error, ino }, "file data cannot be freed");
    }
  }

  /**
   * Free the blocks of one step's rows and delete those rows.
   * @param pagesMax  of the open commit: it ends before the commit is larger, but frees one row at least
   * @throws StorageError EIO a row is damaged; those before it are freed
   */
  #freeRows(ino: number, first: number, pagesMax: number): { blockCount: number; rowCount: number } {
    const { table, groupsPerStep } = this.#parts;
    let blockCount = 0;
    let rowCount = 0;
    let last = -1;
    try {
      for (const [group, map] of this.#rowsFrom.all(ino, first, groupsPerStep)) {
        if (rowCount > 0 && table.commitPages + rowCount >= pagesMax) break;
        blockCount += this.#freeMap(ino, group, map);
        rowCount++;
        last = group;
      }
    } finally {
      if (rowCount > 0) this.#deleteRows.run(ino, first, last);
      table.work.rowCount += rowCount;
      this.#discount(ino, blockCount);
    }
    return { blockCount, rowCount };
  }

  /** A removed inode has no row to count in. */
  #discount(ino: number, blockCount: number): void {
    const { inodes } = this.#parts;
    const inode = blockCount > 0 ? inodes.load(ino) : null;
    if (inode === null) return;
    inode.usedBlocks -= blockCount;
    inodes.markDirty(inode);
  }

  #freeMap(ino: number, group: number, map: Buffer): number {
    decodeExtentMap(map, this.#scratch);
    let blockCount = 0;
    for (let slot = 0; slot < GROUP_BLOCKS; slot++) {
      const address = this.#scratch.addresses[slot]!;
      if (address < 0) continue;
      this.#parts.table.freeStored(ino, group, address, this.#scratch.crcs[slot]!);
      blockCount++;
    }
    return blockCount;
  }

  #tell(): void {
    const progress = this.#progress;
    this.#progress = newProgress();
    progress.resolve();
  }
}

function newProgress(): Progress {
  let resolve = () => {};
  const promise = new Promise<void>((done) => {
    resolve = done;
  });
  return { promise, resolve };
}
