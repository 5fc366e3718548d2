import { readdirSync, rmSync } from "node:fs";
import path from "node:path";
import Database from "better-sqlite3";
import type { StorageError } from "../../lib/errors.js";
import type { Random } from "../../lib/prng.js";
import { BLOCK_BYTES, KIB } from "../../lib/units.js";
import { decodeExtentMap, newBlockMap } from "../contents/extent-map.js";
import { GROUP_BLOCKS } from "../contents/limits.js";
import type { FrozenContents } from "../contents/snapshot-gate.js";
import { reading } from "../database-error.js";
import { INODE_COLUMNS, type InodeRow } from "../inode-row.js";
import { MetaKey, MetaTable } from "../meta.js";
import { FileKind } from "../vfs.js";

/** Bytes of a file that one group holds. */
export const GROUP_BYTES = GROUP_BLOCKS * BLOCK_BYTES;

const PREFIX = "snapshot-";
/** SQLite's page cache for the copy: a walk in key order needs little. */
const CACHE_KIB = 4 * KIB;

export interface SnapshotEntry {
  readonly parent: number;
  readonly name: Buffer;
  readonly cookie: number;
  readonly ino: number;
}

/** One group of a regular file that holds blocks. */
export interface SnapshotGroup {
  readonly ino: number;
  readonly group: number;
  /** The row that says where its blocks lie and what their checksums are: the same row means the same blocks. */
  readonly row: Buffer;
}

/** Where a walk over groups stands: all up to and including this one were looked at. */
export interface GroupPlace {
  readonly ino: number;
  readonly group: number;
}

/** Before the first group. */
export const GROUPS_START: GroupPlace = { ino: 0, group: -1 };

/** A page of a walk. `next` is null at the end; a page may be empty and not the last. */
export interface GroupPage {
  readonly groups: readonly SnapshotGroup[];
  readonly next: GroupPlace | null;
}

type GroupRow = readonly [ino: number, group: number, size: number, map: Buffer];

interface Statements {
  readonly inodes: Database.Statement<[number, number], InodeRow>;
  readonly entries: Database.Statement<[number, Buffer, number], readonly [number, Buffer, number, number]>;
  readonly groups: Database.Statement<[number, number, number], GroupRow>;
  readonly sizeOf: Database.Statement<[number], number>;
}

/**
 * A file system as one commit left it, while it goes on serving: the metadata from a copy, the blocks from the data LU, where they are held
 * back until `close`. Everything is read in pages, so that no call takes more than a few milliseconds. It survives no restart.
 */
export class Snapshot {
  readonly #file: string;
  readonly #db: Database.Database;
  readonly #frozen: FrozenContents;
  readonly #statements: Statements;
  readonly meta: MetaTable;
  #closed = false;

