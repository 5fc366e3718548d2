import { nextTurn } from "../../lib/next-turn.js";
import type { LockBook, LockRows } from "./book.js";
import type { LockOwner } from "./contract.js";
import { type Held, keyOf, type Party } from "./entries.js";
import type { LockedRange } from "./range.js";

interface StoredEntry {
  readonly id: number;
  readonly ino: number;
  readonly owner: LockOwner;
  /** The inode does not exist: it went, and what was asked of it had not gone yet. */
  readonly lost: boolean;
}

export interface StoredHeld extends StoredEntry, LockedRange {}

export interface StoredWaiting extends StoredEntry, LockedRange {
  readonly note: Buffer;
  /** The number of the lock that it was offered; 0: none; 1: some lock, as a version before decision 30 says. */
  readonly offered: number;
}

export interface StoredShare extends StoredEntry {
  readonly access: number;
  readonly deny: number;
}

/** What the rows say, in the order of their numbers and page by page. */
export interface StoredLocks {
  held(): Iterable<readonly StoredHeld[]>;
  waiting(): Iterable<readonly StoredWaiting[]>;
  shares(): Iterable<readonly StoredShare[]>;
}

/** Entries that are looked at in one turn: about two milliseconds. */
const ENTRIES_PER_TURN = 512;

/** All pages; others have their turns between them. */
async function readAll<T>(pages: Iterable<readonly T[]>): Promise<T[]> {
  const rows: T[] = [];
  for (const page of pages) {
    rows.push(...page);
    await nextTurn();
  }
  return rows;
}

/**
 * Rows into the book. Left out, and dropped: what was asked of an inode that has gone, and what a crash has left of an operation.
 */
export async function loadLocks(stored: StoredLocks, book: LockBook, rows: LockRows): Promise<void> {
  const held = await readAll(stored.held());
  const waiting = await readAll(stored.waiting());
  const shares = await readAll(stored.shares());
  const loader = new Loader(book, rows, waiting);
  await inTurns(held, (row) => loader.held(row));
  await inTurns(waiting, (row) => loader.waiting(row));
  await inTurns(shares, (row) => loader.share(row));
  await inTurns([...loader.own.values()], ({ ino, who, pieces }) => book.loadOwn(ino, who, pieces));
}

async function inTurns<T>(items: readonly T[], action: (item: T) => void): Promise<void> {
  for (let at = 0; at < items.length; at += ENTRIES_PER_TURN) {
    for (const item of items.slice(at, at + ENTRIES_PER_TURN)) action(item);
    await nextTurn();
  }
}

class Loader {
  /** What is not an offer, by file and owner. */
  readonly own = new Map<string, { readonly ino: number; readonly who: Party; readonly pieces: Held[] }>();
  /** By the number of the lock; of versions that did not say which one, by its range and owner. */
  readonly #isOffered = new Set<number | string>();
  readonly #offers = new Map<number | string, Held>();

  constructor(
    private readonly book: LockBook,
    private readonly rows: LockRows,
    waiting: readonly StoredWaiting[],
  ) {
    for (const row of waiting)
      if (row.offered > 0) this.#isOffered.add(row.offered === 1 ? rangeKey(row) : row.offered);
  }

  held(row: StoredHeld): void {
    if (row.lost) {
      this.rows.dropHeld(row.id);
      return;
    }
    const { id, ino, first, last, exclusive } = row;
    const who = this.book.party(row.owner);
    const held: Held = { kind: "held", id, ino, who, first, last, exclusive, live: true };
    this.book.load(held);
    const offered = [id, rangeKey(row)].find((name) => this.#isOffered.has(name));
    if (offered !== undefined) {
      this.#offers.set(offered, held);
      return;
    }
    const place = `${ino} ${who.key}`;
    const own = this.own.get(place) ?? { ino, who, pieces: [] };
    own.pieces.push(held);
    this.own.set(place, own);
  }

  waiting(row: StoredWaiting): void {
    const { id, ino, first, last, exclusive, note, offered } = row;
    const offer = this.#offers.get(offered === 1 ? rangeKey(row) : offered) ?? null;
    // A lock that was offered and cannot be told from others of its owner is taken as confirmed: the client has it when it asks again.
    if (row.lost || (offered > 0 && offer === null)) {
      this.rows.dropWaiting(id);
      return;
    }
    const who = this.book.party(row.owner);
    this.book.load({ kind: "waiting", id, ino, who, first, last, exclusive, note, offer, blocker: null });
  }

  share({ id, ino, owner, access, deny, lost }: StoredShare): void {
    if (lost) this.rows.dropShare(id);
    else this.book.load({ kind: "share", id, ino, who: this.book.party(owner), access, deny });
  }
}

function rangeKey({ ino, owner, first, last, exclusive }: StoredEntry & LockedRange): string {
  return `${ino} ${first} ${last} ${exclusive} ${keyOf(owner)}`;
}
