import { assert } from "../lib/assert.js";
import type { CancelTimer, Clock } from "../lib/clock.js";
import { isStorageError, messageOf } from "../lib/errors.js";
import type { Logger } from "../lib/log.js";
import { allSettledOrThrow, Mutex } from "../lib/mutex.js";
import { BLOCK_BYTES } from "../lib/units.js";
import type { Arena } from "../parity/arena.js";
import { BandPool } from "./band-pool.js";
import { BlockPool } from "./block-pool.js";
import type { Journal } from "./journal.js";
import type { Member } from "./member.js";
import { type SlotOwner, StripeSlot } from "./stripe-slot.js";

/** What was not written to for so long goes to its place. */
const IDLE_MS = 1000;
/** Slots that are put in place together: their parity shares journal records. */
const BATCH = 64;
/** Of the blocks, slots or ring, whichever is the shortest: above the first, the oldest go to their place until the second is reached. */
const RELIEF_AT = 0.75;
const RELIEF_TO = 0.6;
/** Of the slots: so many between two flushes of the members. */
const RELIEF_SHARE = 0.25;
/** What does not help so often is not going to: then the journal itself says that it is full. */
const RELIEF_TRIES = 8;
/** A band that waits for a block that cannot be read is tried again after so long, at first and at last. */
const WAIT_MS_MIN = 100;
const WAIT_MS_MAX = 5000;
/** A stripe that is written to here and there has a slot; more than so many would cost more memory than their blocks. */
const SLOTS_MAX = 8192;
/** The least that works: a few requests at once, each with a band of its own. */
const BANDS_MIN = 8;

export interface StripeCacheOptions {
  readonly arena: Arena;
  readonly members: readonly Member[];
  readonly journal: Journal;
  readonly clock: Clock;
  readonly log: Logger;
  readonly bandBytes: number;
  /** Of all blocks together; BANDS_MIN bands of every member at least. */
  readonly byteCount: number;
}

interface Waiter {
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

/**
 * What is newer than in place of all RAID-5 LUs of a group: blocks of a pool, in slots of one band each. When blocks, slots or the journal run short,
 * when nothing
 * was written for a while, and at close, the oldest are put in place.
 *
 * Whatever comes here has a promise of room in the journal's ring, for itself and for the parity that it will need (`StripeSlot.owed`): what is
 * in use of the ring and what is promised never come to more than the ring holds. So the journal is never found full by somebody who has to make
 * room.
 */
export class StripeCache {
  readonly pool: BlockPool;
  /** For who puts a band in place: its parity, until that is done. */
  readonly parities: BandPool;
  /** And what has to be read for it. */
  readonly loads: BandPool;
  readonly #options: StripeCacheOptions;
  readonly #columns: number;
  #dataMembers: number;
  readonly #inUse = new Set<StripeSlot>();
  #free: StripeSlot[] = [];
  readonly #owners = new Set<SlotOwner>();
  readonly #checkpoints = new Mutex();
  #waiting: Waiter[] = [];
  /** Blocks of the ring that slots may still want. */
  #promised = 0;
  #use = 0;
  #relieving: Promise<void> | null = null;
  #idleTimer: CancelTimer | null = null;
  #useAtTimer = 0;
  #closed = false;
  /** The slots are about to be made anew: none is given out. */
  #cutting = false;
  /** What cannot be read is given up, where something new depends on it. */
  givingUp = false;
  #endRest: () => void = () => {};
  /** While it is set, nothing is added to the journal but by who reserved it. */
  #reserved: Promise<void> | null = null;
  /** What is being put back from the journal after a crash needs the records from here on. */
  #restoringSeq = Number.POSITIVE_INFINITY;

