import { StorageError } from "../../lib/errors.js";
import type {
  FreedLocks,
  LockClient,
  LockClientRow,
  LockGrant,
  LockHolder,
  LockOwner,
  LockRequest,
  LockResult,
  LockRow,
  ShareRequest,
} from "./contract.js";
import { LOCK_LIMITS } from "./limits.js";
import { type ByteRange, clip, type LockedRange, overlaps, replace, sameRange } from "./range.js";
import { RangeIndex, type RoughRange, roughly } from "./range-index.js";

interface Entry {
  readonly id: number;
  readonly ino: number;
  readonly owner: LockOwner;
  /** Equal for one owner only. */
  readonly key: string;
}

export interface Held extends Entry, LockedRange, RoughRange {}

export interface Waiting extends Entry, LockGrant {
  /** The lock was given, and the client has not confirmed it. */
  offered: boolean;
  /** What the owner held there before that; kept in memory only, so that after a restart a refused grant leaves nothing. */
  replaced: readonly LockedRange[];
}

export interface Reservation extends Entry, ShareRequest {}

/** Where the entries are kept; every call changes one row. */
export interface LockRows {
  putHeld(held: Held): void;
  dropHeld(id: number): void;
  putWaiting(waiting: Waiting): void;
  markOffered(id: number): void;
  dropWaiting(id: number): void;
  putShare(share: Reservation): void;
  dropShare(id: number): void;
}

export interface StoredLocks {
  readonly held: readonly Held[];
  /** In the order of their ids: who came first is first. */
  readonly waiting: readonly Waiting[];
  readonly shares: readonly Reservation[];
}

export function keyOf({ address, host, svid, oh }: LockOwner): string {
  return `${oh.toString("hex")} ${svid} ${address} ${host}`;
}

/** Locks of one inode. */
class OfFile {
  readonly held = new RangeIndex<Held>();
  /** In the order of arrival. */
  readonly waiting = new Set<Waiting>();
  readonly shares = new Set<Reservation>();

  get isEmpty(): boolean {
    return this.held.size + this.waiting.size + this.shares.size === 0;
  }

  /** Those of one owner that overlap or touch a range. */
  ownNear(key: string, { first, last }: ByteRange): Held[] {
    // One byte more at each end, before the ends are rounded.
    const near = this.held.near(roughly({ first: first === 0n ? 0n : first - 1n, last: last + 1n }));
    return [...near].filter((held) => held.key === key);
  }

  conflict(key: string, wanted: LockedRange): Held | null {
    for (const held of this.held.near(roughly(wanted))) {
      if (held.key !== key && (held.exclusive || wanted.exclusive) && overlaps(held, wanted)) return held;
    }
    return null;
  }

  waiter(key: string, wanted: LockedRange): Waiting | undefined {
    for (const waiter of this.waiting)
      if (waiter.key === key && sameRange(waiter, wanted) && waiter.exclusive === wanted.exclusive) return waiter;
    return undefined;
  }
}

/**
 * The state of all locks of a file system, in memory and, entry by entry, in rows. Everything is synchronous, and an operation that throws
 * has changed nothing.
 *
 * A new request is held only against locks, not against requests that wait: those are served in the order of their arrival whenever a lock
 * goes, each as soon as nothing is in its way. There is no search for deadlocks: NLM has no answer for one that spans hosts.
 */
export class LockBook {
  readonly #files = new Map<number, OfFile>();
  readonly #waiting = new Map<number, Waiting>();
  /** By address: a client chooses its name. */
  readonly #entriesOf = new Map<string, number>();
  #entries = 0;
  #ownerBytes = 0;
  #nextId = 1;
  #granted: LockGrant[] = [];
  #changed = false;

  /** @param requireSpace  throws StorageError ENOSPC when no rows should be added */
  constructor(
    private readonly rows: LockRows,
    private readonly requireSpace: () => void,
    private readonly limits: { readonly [K in keyof typeof LOCK_LIMITS]: number } = LOCK_LIMITS,
  ) {}

  /** What the rows say, at mount. */
  load({ held, waiting, shares }: StoredLocks): void {
    for (const entry of held) this.#of(entry.ino).held.add(entry);
    for (const entry of waiting) {
      this.#of(entry.ino).waiting.add(entry);
      this.#waiting.set(entry.id, entry);
    }
    for (const entry of shares) this.#of(entry.ino).shares.add(entry);
    for (const entry of [...held, ...waiting, ...shares]) {
      this.#count(entry, 1);
      this.#nextId = Math.max(this.#nextId, entry.id + 1);
    }
    this.#changed = false;
  }

  /** Grants since the last call. */
  takeGrants(): LockGrant[] {
    return this.#granted.splice(0);
  }

  /** Whether a row has changed since the last call. */
  takeChanged(): boolean {
    const changed = this.#changed;
    this.#changed = false;
    return changed;
  }

  test(ino: number, request: LockRequest): LockHolder | null {
    return this.#files.get(ino)?.conflict(keyOf(request.owner), request) ?? null;
  }

