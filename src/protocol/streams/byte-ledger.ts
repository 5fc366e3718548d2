import { assert } from "../../lib/assert.js";

/** Grants that one turn of the event loop gives: each may begin a request. */
const GRANTS_PER_TURN = 16;

export interface LedgerBounds {
  /** All shares together. */
  readonly bytesMax: number;
  /** What a share may hold however little is left, so that who holds nothing is served beside those who hold all … */
  readonly shareBytesMin: number;
  /** … until all of it together is so much above `bytesMax`. */
  readonly overrunBytesMax: number;
}

interface Waiter {
  readonly byteCount: number;
  readonly granted: () => void;
}

/**
 * Memory that many share, as bytes in a book. A share may hold as much as is free for others (dynamic thresholds, Choudhury and Hahne 1998, as
 * switches divide their packet memory): one alone takes half, two a third each, and there is always room left for who comes next.
 *
 * What cannot be had at once is waited for: first come, first served within a share; shares take turns. A request that fits only when something
 * becomes free altogether holds back the larger requests behind it, so that it is not overtaken for ever.
 */
export class ByteLedger {
  used = 0;
  /** The shares in which somebody waits, in the order in which they are looked at. */
  readonly #waiting = new Set<ByteShare>();
  /** It waits for what is in use everywhere, not in its own share. */
  #first: ByteShare | null = null;
  #scheduled = false;

  constructor(readonly bounds: LedgerBounds) {
    assert(bounds.shareBytesMin > 0, "who holds nothing can begin");
  }

  get freeBytes(): number {
    return Math.max(0, this.bounds.bytesMax - this.used);
  }

  /** Somebody waits for room. */
  get pressed(): boolean {
    return this.#waiting.size > 0;
  }

  /** @param bytesMax  more than this it never holds, whatever is free */
  share(bytesMax = Number.POSITIVE_INFINITY): ByteShare {
    return new ByteShare(this, bytesMax);
  }

  /** For shares alone: whether somebody else goes first. */
  heldBack(share: ByteShare): boolean {
    return this.#first !== null && this.#first !== share;
  }

  waits(share: ByteShare): void {
    this.#waiting.add(share);
    // Nothing may be in use by now, then nobody comes back to it.
    this.#drainLater();
  }

  freed(): void {
    if (this.#waiting.size > 0) this.#drainLater();
  }

  #drainLater(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      this.#drain();
    });
  }

  /** One grant a share and round, so that nobody waits behind another's whole queue. */
  #drain(): void {
    let grants = 0;
    this.#first = null;
    for (const share of [...this.#waiting]) {
      const outcome = grants < GRANTS_PER_TURN ? share.serve() : "later";
      if (outcome === "served") {
        grants++;
        // Behind the others, or away.
        this.#waiting.delete(share);
        if (share.waitingCount > 0) this.#waiting.add(share);
      } else if (outcome === "all in use") this.#first ??= share;
    }
    if (grants > 0 && this.#waiting.size > 0) this.#drainLater();
  }
}

/** What one client holds of a ledger. */
export class ByteShare {
  held = 0;
  readonly #queue: Waiter[] = [];

  constructor(
    readonly ledger: ByteLedger,
    public bytesMax: number,
  ) {}

  get waitingCount(): number {
    return this.#queue.length;
  }

  /** Nothing more may begin. */
  get full(): boolean {
    const { held } = this;
    if (held < this.ledger.bounds.shareBytesMin && held < this.bytesMax) return this.#overrun(0);
    return held >= this.bytesMax || held >= this.ledger.freeBytes;
  }

  /** What is there already is counted, whether there was room or not. */
  take(byteCount: number): void {
    this.held += byteCount;
    this.ledger.used += byteCount;
  }

  give(byteCount: number): void {
    this.held -= byteCount;
    this.ledger.used -= byteCount;
    assert(this.held >= 0, "a share gives back what it took");
    this.ledger.freed();
  }

  /** @returns false when there is no room, or others wait for it */
  tryTake(byteCount: number): boolean {
    if (this.#queue.length > 0 || !this.#fits(byteCount)) return false;
    if (this.ledger.heldBack(this) && this.held + byteCount > this.ledger.bounds.shareBytesMin) return false;
    this.take(byteCount);
    return true;
  }

  /** Called later, when `byteCount` bytes have been taken. With 0: when something may begin again. */
  whenRoom(byteCount: number, granted: () => void): void {
    this.#queue.push({ byteCount, granted });
    this.ledger.waits(this);
  }

  /** For the ledger alone. */
  serve(): "served" | "own share in use" | "all in use" | "later" {
    const next = this.#queue[0];
    if (next === undefined) return "served";
    const { byteCount } = next;
    const fits = byteCount === 0 ? !this.full : this.#fits(byteCount);
    const waitsForAll = byteCount > this.ledger.freeBytes && this.held <= byteCount && byteCount <= this.bytesMax;
    if (!fits) return waitsForAll ? "all in use" : "own share in use";
    if (this.ledger.heldBack(this) && this.held + byteCount > this.ledger.bounds.shareBytesMin) return "later";
    this.#queue.shift();
    this.take(byteCount);
    next.granted();
    return "served";
  }

  #fits(byteCount: number): boolean {
    const after = this.held + byteCount;
    if (after > this.bytesMax) return false;
    if (after <= this.ledger.bounds.shareBytesMin) return !this.#overrun(byteCount);
    return after <= this.ledger.freeBytes;
  }

  #overrun(byteCount: number): boolean {
    const { bytesMax, overrunBytesMax } = this.ledger.bounds;
    return this.ledger.used + byteCount > bytesMax + overrunBytesMax;
  }
}