  constructor(options: StripeCacheOptions) {
    this.#options = options;
    const { arena, members, bandBytes, journal } = options;
    this.#columns = bandBytes / BLOCK_BYTES;
    this.#dataMembers = members.length - 1;
    const least = BANDS_MIN * bandBytes * members.length;
    const count = Math.floor(Math.max(options.byteCount, least) / BLOCK_BYTES);
    this.pool = new BlockPool(arena, count, "raid: stripe cache");
    const share = Math.floor(count / this.#columns / 32);
    this.parities = new BandPool(arena, bandBytes, Math.min(Math.max(2 * share, 4), BATCH));
    this.loads = new BandPool(arena, bandBytes, Math.max(Math.min(share, BATCH / 2), 2 * this.#dataMembers));
    journal.onFull = () => this.checkpoint();
  }

  /** Blocks of the ring that may be used or promised: all but what a lap and records of revokes may waste. */
  get #ringBlocks(): number {
    const { ringBytes, recordBytes } = this.#options.journal;
    return Math.floor(Math.max(ringBytes - 2 * recordBytes, ringBytes / 2) / BLOCK_BYTES);
  }

  get #ringShare(): number {
    return (this.#options.journal.usedBytes / BLOCK_BYTES + this.#promised) / this.#ringBlocks;
  }

  /** 0 to 1: of blocks, slots and ring, what there is least of. */
  get #fullness(): number {
    return Math.max(1 - this.pool.freeCount / this.pool.count, this.#inUse.size / SLOTS_MAX, this.#ringShare);
  }

  /** The slots hold stripes over `memberCount` members from now on. Everything is in place and out of the journal when `between` runs. */
  async recut(memberCount: number, between: () => Promise<void>): Promise<void> {
    this.#cutting = true;
    try {
      await this.drain();
      await this.checkpoint();
      await between();
      this.#dataMembers = memberCount - 1;
      this.loads.growTo(2 * this.#dataMembers);
      this.#free = [];
    } finally {
      this.#cutting = false;
      this.#wake();
    }
  }

  /**
   * Run `action`, which adds to the journal and must not wait for room in it: the journal is as good as empty when it begins, and everybody else
   * waits until it has ended. One at a time.
   */
  async reserve<T>(action: () => Promise<T>): Promise<T> {
    assert(this.#reserved === null, "one reserves the journal at a time");
    while (this.#relieving !== null) await this.#relieving.catch(() => {});
    let end = (): void => {};
    this.#reserved = new Promise((resolve) => (end = resolve));
    try {
      await this.#destageNow(this.#slots().filter((slot) => slot.firstSeq > 0));
      await this.checkpoint();
      return await action();
    } finally {
      this.#reserved = null;
      end();
    }
  }

  join(owner: SlotOwner): void {
    this.#owners.add(owner);
  }

  leave(owner: SlotOwner): void {
    this.#owners.delete(owner);
  }

  /** May `blocks` more become dirty, in one band? Otherwise await `waitForRoom` and ask again. */
  hasRoom(blocks: number): boolean {
    if (this.#cutting || this.pool.freeCount < blocks) return false;
    const owed = 3 * blocks + 1;
    return this.#options.journal.usedBytes / BLOCK_BYTES + this.#promised + owed <= this.#ringBlocks;
  }

  /** A slot without content, or null: await `waitForRoom`. */
  tryTake(owner: SlotOwner, stripe: number, band: number): StripeSlot | null {
    if (this.#cutting || this.#inUse.size >= SLOTS_MAX) return null;
    const slot = this.#free.pop() ?? new StripeSlot(this.pool, this.#dataMembers, this.#columns);
    slot.reset(owner, stripe, band);
    this.#inUse.add(slot);
    return slot;
  }

  /** After each change of what a slot holds. */
  changed(slot: StripeSlot): void {
    const { owed } = slot;
    this.#promised += owed - slot.promised;
    slot.promised = owed;
  }

  /** A slot was written to. */
  touch(slot: StripeSlot): void {
    slot.lastUse = ++this.#use;
    this.changed(slot);
    this.#stir();
  }

  #stir(): void {
    if (this.#idleTimer === null && !this.#closed) this.#armIdleTimer();
    if (this.#relieving === null && this.#fullness > RELIEF_AT) this.#startRelief();
  }

  release(slot: StripeSlot): void {
    assert(slot.owner !== null, "a slot is released once");
    slot.reset(null, 0, -1);
    this.changed(slot);
    this.#inUse.delete(slot);
    this.#free.push(slot);
    // One slot, one waiter. Should that one find that it needs none, the end of the relief wakes the others.
    if (!this.#cutting) this.#waiting.shift()?.resolve();
  }

  #wake(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const waiter of waiting) waiter.resolve();
  }

  /** Until something has changed; then look again. @throws why there can be no room, when that is so */
  async waitForRoom(): Promise<void> {
    const changed = new Promise<void>((resolve, reject) => this.#waiting.push({ resolve, reject }));
    if (!this.#cutting && this.#relieving === null) this.#startRelief();
    await changed;
  }

  #startRelief(): void {
    const relieving = this.#relieve()
      .catch((error: unknown) => {
        this.#options.log.warn({ error: messageOf(error) }, "stripes could not be put in place");
        for (const waiter of this.#waiting.splice(0)) waiter.reject(error);
      })
      .finally(() => {
        this.#relieving = null;
        if (!this.#cutting) this.#wake();
      });
    this.#relieving = relieving;
  }

  /** The oldest go to their place, share by share, and out of the journal. */
  async #relieve(): Promise<void> {
    await this.admit();
    do {
      const share = Math.max(BATCH, Math.ceil(this.#inUse.size * RELIEF_SHARE));
      await this.#destagePatiently(this.#slots().slice(0, share));
      await this.checkpoint();
      if (this.#allWait) await this.#rest();
    } while (this.#fullness > RELIEF_TO && this.#inUse.size > 0 && !this.#closed);
  }

  get #allWait(): boolean {
    for (const slot of this.#inUse) if (slot.waitsUntilMs === 0) return false;
    return this.#inUse.size > 0;
  }

  /** Nothing can be put in place now: who wants room waits with us. */
  async #rest(): Promise<void> {
    await new Promise<void>((resolve) => {
      const cancel = this.#options.clock.after(WAIT_MS_MIN, () => resolve());
      this.#endRest = () => {
        cancel();
        resolve();
      };
    });
  }

  /** Those in use, those first whose journal records are the oldest: the tail of the journal waits for them. */
  #slots(): StripeSlot[] {
    return [...this.#inUse].sort((a, b) => ageOf(a) - ageOf(b) || a.lastUse - b.lastUse);
  }

  /** Put these in place, as far as they are what they are now. */
  async #destage(slots: readonly StripeSlot[]): Promise<void> {
    for (let at = 0; at < slots.length; at += BATCH) {
      await this.admit();
      await this.#destageAll(slots.slice(at, at + BATCH));
      if (!this.#cutting) this.#wake();
    }
  }

  async #destageNow(slots: readonly StripeSlot[]): Promise<void> {
    for (let at = 0; at < slots.length; at += BATCH) await this.#destageAll(slots.slice(at, at + BATCH));
  }

  async #destageAll(slots: readonly StripeSlot[]): Promise<void> {
    await allSettledOrThrow(slots.map((slot) => this.#destageOne(slot)));
  }

  /** One that has to wait for a block that cannot be read now is left alone for a while, and for longer each time. */
  async #destageOne(slot: StripeSlot): Promise<void> {
    const { owner, band } = slot;
    try {
      await owner?.destage(slot);
      if (slot.band === band) slot.waitsUntilMs = slot.waitMs = 0;
    } catch (error) {
      if (isWaiting(error) && slot.band === band) {
        slot.waitMs = Math.min(Math.max(2 * slot.waitMs, WAIT_MS_MIN), WAIT_MS_MAX);
        slot.waitsUntilMs = this.#options.clock.monotonicMs() + slot.waitMs;
      }
      throw error;
    }
  }

  /** Slots that wait for a block that cannot be read now. */
  get #waitingSlots(): StripeSlot[] {
    return [...this.#inUse].filter((slot) => slot.waitsUntilMs > 0);
  }

  /** Bands that wait for a block that cannot be read now: what is new in them is in memory and in the journal. */
  get stuckCount(): number {
    return this.#waitingSlots.length;
  }

  /** Those that wait are tried once more, and what cannot be read then is given up; then the same for who waits elsewhere. @throws StorageError */
  async giveUp(others: () => Promise<void>): Promise<void> {
    this.givingUp = true;
    try {
      await this.#destageNow(this.#waitingSlots);
      await others();
    } finally {
      this.givingUp = false;
    }
  }

  /** As many as can be put in place are; those that have to wait go into the journal once more, so that its tail may move. */
  async #destagePatiently(slots: readonly StripeSlot[]): Promise<void> {
    const now = this.#options.clock.monotonicMs();
    const due = slots.filter((slot) => slot.waitsUntilMs <= now);
    for (let at = 0; at < due.length; at += BATCH) {
      await this.admit();
      const results = await Promise.allSettled(due.slice(at, at + BATCH).map((slot) => this.#destageOne(slot)));
      if (!this.#cutting) this.#wake();
      for (const result of results) if (result.status === "rejected" && !isWaiting(result.reason)) throw result.reason;
    }
    for (const slot of this.#waitingSlots.slice(0, BATCH)) await slot.owner?.journalAgain(slot);
  }

  /** Before anything is added to the journal for which there is no promise, or that somebody else may have reserved it against. */
  async admit(): Promise<void> {
    while (this.#reserved !== null) await this.#reserved;
  }

  /** Before a flush, whose revokes have no promise of room. */
  async admitFlush(): Promise<void> {
    await this.admit();
    for (let tries = 0; this.#ringShare >= 1 && tries < RELIEF_TRIES; tries++) {
      if (this.#relieving === null) this.#startRelief();
      await this.#relieving;
    }
  }

  /** Move the journal's tail to the oldest record that is still needed. Everything in place is flushed first. */
  async checkpoint(): Promise<void> {
    await this.#checkpoints.run(async () => {
      const { journal, members } = this.#options;
      let needed = Math.min(journal.openSeq, journal.durableSeq + 1, this.#restoringSeq);
      for (const slot of this.#inUse) if (slot.firstSeq > 0 && slot.firstSeq < needed) needed = slot.firstSeq;
      await Promise.all(members.map((member) => member.flush(false)));
      await journal.advance(needed);
      for (const owner of this.#owners) owner.forgetJournaled(journal.tailSeq);
    });
  }

  /** Put the stripes [first, last] of an LU in place as they are now; who writes them meanwhile may leave newer content. */
  async settle(owner: SlotOwner, first: number, last: number): Promise<void> {
    await this.#destage(
      this.#slots().filter((slot) => slot.owner === owner && slot.stripe >= first && slot.stripe <= last),
    );
  }

  /** Everything that is in slots now, and need not wait, goes to its place and out of the journal. Others may be filled meanwhile. */
  async empty(): Promise<void> {
    await this.#destagePatiently(this.#slots());
    await this.checkpoint();
  }

  /** Put everything in place, of one LU or of all. */
  async drain(owner?: SlotOwner): Promise<void> {
    for (;;) {
      const slots = this.#slots().filter((slot) => owner === undefined || slot.owner === owner);
      if (slots.length === 0) return;
      await this.#destage(slots);
    }
  }

  /** As `drain`. @returns false when something has to wait for what cannot be read now: it stays in the journal */
  async drainOrLeave(): Promise<boolean> {
    try {
      await this.drain();
      return true;
    } catch (error) {
      if (!isWaiting(error)) throw error;
      this.#options.log.warn({ bands: this.stuckCount }, "closed with stripes that are not in place");
      return false;
    }
  }

  /**
   * After a crash: `action` puts into slots what the journal has of records that are not in place, oldest first. When it returns false
   * there was no room: what is here goes to its place, and it is called again.
   * @param seq  of the record that is being taken from; the tail stays there
   * @returns null when it is done
   */
  restore(seq: number, action: () => boolean): Promise<void> | null {
    this.#restoringSeq = seq;
    return action() ? null : this.#restoreLater(action);
  }

  async #restoreLater(action: () => boolean): Promise<void> {
    do {
      assert(this.#inUse.size > 0, "an empty cache has room for one band");
      await this.empty();
    } while (!action());
  }

  /** What is here goes to its place as everything does: for want of room, or when nothing has been written for a while. */
  restored(): void {
    this.#restoringSeq = Number.POSITIVE_INFINITY;
    if (this.#inUse.size > 0) this.#stir();
  }

  #armIdleTimer(): void {
    this.#useAtTimer = this.#use;
    this.#idleTimer = this.#options.clock.after(IDLE_MS, () => {
      this.#idleTimer = null;
      if (this.#closed) return;
      if (this.#use !== this.#useAtTimer) this.#armIdleTimer();
      else void this.#settleIdle();
    });
  }

  async #settleIdle(): Promise<void> {
    try {
      await this.empty();
      // Those that wait are tried again.
      if (this.#inUse.size > 0) this.#stir();
    } catch (error) {
      this.#options.log.warn({ error: messageOf(error) }, "idle stripes could not be put in place");
    }
  }

  close(): void {
    this.#closed = true;
    this.#endRest();
    this.#idleTimer?.();
    this.#idleTimer = null;
  }
}

function ageOf(slot: StripeSlot): number {
  return slot.firstSeq > 0 ? slot.firstSeq : Number.MAX_SAFE_INTEGER;
}

function isWaiting(error: unknown): boolean {
  return isStorageError(error) && error.detail.waits === true;
}
