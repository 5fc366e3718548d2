import type Database from "better-sqlite3";
import { BLOCK_BYTES } from "../../lib/units.js";
import { reading } from "../database-error.js";
import type { LockRows } from "./book.js";
import type { LockOwner } from "./contract.js";
import type { Held, LockEntry, Reservation, Waiting } from "./entries.js";
import type { StoredHeld, StoredLocks, StoredShare, StoredWaiting } from "./load.js";

/**
 * The tables of the locks (docs/format/filesystem.md). They are made with the first lock: a file system from before there were any mounts as
 * it is, and one whose metadata LU is full mounts too. Offsets are u64: what passes 2^63 is stored as the negative number of the same bits.
 */
const LOCK_TABLES = `
  CREATE TABLE IF NOT EXISTS lock (
    id INTEGER PRIMARY KEY,
    ino INTEGER NOT NULL,
    host TEXT NOT NULL,
    svid INTEGER NOT NULL,
    oh BLOB NOT NULL,
    address TEXT NOT NULL,
    exclusive INTEGER NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL
  ) STRICT;

  CREATE TABLE IF NOT EXISTS lock_wait (
    id INTEGER PRIMARY KEY,
    ino INTEGER NOT NULL,
    host TEXT NOT NULL,
    svid INTEGER NOT NULL,
    oh BLOB NOT NULL,
    address TEXT NOT NULL,
    exclusive INTEGER NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    note BLOB NOT NULL,
    offered INTEGER NOT NULL
  ) STRICT;

  CREATE TABLE IF NOT EXISTS share (
    id INTEGER PRIMARY KEY,
    ino INTEGER NOT NULL,
    host TEXT NOT NULL,
    svid INTEGER NOT NULL,
    oh BLOB NOT NULL,
    address TEXT NOT NULL,
    access INTEGER NOT NULL,
    deny INTEGER NOT NULL
  ) STRICT;
`;

/** Rows that are made together lie together; names of 2 KiB take a page each. */
const PAGES_PER_ROW = 1 / 2;

const TABLES = ["lock", "lock_wait", "share"] as const;

function tablesAreThere(db: Database.Database): boolean {
  const named = TABLES.map((name) => `'${name}'`).join(", ");
  const count = `SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name IN (${named})`;
  return db.prepare<[], number>(count).pluck().get() === TABLES.length;
}

/** Rows that are read in one piece: a millisecond. */
const ROWS_PER_PAGE = 512;

/** A table by the number of the entry. `exists` is 1 when its inode does. */
function* pagesOf<T extends { readonly id: bigint }>(
  db: Database.Database,
  table: (typeof TABLES)[number],
): Generator<T[]> {
  if (!reading(() => tablesAreThere(db))) return;
  const page = db
    .prepare<[bigint, number], T>(
      `SELECT ${table}.*, EXISTS (SELECT 1 FROM inode WHERE inode.ino = ${table}.ino) AS "exists"
       FROM ${table} WHERE id > ? ORDER BY id LIMIT ?`,
    )
    .safeIntegers(true);
  for (let after = -1n; ; ) {
    const rows = reading(() => page.all(after, ROWS_PER_PAGE));
    const last = rows.at(-1);
    if (last === undefined) return;
    yield rows;
    after = last.id;
  }
}

/** For the check, a page at a time: inodes that have locks and do not exist. */
export function* inodesOfLostLocks(db: Database.Database): Generator<readonly number[]> {
  for (const table of TABLES) {
    for (const rows of pagesOf<OwnedRow>(db, table)) {
      yield rows.filter(({ exists }) => exists === 0n).map(({ ino }) => Number(ino));
    }
  }
}

interface OwnedRow {
  readonly id: bigint;
  readonly ino: bigint;
  readonly host: string;
  readonly svid: bigint;
  readonly oh: Buffer;
  readonly address: string;
  readonly exists: bigint;
}

interface RangeRow extends OwnedRow {
  readonly exclusive: bigint;
  readonly first: bigint;
  readonly last: bigint;
}

interface WaitRow extends RangeRow {
  readonly note: Buffer;
  readonly offered: bigint;
}

interface ShareRow extends OwnedRow {
  readonly access: bigint;
  readonly deny: bigint;
}

interface Statements {
  readonly putHeld: Database.Statement;
  readonly dropHeld: Database.Statement<[number]>;
  readonly putWaiting: Database.Statement;
  readonly markOffered: Database.Statement<[number, number]>;
  readonly dropWaiting: Database.Statement<[number]>;
  readonly putShare: Database.Statement;
  readonly dropShare: Database.Statement<[number]>;
}