  lock(ino: number, request: LockRequest, note: Buffer | null): LockResult {
    const key = keyOf(request.owner);
    const file = this.#of(ino);
    const holder = file.conflict(key, request);
    const waiter = file.waiter(key, request);
    if (holder === null) {
      this.#place(ino, request, request.exclusive);
      if (waiter !== undefined) this.#dropWaiting(waiter);
      this.#dropOffers(ino, key, request);
      this.#grant(ino);
      return { status: "granted" };
    }
    if (note !== null && waiter === undefined) this.#wait(ino, key, request, note);
    this.#tidy(ino);
    return note === null ? { status: "denied", holder } : { status: "blocked" };
  }

  cancel(ino: number, request: LockRequest): boolean {
    const waiter = this.#files.get(ino)?.waiter(keyOf(request.owner), request);
    if (waiter === undefined) return false;
    if (waiter.offered) this.settle(waiter.id, false);
    else this.#dropWaiting(waiter);
    this.#tidy(ino);
    return true;
  }

  unlock(ino: number, request: Omit<LockRequest, "exclusive">): void {
    const key = keyOf(request.owner);
    this.#place(ino, request, null);
    this.#dropOffers(ino, key, request);
    // The client's answer to a grant that it did not expect may overtake its cancelling.
    const mine = [...this.#of(ino).waiting].filter((waiter) => waiter.key === key && sameRange(waiter, request));
    for (const waiter of mine) this.#dropWaiting(waiter);
    this.#grant(ino);
  }

  share(ino: number, request: ShareRequest): boolean {
    const key = keyOf(request.owner);
    const file = this.#of(ino);
    const others = [...file.shares].filter((share) => share.key !== key);
    const blocked = others.some(({ access, deny }) => (access & request.deny) !== 0 || (deny & request.access) !== 0);
    if (!blocked) {
      const own = [...file.shares].filter((share) => share.key === key);
      this.#requireRoom(request.owner, key, 1 - own.length);
      for (const share of own) this.#dropShare(share);
      const share = { ...request, id: this.#nextId++, ino, key };
      file.shares.add(share);
      this.#count(share, 1);
      this.rows.putShare(share);
    }
    this.#tidy(ino);
    return !blocked;
  }

  unshare(ino: number, owner: LockOwner): void {
    const key = keyOf(owner);
    for (const share of this.#files.get(ino)?.shares ?? []) if (share.key === key) this.#dropShare(share);
    this.#tidy(ino);
  }

  free({ address, host }: LockClient): FreedLocks {
    const isMeant = ({ owner }: Entry) =>
      (host === null || owner.host === host) && (address === null || owner.address === address);
    const freed = { held: 0, waiting: 0, shares: 0 };
    for (const [ino, file] of this.#files) {
      const of = <T extends Entry>(entries: Iterable<T>) => [...entries].filter(isMeant);
      const [held, waiting, shares] = [of(file.held.all()), of(file.waiting), of(file.shares)];
      for (const entry of held) this.#dropHeld(entry);
      for (const entry of waiting) this.#dropWaiting(entry);
      for (const entry of shares) this.#dropShare(entry);
      freed.held += held.length;
      freed.waiting += waiting.length;
      freed.shares += shares.length;
      this.#grant(ino);
    }
    return freed;
  }

  /** The inode is gone, and what was asked of it. */
  forget(ino: number): void {
    const file = this.#files.get(ino);
    if (file === undefined) return;
    for (const entry of [...file.held.all()]) this.#dropHeld(entry);
    for (const entry of file.waiting) this.#dropWaiting(entry);
    for (const entry of file.shares) this.#dropShare(entry);
    this.#tidy(ino);
  }

  settle(id: number, accepted: boolean): void {
    const waiter = this.#waiting.get(id);
    if (waiter === undefined || !waiter.offered) return;
    this.#dropWaiting(waiter);
    const { ino } = waiter;
    if (!accepted) {
      this.#place(ino, waiter, null, false);
      for (const piece of waiter.replaced) {
        this.#place(ino, { ...piece, owner: waiter.owner }, piece.exclusive, false);
      }
    }
    this.#grant(ino);
  }

  pending(id: number): boolean {
    return this.#waiting.get(id)?.offered === true;
  }

  offers(): LockGrant[] {
    return [...this.#waiting.values()].filter(({ offered }) => offered);
  }

  *list(): Generator<LockRow> {
    for (const file of this.#files.values()) {
      const { held, waiting, shares } = file;
      for (const entry of held.all()) yield { ...entry, state: "held" };
      for (const entry of waiting) yield { ...entry, state: entry.offered ? "offered" : "waiting" };
      for (const { ino, owner } of shares) yield { ino, owner, state: "share", exclusive: false, first: 0n, last: 0n };
    }
  }

  clients(): LockClientRow[] {
    const found = new Map<string, { address: string; host: string; files: Set<number> }>();
    for (const { ino, owner } of this.list()) {
      const { address, host } = owner;
      const key = `${address} ${host}`;
      const own = found.get(key) ?? { address, host, files: new Set() };
      own.files.add(ino);
      found.set(key, own);
    }
    return [...found.values()].map(({ address, host, files }) => ({ address, host, files: files.size }));
  }

  #of(ino: number): OfFile {
    let file = this.#files.get(ino);
    if (file === undefined) {
      file = new OfFile();
      this.#files.set(ino, file);
    }
    return file;
  }

  /** A file without locks costs nothing. */
  #tidy(ino: number): void {
    if (this.#files.get(ino)?.isEmpty === true) this.#files.delete(ino);
  }

  /** Lock or unlock a range of one owner. Nothing of anybody else is in the way. @param bounded  against the limits, before anything changes */
  #place(ino: number, request: Omit<LockRequest, "exclusive">, exclusive: boolean | null, bounded = true): void {
    const { owner, first, last } = request;
    const file = this.#of(ino);
    const key = keyOf(owner);
    const { removed, added } = replace(file.ownNear(key, { first, last }), { first, last }, exclusive);
    if (bounded) this.#requireRoom(owner, key, added.length - removed.length);
    for (const held of removed) this.#dropHeld(held);
    for (const piece of added) {
      const held = { ...piece, ...roughly(piece), id: this.#nextId++, ino, owner, key };
      file.held.add(held);
      this.#count(held, 1);
      this.rows.putHeld(held);
    }
  }

  #wait(ino: number, key: string, request: LockRequest, note: Buffer): void {
    this.#requireRoom(request.owner, key, 1);
    const { first, last, exclusive, owner } = request;
    const entry = { id: this.#nextId++, ino, key, owner, first, last, exclusive, note };
    const waiter: Waiting = { ...entry, offered: false, replaced: [] };
    this.#of(ino).waiting.add(waiter);
    this.#waiting.set(waiter.id, waiter);
    this.#count(waiter, 1);
    this.rows.putWaiting(waiter);
  }

  /**
   * Give waiting requests what is free now, in the order of their arrival. One that turns an exclusive lock of its own into a shared one frees
   * something itself, and may let in who came before it.
   */
  #grant(ino: number): void {
    const file = this.#of(ino);
    for (let again = true; again; ) {
      again = false;
      for (const waiter of file.waiting) {
        if (waiter.offered || file.conflict(waiter.key, waiter) !== null) continue;
        again = this.#offer(file, waiter);
        if (again) break;
      }
    }
    this.#tidy(ino);
  }

  /** @returns whether that freed something */
  #offer(file: OfFile, waiter: Waiting): boolean {
    const before = file.ownNear(waiter.key, waiter).filter((held) => overlaps(held, waiter));
    waiter.replaced = before.map((held) => clip(held, waiter));
    this.#place(waiter.ino, waiter, waiter.exclusive, false);
    waiter.offered = true;
    this.rows.markOffered(waiter.id);
    this.#granted.push(waiter);
    return !waiter.exclusive && before.some(({ exclusive }) => exclusive);
  }

  /** The owner does something else with a range that it was offered: the offer no longer says what it holds. */
  #dropOffers(ino: number, key: string, range: ByteRange): void {
    for (const waiter of this.#of(ino).waiting) {
      if (waiter.offered && waiter.key === key && overlaps(waiter, range)) this.#dropWaiting(waiter);
    }
  }

