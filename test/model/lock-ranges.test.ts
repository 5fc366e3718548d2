/**
 * The lock book against a table with one cell for each byte and owner. Operations are drawn from a seed, which a failure names; after each
 * one every byte is compared, and the stored rows are compared with what the book says.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { LockBook, type LockRows, type Steps } from "../../src/fs/locks/book.js";
import type { LockGrant, LockOwner, LockRequest } from "../../src/fs/locks/contract.js";
import type { Held, Waiting } from "../../src/fs/locks/entries.js";
import { overlaps } from "../../src/fs/locks/range.js";
import { SeededRandom } from "../../src/lib/prng.js";

const BYTES = 24;
const OWNERS = ["a", "b", "c"];
const STEPS = 400;
const INO = 7;
/** Where byte 0 lies: also where a double counts in steps of 256 and a byte is not its neighbour, and at the end of all. */
const BASES = [0n, 2n ** 60n + 120n, 2n ** 64n - BigInt(BYTES)];

class RecordedRows implements LockRows {
  readonly held = new Map<number, Held>();
  readonly waiting = new Map<number, Waiting>();
  putHeld(held: Held): void {
    assert.ok(!this.held.has(held.id));
    this.held.set(held.id, held);
  }
  dropHeld(id: number): void {
    assert.ok(this.held.delete(id));
  }
  putWaiting(waiting: Waiting): void {
    this.waiting.set(waiting.id, { ...waiting });
  }
  markOffered(id: number, heldId: number): void {
    assert.ok(this.waiting.has(id));
    assert.ok(this.held.has(heldId));
  }
  dropWaiting(id: number): void {
    assert.ok(this.waiting.delete(id));
  }
  putShare(): void {}
  dropShare(): void {}
}

interface Wanted {
  readonly owner: string;
  readonly first: number;
  readonly last: number;
  readonly exclusive: boolean;
}

/** 0: free, 1: shared, 2: exclusive; a row of bytes for each owner. Requests wait in a list. */
class NaiveLocks {
  readonly cells = new Map(OWNERS.map((owner) => [owner, new Uint8Array(BYTES)]));
  waiting: Wanted[] = [];
  /** Given, and not confirmed: they stand beside what their owners hold. */
  offers: Wanted[] = [];

  free(wanted: Wanted): boolean {
    const offered = this.offers.some(
      (offer) => offer.owner !== wanted.owner && (offer.exclusive || wanted.exclusive) && meet(offer, wanted),
    );
    return !offered && this.#freeOfHeld(wanted);
  }

  #freeOfHeld(wanted: Wanted): boolean {
    return OWNERS.every(
      (owner) =>
        owner === wanted.owner ||
        this.bytesOf(owner, wanted).every((cell) => cell === 0 || (cell === 1 && !wanted.exclusive)),
    );
  }

  bytesOf(owner: string, { first, last }: Pick<Wanted, "first" | "last">): Uint8Array {
    return this.cells.get(owner)!.subarray(first, last + 1);
  }

  put({ owner, first, last }: Omit<Wanted, "exclusive">, kind: number): void {
    this.bytesOf(owner, { first, last }).fill(kind);
  }

  /** Serve the queue, and confirm what was given, until nothing more can be given. */
  grant(): Wanted[] {
    const granted: Wanted[] = [];
    for (let more = this.#serve(); more.length > 0; ) {
      granted.push(...more);
      more = more.flatMap((offer) => {
        this.offers = this.offers.filter((other) => other !== offer);
        this.put(offer, offer.exclusive ? 2 : 1);
        return this.#serve();
      });
    }
    return granted;
  }

  /** Once, in the order of arrival. */
  #serve(): Wanted[] {
    return this.waiting.filter((wanted) => {
      if (!this.free(wanted)) return false;
      this.waiting = this.waiting.filter((other) => other !== wanted);
      this.offers.push(wanted);
      return true;
    });
  }
}

const meet = (a: Wanted, b: Wanted) => a.first <= b.last && b.first <= a.last;
const ownerOf = (host: string): LockOwner => ({ address: "192.0.2.1", host, svid: 1, oh: Buffer.from(host) });
const requestAt = (base: bigint, { owner, first, last, exclusive }: Wanted): LockRequest => ({
  ...{ owner: ownerOf(owner), first: base + BigInt(first), last: base + BigInt(last), exclusive },
});
const same = (a: Wanted, b: Wanted) =>
  a.owner === b.owner && a.first === b.first && a.last === b.last && a.exclusive === b.exclusive;