function prepare(db: Database.Database): Statements {
  return {
    putHeld: db.prepare("INSERT INTO lock VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"),
    dropHeld: db.prepare<[number]>("DELETE FROM lock WHERE id = ?"),
    putWaiting: db.prepare("INSERT INTO lock_wait VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"),
    markOffered: db.prepare<[number, number]>("UPDATE lock_wait SET offered = ? WHERE id = ?"),
    dropWaiting: db.prepare<[number]>("DELETE FROM lock_wait WHERE id = ?"),
    putShare: db.prepare("INSERT INTO share VALUES (?, ?, ?, ?, ?, ?, ?, ?)"),
    dropShare: db.prepare<[number]>("DELETE FROM share WHERE id = ?"),
  };
}

/** The entries of the lock book as rows of the page store. */
export class SqlLockRows implements LockRows, StoredLocks {
  #statements: Statements | null = null;

  /** @param apply  every change of a row goes through it, with the pages that it may change: one that fails ends the file system */
  constructor(
    private readonly db: Database.Database,
    private readonly apply: <T>(change: () => T, pages: number) => T,
  ) {}

  *held(): Generator<StoredHeld[]> {
    for (const rows of pagesOf<RangeRow>(this.db, "lock"))
      yield rows.map((row) => ({ ...entryOf(row), ...rangeOfRow(row) }));
  }

  *waiting(): Generator<StoredWaiting[]> {
    for (const rows of pagesOf<WaitRow>(this.db, "lock_wait")) {
      yield rows.map((row) => {
        return { ...entryOf(row), ...rangeOfRow(row), note: row.note, offered: Number(row.offered) };
      });
    }
  }

  *shares(): Generator<StoredShare[]> {
    for (const rows of pagesOf<ShareRow>(this.db, "share"))
      yield rows.map((row) => ({ ...entryOf(row), access: Number(row.access), deny: Number(row.deny) }));
  }

  putHeld(held: Held): void {
    this.#run(({ putHeld }) => putHeld.run(...owned(held), ...ranged(held)), held.who.owner);
  }

  dropHeld(id: number): void {
    this.#run(({ dropHeld }) => dropHeld.run(id));
  }

  putWaiting(waiting: Waiting): void {
    const offered = waiting.offer?.id ?? 0;
    this.#run(
      ({ putWaiting }) => putWaiting.run(...owned(waiting), ...ranged(waiting), waiting.note, offered),
      waiting.who.owner,
    );
  }

  markOffered(id: number, heldId: number): void {
    this.#run(({ markOffered }) => markOffered.run(heldId, id));
  }

  dropWaiting(id: number): void {
    this.#run(({ dropWaiting }) => dropWaiting.run(id));
  }

  putShare(share: Reservation): void {
    this.#run(({ putShare }) => putShare.run(...owned(share), share.access, share.deny), share.who.owner);
  }

  dropShare(id: number): void {
    this.#run(({ dropShare }) => dropShare.run(id));
  }

  /** @param owner  of a row that is added */
  #run(change: (statements: Statements) => unknown, owner?: LockOwner): void {
    const nameBytes = owner === undefined ? 0 : owner.host.length + owner.oh.length;
    this.apply(
      () => {
        if (this.#statements === null) {
          this.db.exec(LOCK_TABLES);
          this.#statements = prepare(this.db);
        }
        change(this.#statements);
      },
      PAGES_PER_ROW + (2 * nameBytes) / BLOCK_BYTES,
    );
  }
}

function owned({ id, ino, who: { owner } }: LockEntry) {
  return [id, ino, owner.host, owner.svid, owner.oh, owner.address];
}

function ranged({ exclusive, first, last }: Held | Waiting) {
  return [exclusive ? 1 : 0, BigInt.asIntN(64, first), BigInt.asIntN(64, last)];
}

function entryOf({ id, ino, host, svid, oh, address, exists }: OwnedRow) {
  const owner: LockOwner = { address, host, svid: Number(svid), oh };
  return { id: Number(id), ino: Number(ino), owner, lost: exists === 0n };
}

function rangeOfRow({ exclusive, first, last }: RangeRow) {
  return { exclusive: exclusive === 1n, first: BigInt.asUintN(64, first), last: BigInt.asUintN(64, last) };
}
