import { must } from "../../lib/assert.js";
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
import type { Held, LockEntry, Party, Reservation, Waiting } from "./entries.js";
import { LOCK_LIMITS, type LockLimits } from "./limits.js";
import { LockedFile } from "./locked-file.js";
import { type Growth, Parties } from "./parties.js";
import { type LockedRange, overlaps, replace } from "./range.js";

/** Where the entries are kept; every call changes one row. */
export interface LockRows {
  putHeld(held: Held): void;
  dropHeld(id: number): void;
  putWaiting(waiting: Waiting): void;
  markOffered(id: number, heldId: number): void;
  dropWaiting(id: number): void;
  putShare(share: Reservation): void;
  dropShare(id: number): void;
}

/** An operation in steps; each says what it cost. Between two steps others may have their turn, on other files. */
export type Steps<T> = Generator<number, T, void>;

/** Costs of steps: a look is about a microsecond. */
const LOOK = 1;
const ROW = 8;

/** Of a row of the table `lock`, but for the names in it. */
const ROW_BYTES = 80;

/**
 * The state of all locks of a file system, in memory and, entry by entry, in rows. An operation that throws has changed nothing.
 *
 * Operations come in steps, so that none of them holds the thread, however much a client has prepared; on one file they do not overlap. What
 * is in the way of others never shrinks before its time: what an owner gains is there with the first step, what it loses goes piece by piece. A crash
 * between two steps leaves rows of one owner that overlap: the newer one is what was asked for last.
 *
 * A new request is held only against locks, not against requests that wait: those are served in the order of their arrival whenever a lock
 * goes (`serve`), each as soon as nothing is in its way. There is no search for deadlocks: NLM has no answer for one that spans hosts.
 */
export class LockBook {
  readonly #files = new Map<number, LockedFile>();
  readonly #entries = new Map<number, LockEntry>();
  readonly #parties: Parties;
  readonly #offers = new Set<Waiting>();
  #promisedBytes = 0;
  #nextId = 1;
  #granted: LockGrant[] = [];
  #changes = 0;

  /** @param requireSpace  throws StorageError ENOSPC when no rows should be added, but for `unlocking` */
  constructor(
    private readonly rows: LockRows,
    private readonly requireSpace: (unlocking: boolean) => void,
    limits: LockLimits = LOCK_LIMITS,
  ) {
    this.#parties = new Parties(limits);
  }

  /** How many rows have changed so far. */
  get changes(): number {
    return this.#changes;
  }

  /** Grants since the last call. */
  takeGrants(): LockGrant[] {
    return this.#granted.splice(0);
  }

  /** Nodes of the trees of a file that were looked at so far: what the work on it is measured by. */
  looks(ino: number): number {
    return this.#files.get(ino)?.looks ?? 0;
  }

  test(ino: number, request: LockRequest): LockHolder | null {
    const holder = this.#files.get(ino)?.conflict(this.#parties.of(request.owner), request);
    return holder === undefined || holder === null ? null : { ...rangeOf(holder), owner: holder.who.owner };
  }

  *lock(ino: number, request: LockRequest, note: Buffer | null): Steps<LockResult> {
    const who = this.#parties.of(request.owner);
    const file = this.#of(ino);
    try {
      const holder = file.conflict(who, request);
      if (holder === null) {
        yield* this.#confirmNear(file, who, request);
        if (file.dead) throw new StorageError("ESTALE", "no such inode");
        const waiting = file.request(who, request);
        yield* this.#place(file, who, request, request.exclusive);
        if (waiting !== undefined) this.#drop(file, waiting);
        return { status: "granted" };
      }
      if (note === null) return { status: "denied", holder: { ...rangeOf(holder), owner: holder.who.owner } };
      if (file.request(who, request) === undefined) this.#wait(file, who, request, note);
      return { status: "blocked" };
    } finally {
      this.#tidy(file);
    }
  }

