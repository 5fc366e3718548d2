import { assert } from "../lib/assert.js";
import type { CancelTimer, Clock } from "../lib/clock.js";
import { messageOf } from "../lib/errors.js";
import type { Logger } from "../lib/log.js";
import { allSettledOrThrow, Mutex } from "../lib/mutex.js";
import { BLOCK_BYTES } from "../lib/units.js";
import type { Arena } from "../parity/arena.js";
import type { Journal } from "./journal.js";
import type { Member } from "./member.js";
import { type SlotOwner, StripeSlot } from "./stripe-slot.js";

/** Dirty stripes without a write for so long go to their place. */
const IDLE_MS = 1000;
/** Slots that are freed together: a share of all. */
const EVICT_SHARE = 8;
/** Of the ring: above it the oldest slots go to their place in the background; above the second, flushes wait for that. */
const RELIEF_AT = 0.3;
const ADMIT_AT = 0.5;
/** Of the ring: what one step may add to it, so that several steps at once stay below its end. */
const PORTION = 1 / 8;

export interface StripeCacheOptions {
  readonly arena: Arena;
  readonly members: readonly Member[];
  readonly journal: Journal;
  readonly clock: Clock;
  readonly log: Logger;
  readonly bandBytes: number;
  /** Of all slots together; room for SLOTS_MIN at least. */
  readonly byteCount: number;
}

/** The least that works: a few requests at once, each with a slot of its own. */
const SLOTS_MIN = 8;

interface Waiter {
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Partial stripes of all RAID-5 LUs of a group: a fixed number of slots. Slots hold only what is not yet in place. When they run out,
 * when the journal fills, when nothing was written for a while, and at close, they are put in place.
 */
export class StripeCache {
  readonly #options: StripeCacheOptions;
  #memory: Buffer;
  #slots: StripeSlot[] = [];
  #free: StripeSlot[] = [];
  readonly #owners = new Set<SlotOwner>();
  readonly #relief = new Mutex();
  readonly #checkpoints = new Mutex();
  readonly #waiting: Waiter[] = [];
  #use = 0;
  #evicting = false;
  #idleTimer: CancelTimer | null = null;
  #useAtTimer = 0;
  #closed = false;
  /** The slots are about to be cut anew: none is given out. */
  #cutting = false;
  /** While it is set, flushes wait before they add to the journal. */
  #reserved: Promise<void> | null = null;

  constructor(options: StripeCacheOptions) {
    this.#options = options;
    const { arena, members, bandBytes } = options;
    const least = SLOTS_MIN * bandBytes * members.length;
    this.#memory = arena.take(Math.max(options.byteCount, least), "raid: stripe cache");
    this.#cut(members.length);
    options.journal.onFull = () => this.#relieveFull();
  }