  /** @param file  the copy, which goes with the snapshot */
  constructor(file: string, frozen: FrozenContents) {
    this.#file = file;
    this.#frozen = frozen;
    this.#db = new Database(file, { fileMustExist: true });
    // Ours alone, and never read again after a crash.
    this.#db.pragma("locking_mode = EXCLUSIVE");
    this.#db.pragma("synchronous = OFF");
    this.#db.pragma(`cache_size = -${CACHE_KIB}`);
    this.#statements = prepare(this.#db);
    this.meta = new MetaTable(this.#db);
  }

  /** Why it was given up; null while it holds. */
  get lost(): StorageError | null {
    return this.#frozen.lost;
  }

  /** Space on the data LU that waits for its end. */
  get heldBytes(): number {
    return this.#frozen.heldBytes;
  }

  get nextIno(): number {
    return this.meta.number(MetaKey.nextIno);
  }

  /** Inodes behind number `after`, in order. */
  inodes(after: number, limit: number): InodeRow[] {
    this.#require();
    return reading(() => this.#statements.inodes.all(after, limit));
  }

  /** Entries behind (parent, name), in order. */
  entries(after: Pick<SnapshotEntry, "parent" | "name">, limit: number): SnapshotEntry[] {
    this.#require();
    const rows = reading(() => this.#statements.entries.all(after.parent, after.name, limit));
    return rows.map(([parent, name, cookie, ino]) => ({ parent, name, cookie, ino }));
  }

  /** Groups behind a place, in order. What a truncate has cut off and the background has not freed yet is none. */
  groups(after: GroupPlace, limit: number): GroupPage {
    this.#require();
    const rows = reading(() => this.#statements.groups.all(after.ino, after.group, limit));
    const last = rows.at(-1);
    const next = rows.length < limit || last === undefined ? null : { ino: last[0], group: last[1] };
    const inside = rows.filter(([, group, size]) => group * GROUP_BYTES < size);
    return { groups: inside.map(([ino, group, , row]) => ({ ino, group, row })), next };
  }

  /** Whether the file is there and reaches into this group. */
  reaches({ ino, group }: GroupPlace): boolean {
    const size = reading(() => this.#statements.sizeOf.get(ino));
    return size !== undefined && group * GROUP_BYTES < size;
  }

  /**
   * The blocks of a group.
   * @param target  GROUP_BYTES at least: the blocks that are there, one after the other
   * @returns which blocks of the group these are, rising
   * @throws StorageError EIO (bad in every copy, or a damaged row), EBUSY (given up)
   */
  async read({ ino, group, row }: SnapshotGroup, target: Buffer): Promise<number[]> {
    const map = newBlockMap();
    decodeExtentMap(row, map);
    const slots: number[] = [];
    for (let slot = 0; slot < GROUP_BLOCKS; slot++) if (map.addresses[slot]! >= 0) slots.push(slot);
    await this.#frozen.read(ino, group, map, slots, target.subarray(0, slots.length * BLOCK_BYTES));
    return slots;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#frozen.release();
    this.#db.close();
    removeCopy(this.#file);
  }

  #require(): void {
    if (this.#frozen.lost !== null) throw this.#frozen.lost;
  }
}

function prepare(db: Database.Database): Statements {
  return {
    inodes: db
      .prepare<[number, number], InodeRow>(`SELECT ${INODE_COLUMNS} FROM inode WHERE ino > ? ORDER BY ino LIMIT ?`)
      .raw(),
    entries: db
      .prepare<[number, Buffer, number], readonly [number, Buffer, number, number]>(
        "SELECT parent, name, cookie, ino FROM dirent WHERE (parent, name) > (?, ?) ORDER BY parent, name LIMIT ?",
      )
      .raw(),
    // CROSS JOIN: SQLite keeps this order of the loops, and walks the key.
    groups: db
      .prepare<[number, number, number], GroupRow>(
        `SELECT g.ino, g.grp, i.size, g.map FROM extent g CROSS JOIN inode i ON i.ino = g.ino AND i.kind = ${FileKind.file}
         WHERE (g.ino, g.grp) > (?, ?) ORDER BY g.ino, g.grp LIMIT ?`,
      )
      .raw(),
    sizeOf: db.prepare<[number], number>(`SELECT size FROM inode WHERE ino = ? AND kind = ${FileKind.file}`).pluck(),
  };
}

export interface SnapshotSource {
  freeze(target: string): Promise<FrozenContents>;
}

/** @throws StorageError EBUSY, ENOSPC (scratch folder), EIO */
export async function takeSnapshot(contents: SnapshotSource, folder: string, random: Random): Promise<Snapshot> {
  const file = path.join(folder, `${PREFIX}${random.next().toString(16).padStart(8, "0")}.db`);
  try {
    const frozen = await contents.freeze(file);
    try {
      return new Snapshot(file, frozen);
    } catch (error) {
      frozen.release();
      throw error;
    }
  } catch (error) {
    removeCopy(file);
    throw error;
  }
}

/** What a process that was killed has left in the folder. */
export function removeSnapshots(folder: string): void {
  for (const name of readdirSync(folder)) if (name.startsWith(PREFIX)) rmSync(path.join(folder, name), { force: true });
}

function removeCopy(file: string): void {
  for (const suffix of ["", "-wal", "-shm", "-journal"]) rmSync(file + suffix, { force: true });
}