  *cancel(ino: number, request: LockRequest): Steps<boolean> {
    const file = this.#files.get(ino);
    const waiting = file?.request(this.#parties.of(request.owner), request);
    if (file === undefined || waiting === undefined) return false;
    this.#withdraw(file, waiting);
    yield ROW;
    return true;
  }

  *unlock(ino: number, request: Omit<LockRequest, "exclusive">): Steps<void> {
    const who = this.#parties.of(request.owner);
    const file = this.#files.get(ino);
    if (file === undefined) return;
    yield* this.#confirmNear(file, who, request);
    if (file.dead) return;
    yield* this.#place(file, who, request, null);
    // The client's answer to a grant that it did not expect may overtake its cancelling.
    for (const exclusive of [false, true]) {
      const waiting = file.request(who, { ...request, exclusive });
      if (waiting !== undefined) this.#drop(file, waiting);
    }
    this.#tidy(file);
  }

  *share(ino: number, { owner, access, deny }: ShareRequest): Steps<boolean> {
    const who = this.#parties.of(owner);
    const file = this.#of(ino);
    try {
      if (file.shareBlocked(who, { access, deny })) return false;
      const own = file.shares.get(who);
      if (own === undefined) this.#requireRoom(who, { entries: 1 });
      else this.#drop(file, own);
      const share: Reservation = { kind: "share", id: this.#nextId++, ino, who, access, deny };
      file.addShare(share);
      this.#add(share);
      this.rows.putShare(share);
      yield ROW;
      return true;
    } finally {
      this.#tidy(file);
    }
  }

  *unshare(ino: number, owner: LockOwner): Steps<void> {
    const file = this.#files.get(ino);
    const own = file?.shares.get(this.#parties.of(owner));
    if (file === undefined || own === undefined) return;
    this.#drop(file, own);
    this.#tidy(file);
    yield ROW;
  }

  /** The files in which a client has something now. */
  filesOf(client: LockClient): number[] {
    return this.#parties.filesOf(client);
  }

  /** Everything that a client has in a file goes. */
  *freeIn(ino: number, client: LockClient): Steps<FreedLocks> {
    const freed = { held: 0, waiting: 0, shares: 0 };
    const file = this.#files.get(ino);
    if (file === undefined) return freed;
    const entries = this.#parties.entriesIn(client, ino);
    for (const who of new Set(entries.map((entry) => entry.who))) file.takeOwn(who);
    for (const entry of entries) {
      if (file.dead) return freed;
      if (!this.#entries.has(entry.id)) continue;
      if (entry.kind === "held") freed.held++;
      else if (entry.kind === "waiting") freed.waiting++;
      else freed.shares++;
      this.#drop(file, entry);
      yield ROW;
    }
    this.#tidy(file);
    return freed;
  }

  /** The inode is gone, and at once nothing counts that was asked of it. @returns how its entries go, in as many turns as it takes */
  forget(ino: number): (() => Steps<void>) | null {
    const file = this.#files.get(ino);
    if (file === undefined) return null;
    file.dead = true;
    this.#files.delete(ino);
    return () => this.#clear(file);
  }

  /** Which file a request that was granted is about; null: it is no offer any more. */
  offeredIn(id: number): number | null {
    return this.pending(id) ? must(this.#entries.get(id), "what is pending is there").ino : null;
  }

  *settle(id: number, accepted: boolean): Steps<void> {
    const waiting = this.#entries.get(id);
    if (waiting?.kind !== "waiting" || waiting.offer === null) return;
    const file = this.#files.get(waiting.ino);
    if (file === undefined) return;
    if (accepted) yield* this.#confirm(file, waiting);
    else this.#withdraw(file, waiting);
    yield ROW;
  }

  /**
   * Give requests that wait what is free now, in the order of their arrival. An offer never frees anything: it stands beside what its owner
   * holds until it is confirmed.
   */
  *serve(ino: number): Steps<void> {
    const file = this.#files.get(ino);
    if (file === undefined) return;
    const { freed } = file;
    file.freed = null;
    if (freed === null || file.queue.size === 0) return;
    let blocker: Held | null = null;
    for (const waiting of file.queue) {
      if (file.dead) return;
      if (overlaps(waiting, freed)) {
        blocker = this.#blockerOf(file, waiting, blocker);
        waiting.blocker = blocker;
        if (blocker === null) {
          this.#offer(file, waiting);
          yield 2 * ROW;
        }
      }
      yield LOOK;
    }
  }

  pending(id: number): boolean {
    const waiting = this.#entries.get(id);
    return waiting?.kind === "waiting" && waiting.offer !== null && this.#files.has(waiting.ino);
  }

  offers(): LockGrant[] {
    return [...this.#offers].filter(({ ino }) => this.#files.has(ino)).map(grantOf);
  }

  /** In the order of their numbers, from after `after` on. */
  list(after: number, limit: number): LockRow[] {
    const rows: LockRow[] = [];
    for (const entry of this.#entries.values()) {
      if (rows.length >= limit) break;
      if (entry.id > after && this.#files.has(entry.ino)) rows.push(rowOf(entry));
    }
    return rows;
  }

  clients(limit: number): LockClientRow[] {
    return this.#parties.clients(limit);
  }

  hostsAt(address: string): string[] {
    return this.#parties.hostsAt(address);
  }

  counts(): { readonly entries: number; readonly waiting: number; readonly addresses: number } {
    return this.#parties.counts();
  }

  party(owner: LockOwner): Party {
    return this.#parties.of(owner);
  }

  /** An entry that a row says; what is held first, and those of a kind in the order of their numbers. */
  load(entry: LockEntry): void {
    const file = this.#of(entry.ino);
    this.#add(entry);
    this.#nextId = Math.max(this.#nextId, entry.id + 1);
    if (entry.kind === "held") file.add(entry);
    else if (entry.kind === "share") file.addShare(entry);
    else file.addRequest(entry);
    if (entry.kind !== "waiting") return;
    if (entry.offer === null) this.#promise(entry, 1);
    else this.#offers.add(entry);
  }

  /** Held ranges of one owner in one file, offers aside. What a crash has left of an operation goes. */
  loadOwn(ino: number, who: Party, pieces: readonly Held[]): void {
    const file = this.#of(ino);
    for (const stale of file.putOwn(who, pieces)) this.#drop(file, stale);
  }

  /** All of them are here. A queue was last served before a crash, perhaps not to its end. @returns the files in which somebody waits */
  loaded(): number[] {
    const sorted = [...this.#entries.values()].sort((a, b) => a.id - b.id);
    this.#entries.clear();
    for (const entry of sorted) this.#entries.set(entry.id, entry);
    const waited: number[] = [];
    for (const [ino, file] of this.#files) {
      if (file.queue.size === 0) continue;
      for (const waiting of file.queue) file.noteFreed(waiting);
      waited.push(ino);
    }
    return waited;
  }

  #of(ino: number): LockedFile {
    let file = this.#files.get(ino);
    if (file === undefined) {
      file = new LockedFile(ino);
      this.#files.set(ino, file);
    }
    return file;
  }

  /** A file without locks costs nothing. */
  #tidy(file: LockedFile): void {
    if (!file.dead && file.isEmpty) this.#files.delete(file.ino);
  }

  /**
   * Lock or unlock a range of one owner. Nothing of anybody else is in the way.
   * @param bounded  against the limits, before anything changes
   */
  *#place(
    file: LockedFile,
    who: Party,
    range: Omit<LockedRange, "exclusive">,
    exclusive: boolean | null,
    bounded = true,
  ): Steps<void> {
    const { removed, added } = replace(file.ownNear(who, range), range, exclusive);
    if (bounded) this.#requireRoom(who, { entries: added.length - removed.length }, exclusive === null);
    const pieces = added.map((piece) => this.#hold(file, who, piece)).sort((a, b) => (a.first < b.first ? -1 : 1));
    file.replaceOwn(who, removed, pieces);
    // What sticks out on either side stands anew already: its old rows go in the same step.
    const [first, last] = [removed[0], removed.at(-1)];
    if (first !== undefined) this.#drop(file, first);
    if (last !== undefined && last !== first) this.#drop(file, last);
    yield ROW * (pieces.length + 2);
    for (let at = 1; at < removed.length - 1 && !file.dead; at++) {
      this.#drop(file, must(removed[at], "the index is inside"));
      yield ROW;
    }
  }

  #hold(file: LockedFile, who: Party, { first, last, exclusive }: LockedRange): Held {
    const held: Held = { kind: "held", id: this.#nextId++, ino: file.ino, who, first, last, exclusive, live: true };
    file.add(held);
    this.#add(held);
    this.rows.putHeld(held);
    return held;
  }

  #wait(file: LockedFile, who: Party, request: LockRequest, note: Buffer): void {
    this.#requireRoom(who, { entries: 1, waiting: 1, noteBytes: note.length });
    const { first, last, exclusive } = request;
    const entry = { kind: "waiting", id: this.#nextId++, ino: file.ino, who, first, last, exclusive, note } as const;
    const waiting: Waiting = { ...entry, offer: null, blocker: null };
    file.addRequest(waiting);
    this.#add(waiting);
    this.rows.putWaiting(waiting);
    this.#promise(waiting, 1);
  }

  /** A request that waits becomes a lock as soon as another one goes: there must be room for that row then, whatever has become full. */
  get promisedBytes(): number {
    return this.#promisedBytes;
  }

  #promise({ who: { owner } }: Waiting, sign: 1 | -1): void {
    this.#promisedBytes += sign * (owner.address.length + owner.host.length + owner.oh.length + ROW_BYTES);
  }

  /** What is in the way: mostly what was when it was looked at last, or what is in the way of the one before. */
  #blockerOf(file: LockedFile, waiting: Waiting, last: Held | null): Held | null {
    if (waiting.blocker !== null && isInTheWay(waiting.blocker, waiting)) return waiting.blocker;
    if (last !== null && isInTheWay(last, waiting)) return last;
    return file.conflict(waiting.who, waiting);
  }

  #offer(file: LockedFile, waiting: Waiting): void {
    waiting.offer = this.#hold(file, waiting.who, waiting);
    file.offered(waiting);
    this.#offers.add(waiting);
    this.#promise(waiting, -1);
    this.#changes++;
    this.rows.markOffered(waiting.id, waiting.offer.id);
    this.#granted.push(grantOf(waiting));
  }

  /** The owner does something else with a range that it was offered, so it knows of it. */
  *#confirmNear(file: LockedFile, who: Party, range: Omit<LockedRange, "exclusive">): Steps<void> {
    for (const waiting of file.offersOf(who)) {
      if (overlaps(waiting, range)) yield* this.#confirm(file, waiting);
      yield LOOK;
    }
  }

  /** What was offered joins what its owner holds. */
  *#confirm(file: LockedFile, waiting: Waiting): Steps<void> {
    const { who, exclusive } = waiting;
    const offer = must(waiting.offer, "what is confirmed was offered");
    this.#drop(file, waiting);
    if (file.ownNear(who, waiting).length === 0) {
      file.replaceOwn(who, [], [offer]);
      return;
    }
    this.#drop(file, offer);
    yield* this.#place(file, who, waiting, exclusive, false);
  }

  /** It is wanted no more, and what was offered goes. */
  #withdraw(file: LockedFile, waiting: Waiting): void {
    this.#drop(file, waiting);
    if (waiting.offer !== null) this.#drop(file, waiting.offer);
    this.#tidy(file);
  }