const show = ({ owner, first, last, exclusive }: Wanted) => `${owner} ${first}-${last}${exclusive ? "w" : "r"}`;

function cellsOf(rows: RecordedRows, owner: string, base: bigint): Uint8Array {
  const cells = new Uint8Array(BYTES);
  for (const held of rows.held.values()) {
    if (held.who.owner.host !== owner) continue;
    const [first, last] = [Number(held.first - base), Number(held.last - base)];
    assert.ok(
      cells.subarray(first, last + 1).every((cell) => cell === 0),
      "ranges of an owner never overlap",
    );
    cells.fill(held.exclusive ? 2 : 1, first, last + 1);
  }
  return cells;
}

/** Two ranges of one owner that touch are of different kinds. */
function assertMerged(rows: RecordedRows): void {
  const all = [...rows.held.values()];
  for (const a of all) {
    const touching = all.filter(
      (b) =>
        b !== a && b.who === a.who && b.exclusive === a.exclusive && overlaps({ first: a.first, last: a.last + 1n }, b),
    );
    assert.deepEqual(touching, []);
  }
}

function draw(random: SeededRandom): Wanted {
  const first = random.below(BYTES);
  const last = Math.min(BYTES - 1, first + random.below(10));
  return { owner: OWNERS[random.below(OWNERS.length)]!, first, last, exclusive: random.below(2) === 1 };
}

/** All steps, then what was freed to who waits: as a file's lane does. */
function apply<T>(book: LockBook, steps: Steps<T>): T {
  let step = steps.next();
  while (step.done !== true) step = steps.next();
  const serving = book.serve(INO);
  while (serving.next().done !== true);
  return step.value;
}

function run(seed: number, base: bigint): void {
  const requestOf = (wanted: Wanted) => requestAt(base, wanted);
  const random = new SeededRandom(seed);
  const rows = new RecordedRows();
  const book = new LockBook(rows, () => {});
  const model = new NaiveLocks();
  const grants = () => {
    const given: LockGrant[] = [];
    // What is confirmed may free a part of what its owner had locked otherwise.
    for (let more = book.takeGrants(); more.length > 0; more = book.takeGrants()) {
      for (const grant of more) apply(book, book.settle(grant.id, true));
      given.push(...more);
    }
    return given.map((g) => `${g.owner.host} ${g.first - base}-${g.last - base}${g.exclusive ? "w" : "r"}`);
  };
  for (let step = 0; step < STEPS; step++) {
    const wanted = draw(random);
    const at = `seed ${seed} at ${base}, step ${step}: ${show(wanted)}`;
    const action = random.below(10);
    if (action < 5) {
      const wait = action < 3;
      const free = model.free(wanted);
      const { status } = apply(book, book.lock(INO, requestOf(wanted), wait ? Buffer.alloc(0) : null));
      assert.equal(status, free ? "granted" : wait ? "blocked" : "denied", at);
      if (free) {
        model.waiting = model.waiting.filter((waiting) => !same(waiting, wanted));
        model.put(wanted, wanted.exclusive ? 2 : 1);
      } else if (wait && !model.waiting.some((waiting) => same(waiting, wanted))) model.waiting.push(wanted);
    } else if (action < 9) {
      apply(book, book.unlock(INO, requestOf(wanted)));
      model.put(wanted, 0);
      model.waiting = model.waiting.filter(
        (w) => !(w.owner === wanted.owner && w.first === wanted.first && w.last === wanted.last),
      );
    } else {
      const known = model.waiting.some((waiting) => same(waiting, wanted));
      assert.equal(apply(book, book.cancel(INO, requestOf(wanted))), known, at);
      model.waiting = model.waiting.filter((waiting) => !same(waiting, wanted));
    }
    assert.deepEqual(grants().sort(), model.grant().map(show).sort(), at);
    for (const owner of OWNERS)
      assert.deepEqual(cellsOf(rows, owner, base), model.cells.get(owner), `${at}, of ${owner}`);
    assertMerged(rows);
    assert.equal(rows.waiting.size, model.waiting.length, at);
    assert.equal(book.list(0, 1000).length, rows.held.size + rows.waiting.size, at);
  }
}

test("lock book: random operations of three owners, byte by byte", () => {
  const first = Number(process.env.STRIPEWARD_SEED ?? 1);
  for (const base of BASES) for (let seed = first; seed < first + 30; seed++) run(seed, base);
});
