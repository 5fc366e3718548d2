import type { Held, Party, Reservation, Waiting } from "./entries.js";
import { type ByteRange, type LockedRange, overlaps } from "./range.js";
import { RangeTree } from "./range-tree.js";

/** Bits of access and deny: 1 read, 2 write. */
const SHARE_BITS = [1, 2] as const;

const requestKey = ({ first, last, exclusive }: LockedRange) => `${first} ${last} ${exclusive ? "w" : "r"}`;

/** The locks of one file, in memory, by what is asked of them. Who changes rows and counts is the lock book. */
export class LockedFile {
  readonly exclusive = new RangeTree<Held>();
  readonly shared = new RangeTree<Held>();
  /** Of each owner, by where they begin; they never overlap. Offers are not among them. */
  readonly #own = new Map<Party, Held[]>();
  /** In the order of arrival; those that were offered their lock are not among them. */
  readonly queue = new Set<Waiting>();
  readonly #offers = new Map<Party, Set<Waiting>>();
  readonly #requests = new Map<Party, Map<string, Waiting>>();
  readonly shares = new Map<Party, Reservation>();
  /** How many reservations do so, and how many deny it, by bit. */
  readonly #accessing = [0, 0];
  readonly #denying = [0, 0];
  /** What went since the queue was last served: from where to where. */
  freed: ByteRange | null = null;
  /** The inode is gone: nothing here counts any more. */
  dead = false;

  constructor(readonly ino: number) {}

  get isEmpty(): boolean {
    return this.exclusive.size + this.shared.size + this.#requests.size + this.shares.size === 0;
  }

  /** Nodes of the trees that were looked at so far. */
  get looks(): number {
    return this.exclusive.looks + this.shared.looks;
  }

  conflict(who: Party, wanted: LockedRange): Held | null {
    return this.exclusive.findOthers(wanted, who) ?? (wanted.exclusive ? this.shared.findOthers(wanted, who) : null);
  }

  add(held: Held): void {
    (held.exclusive ? this.exclusive : this.shared).add(held);
  }

  remove(held: Held): void {
    (held.exclusive ? this.exclusive : this.shared).remove(held);
    this.noteFreed(held);
  }

  noteFreed({ first, last }: ByteRange): void {
    const { freed } = this;
    if (freed === null) this.freed = { first, last };
    else this.freed = { first: first < freed.first ? first : freed.first, last: last > freed.last ? last : freed.last };
  }

  /** Those of one owner that overlap or touch a range. */
  ownNear(who: Party, { first, last }: ByteRange): readonly Held[] {
    const own = this.#own.get(who) ?? [];
    // They are apart, so they end in the order in which they begin.
    const at = countWhile(own, (held) => held.last + 1n < first);
    const end = countWhile(own, (held) => held.first <= last + 1n);
    return own.slice(at, end);
  }

  /** `added` stand where `removed`, which lie beside each other, were. */
  replaceOwn(who: Party, removed: readonly Held[], added: readonly Held[]): void {
    const own = this.#own.get(who) ?? [];
    const anchor = removed[0] ?? added[0];
    if (anchor === undefined) return;
    const at = countWhile(own, (held) => held.first < anchor.first);
    own.splice(at, removed.length, ...added);
    if (own.length === 0) this.#own.delete(who);
    else this.#own.set(who, own);
  }

  /** Everything of an owner; afterwards it has nothing. Offers are not among it. */
  takeOwn(who: Party): readonly Held[] {
    const own = this.#own.get(who) ?? [];
    this.#own.delete(who);
    return own;
  }

  /** As rows say: in any order. @returns what overlaps another one of the owner that is newer: it is no lock of its own */
  putOwn(who: Party, pieces: readonly Held[]): Held[] {
    const sorted = [...pieces].sort((a, b) => (a.first < b.first ? -1 : a.first > b.first ? 1 : a.id - b.id));
    const kept: Held[] = [];
    const stale: Held[] = [];
    for (const piece of sorted) {
      let last = kept.at(-1);
      while (last !== undefined && overlaps(last, piece) && last.id < piece.id) {
        stale.push(last);
        kept.pop();
        last = kept.at(-1);
      }
      if (last !== undefined && overlaps(last, piece)) stale.push(piece);
      else kept.push(piece);
    }
    this.#own.set(who, kept);
    return stale;
  }

  request(who: Party, wanted: LockedRange): Waiting | undefined {
    return this.#requests.get(who)?.get(requestKey(wanted));
  }

  /** A request that waits, or one that was offered its lock. */
  addRequest(waiting: Waiting): void {
    const { who } = waiting;
    const own = this.#requests.get(who) ?? new Map<string, Waiting>();
    own.set(requestKey(waiting), waiting);
    this.#requests.set(who, own);
    if (waiting.offer === null) this.queue.add(waiting);
    else this.#addOffer(waiting);
  }

  removeRequest(waiting: Waiting): void {
    const { who } = waiting;
    const own = this.#requests.get(who);
    own?.delete(requestKey(waiting));
    if (own?.size === 0) this.#requests.delete(who);
    this.queue.delete(waiting);
    const offers = this.#offers.get(who);
    offers?.delete(waiting);
    if (offers?.size === 0) this.#offers.delete(who);
  }

  offered(waiting: Waiting): void {
    this.queue.delete(waiting);
    this.#addOffer(waiting);
  }

  /** What an owner was offered, and has not confirmed. */
  offersOf(who: Party): Iterable<Waiting> {
    return this.#offers.get(who) ?? [];
  }

  *requests(): Generator<Waiting> {
    for (const own of this.#requests.values()) yield* own.values();
  }

  /** Whether a reservation of somebody else is in the way. */
  shareBlocked(who: Party, { access, deny }: { readonly access: number; readonly deny: number }): boolean {
    const own = this.shares.get(who);
    return SHARE_BITS.some((bit, at) => {
      const accessing = (this.#accessing[at] ?? 0) - bitOf(own?.access ?? 0, bit);
      const denying = (this.#denying[at] ?? 0) - bitOf(own?.deny ?? 0, bit);
      return ((deny & bit) !== 0 && accessing > 0) || ((access & bit) !== 0 && denying > 0);
    });
  }

  addShare(share: Reservation): void {
    this.shares.set(share.who, share);
    this.#countShare(share, 1);
  }

  removeShare(share: Reservation): void {
    this.shares.delete(share.who);
    this.#countShare(share, -1);
  }

  #countShare({ access, deny }: Reservation, sign: 1 | -1): void {
    for (const [at, bit] of SHARE_BITS.entries()) {
      this.#accessing[at] = (this.#accessing[at] ?? 0) + sign * bitOf(access, bit);
      this.#denying[at] = (this.#denying[at] ?? 0) + sign * bitOf(deny, bit);
    }
  }

  #addOffer(waiting: Waiting): void {
    const offers = this.#offers.get(waiting.who) ?? new Set<Waiting>();
    offers.add(waiting);
    this.#offers.set(waiting.who, offers);
  }
}

function bitOf(bits: number, bit: number): number {
  return (bits & bit) === 0 ? 0 : 1;
}

/** How many of the items, from the first on, are so. All that are so stand before all that are not. */
function countWhile<T>(items: readonly T[], isSo: (item: T) => boolean): number {
  let from = 0;
  let to = items.length;
  while (from < to) {
    const middle = (from + to) >> 1;
    const item = items[middle];
    if (item !== undefined && isSo(item)) from = middle + 1;
    else to = middle;
  }
  return from;
}