  *#clear(file: LockedFile): Steps<void> {
    const all: Iterable<LockEntry>[] = [
      [...file.exclusive.all()],
      [...file.shared.all()],
      [...file.requests()],
      [...file.shares.values()],
    ];
    for (const entries of all) {
      for (const entry of entries) {
        this.#drop(file, entry);
        yield ROW;
      }
    }
  }

  /** The entry leaves all indexes, its row, and the counts; nothing when it has. */
  #drop(file: LockedFile, entry: LockEntry): void {
    if (!this.#entries.delete(entry.id)) return;
    this.#parties.remove(entry);
    this.#changes++;
    if (entry.kind === "held") {
      entry.live = false;
      file.remove(entry);
      this.rows.dropHeld(entry.id);
    } else if (entry.kind === "waiting") {
      if (entry.offer === null) this.#promise(entry, -1);
      file.removeRequest(entry);
      this.#offers.delete(entry);
      this.rows.dropWaiting(entry.id);
    } else {
      file.removeShare(entry);
      this.rows.dropShare(entry.id);
    }
  }

  #add(entry: LockEntry): void {
    this.#entries.set(entry.id, entry);
    this.#parties.add(entry);
    this.#changes++;
  }

  /** @param unlocking  it splits a range, and will go: where nothing else may be added it still may. @throws StorageError ENOSPC */
  #requireRoom(who: Party, growth: Growth, unlocking = false): void {
    if (growth.entries <= 0) return;
    this.#parties.requireRoom(who, growth);
    this.requireSpace(unlocking);
  }
}

function isInTheWay(held: Held, waiting: Waiting): boolean {
  return held.live && held.who !== waiting.who && (held.exclusive || waiting.exclusive) && overlaps(held, waiting);
}

function rangeOf({ first, last, exclusive }: LockedRange): LockedRange {
  return { first, last, exclusive };
}

function grantOf({ id, ino, who, note, ...range }: Waiting): LockGrant {
  return { id, ino, owner: who.owner, note, ...rangeOf(range) };
}

function rowOf(entry: LockEntry): LockRow {
  const { id, ino } = entry;
  const { owner } = entry.who;
  if (entry.kind === "share") return { id, ino, owner, state: "share", exclusive: false, first: 0n, last: 0n };
  const state = entry.kind === "held" ? "held" : entry.offer === null ? "waiting" : "offered";
  return { id, ino, owner, state, ...rangeOf(entry) };
}