  #cut(memberCount: number): void {
    const { arena, bandBytes } = this.#options;
    const slotBytes = bandBytes * memberCount;
    const base = arena.offsetOf(this.#memory);
    this.#slots = Array.from({ length: Math.floor(this.#memory.length / slotBytes) }, (_, i) => {
      const part = this.#memory.subarray(i * slotBytes, (i + 1) * slotBytes);
      return new StripeSlot(part, base + i * slotBytes, memberCount, bandBytes);
    });
    this.#free = [...this.#slots];
  }

  /**
   * Cut the slots anew, for stripes over `memberCount` members. Everything is in place and out of the journal when `between` runs, and
   * writes of parts of stripes wait until it has ended.
   * @throws StorageError ENOSPC when the arena has no memory for that; then nothing has changed
   */
  async recut(memberCount: number, between: () => Promise<void>): Promise<void> {
    const { arena, bandBytes } = this.#options;
    const least = SLOTS_MIN * bandBytes * memberCount;
    const memory = this.#memory.length >= least ? this.#memory : arena.take(least, "raid: stripe cache, grown");
    this.#cutting = true;
    try {
      await this.drain();
      await this.checkpoint();
      await between();
      this.#memory = memory;
      this.#cut(memberCount);
    } finally {
      this.#cutting = false;
      for (const waiter of this.#waiting.splice(0)) waiter.resolve();
    }
  }

  /**
   * Run `action`, which adds to the journal and must not wait for room in it: the journal is as good as empty when it begins, and flushes
   * wait until it has ended. One at a time.
   */
  async reserve<T>(action: () => Promise<T>): Promise<T> {
    assert(this.#reserved === null, "one reserves the journal at a time");
    let end = (): void => {};
    this.#reserved = new Promise((resolve) => (end = resolve));
    try {
      for (const portion of this.portions(this.#inUse().filter((slot) => slot.firstSeq > 0))) {
        await destageAll(portion);
        await this.checkpoint();
      }
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

  /** A free slot, or null: await `waitForSlot` and look again. */
  tryTake(owner: SlotOwner, stripe: number, band: number): StripeSlot | null {
    const slot = this.#cutting ? undefined : this.#free.pop();
    if (slot === undefined) return null;
    slot.reset(owner, stripe, band);
    this.touch(slot);
    return slot;
  }

  touch(slot: StripeSlot): void {
    slot.lastUse = ++this.#use;
    if (this.#idleTimer === null && !this.#closed) this.#armIdleTimer();
  }

  release(slot: StripeSlot): void {
    assert(slot.owner !== null, "a slot is released once");
    slot.reset(null, 0, -1);
    this.#free.push(slot);
    // One slot, one waiter. Should that one find that it needs none, the end of the eviction wakes the others.
    if (!this.#cutting) this.#waiting.shift()?.resolve();
  }

  /** Until some slot was released; then look again. @throws why none can be, when that is so */
  async waitForSlot(): Promise<void> {
    if (this.#free.length > 0 && !this.#cutting) return;
    const released = new Promise<void>((resolve, reject) => this.#waiting.push({ resolve, reject }));
    if (!this.#evicting && !this.#cutting) void this.#evict();
    await released;
  }

  /** The longest unused. */
  async #evict(): Promise<void> {
    this.#evicting = true;
    try {
      const inUse = this.#inUse().sort((a, b) => a.lastUse - b.lastUse);
      await this.#destage(inUse.slice(0, Math.max(1, Math.floor(this.#slots.length / EVICT_SHARE))));
      if (!this.#cutting) for (const waiter of this.#waiting.splice(0)) waiter.resolve();
    } catch (error) {
      this.#options.log.warn({ error: messageOf(error) }, "stripes could not be put in place");
      for (const waiter of this.#waiting.splice(0)) waiter.reject(error);
    } finally {
      this.#evicting = false;
    }
  }

  #inUse(): StripeSlot[] {
    return this.#slots.filter((slot) => slot.owner !== null);
  }

  /** Cut a list of slots so that each part adds at most a portion of the ring to the journal (one slot at least). */
  portions(slots: readonly StripeSlot[]): StripeSlot[][] {
    const bytesMax = this.#options.journal.ringBytes * PORTION;
    const portions: StripeSlot[][] = [];
    let room = 0;
    for (const slot of slots) {
      // Data and as much parity, at most.
      const bytes = 2 * slot.dirtyBlocks * BLOCK_BYTES;
      if (portions.length === 0 || bytes > room) {
        portions.push([]);
        room = bytesMax;
      }
      portions[portions.length - 1]!.push(slot);
      room -= bytes;
    }
    return portions;
  }

  /** Put these in place, as far as they are what they are now. */
  async #destage(slots: readonly StripeSlot[]): Promise<void> {
    for (const portion of this.portions(slots)) {
      await this.admit();
      await destageAll(portion);
    }
  }

  /** Before a flush adds to the journal: waits while it is too full. What puts stripes in place does not ask. */
  async admit(): Promise<void> {
    while (this.#reserved !== null) await this.#reserved;
    const { journal } = this.#options;
    if (journal.usedBytes > journal.ringBytes * RELIEF_AT) {
      const relieved = this.#relieve();
      if (journal.usedBytes > journal.ringBytes * ADMIT_AT) await relieved;
      else
        relieved.catch((error: unknown) =>
          this.#options.log.warn({ error: messageOf(error) }, "journal relief failed"),
        );
    }
  }

  /** Oldest first, because the tail of the journal is where the oldest is. */
  async #relieve(): Promise<void> {
    if (this.#relief.held) {
      await this.#relief.run(() => {});
      return;
    }
    await this.#relief.run(async () => {
      const { journal } = this.#options;
      while (journal.usedBytes > (journal.ringBytes * RELIEF_AT) / 2) {
        const oldest = this.#inUse().filter((slot) => slot.firstSeq > 0);
        oldest.sort((a, b) => a.firstSeq - b.firstSeq);
        await destageAll(this.portions(oldest)[0] ?? []);
        await this.checkpoint();
        if (oldest.length === 0) break;
      }
    });
  }

  /** The ring has no room for the record in hand: only slots that are wholly in the journal can make some. */
  async #relieveFull(): Promise<void> {
    const { journal } = this.#options;
    const settled = this.#inUse().filter(
      (slot) => slot.firstSeq > 0 && slot.lastSeq <= journal.durableSeq && slot.dirtyColumns === 0,
    );
    await destageAll(settled);
    await this.checkpoint();
  }

  /** Move the journal's tail to the oldest record that is still needed. Everything in place is flushed first. */
  async checkpoint(): Promise<void> {
    await this.#checkpoints.run(async () => {
      const { journal, members } = this.#options;
      let needed = journal.openSeq;
      if (journal.durableSeq + 1 < needed) needed = journal.durableSeq + 1;
      for (const slot of this.#slots) if (slot.firstSeq > 0 && slot.firstSeq < needed) needed = slot.firstSeq;
      await Promise.all(members.map((member) => member.flush(false)));
      await journal.advance(needed);
      for (const owner of this.#owners) owner.forgetJournaled(journal.tailSeq);
    });
  }

  /** Put the stripes [first, last] of an LU in place as they are now; who writes them meanwhile may leave newer content. */
  async settle(owner: SlotOwner, first: number, last: number): Promise<void> {
    await this.#destage(
      this.#inUse().filter((slot) => slot.owner === owner && slot.stripe >= first && slot.stripe <= last),
    );
  }

  /** Everything that is in slots now goes to its place, and out of the journal. Others may be filled meanwhile. */
  async empty(): Promise<void> {
    await this.#destage(this.#inUse().sort((a, b) => a.firstSeq - b.firstSeq));
    await this.checkpoint();
  }

  /** Put everything in place, of one LU or of all. */
  async drain(owner?: SlotOwner): Promise<void> {
    for (;;) {
      const slots = this.#inUse().filter((slot) => owner === undefined || slot.owner === owner);
      if (slots.length === 0) return;
      await this.#destage(slots.sort((a, b) => a.firstSeq - b.firstSeq));
    }
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
      await this.#destage(this.#inUse());
      await this.checkpoint();
    } catch (error) {
      this.#options.log.warn({ error: messageOf(error) }, "idle stripes could not be put in place");
    }
  }

  close(): void {
    this.#closed = true;
    this.#idleTimer?.();
    this.#idleTimer = null;
  }
}

async function destageAll(slots: readonly StripeSlot[]): Promise<void> {
  await allSettledOrThrow(slots.map((slot) => slot.owner?.destage(slot) ?? Promise.resolve()));
}