  #dropHeld(held: Held): void {
    this.#of(held.ino).held.remove(held);
    this.#count(held, -1);
    this.rows.dropHeld(held.id);
  }

  #dropWaiting(waiter: Waiting): void {
    this.#of(waiter.ino).waiting.delete(waiter);
    this.#waiting.delete(waiter.id);
    this.#count(waiter, -1);
    this.rows.dropWaiting(waiter.id);
  }

  #dropShare(share: Reservation): void {
    this.#of(share.ino).shares.delete(share);
    this.#count(share, -1);
    this.rows.dropShare(share.id);
  }

  /** Everything that adds or drops an entry passes here. */
  #count({ owner: { address }, key }: Entry, delta: number): void {
    this.#changed = true;
    this.#entries += delta;
    this.#ownerBytes += delta * key.length;
    const count = (this.#entriesOf.get(address) ?? 0) + delta;
    if (count === 0) this.#entriesOf.delete(address);
    else this.#entriesOf.set(address, count);
  }

  /** @throws StorageError ENOSPC */
  #requireRoom({ address, host }: LockOwner, key: string, growth: number): void {
    if (growth <= 0) return;
    const { entriesMax, addressEntriesMax, ownerBytesMax } = this.limits;
    const ofAddress = this.#entriesOf.get(address) ?? 0;
    const ownerBytes = this.#ownerBytes + growth * key.length;
    if (this.#entries + growth > entriesMax || ofAddress + growth > addressEntriesMax || ownerBytes > ownerBytesMax)
      throw new StorageError("ENOSPC", "too many locks", { address, host, ofAddress, all: this.#entries });
    this.requireSpace();
  }
}
