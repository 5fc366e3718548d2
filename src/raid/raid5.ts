import { assert } from "../lib/assert.js";
import { messageOf } from "../lib/errors.js";
import { allSettledOrThrow } from "../lib/mutex.js";
import { BLOCK_BYTES } from "../lib/units.js";
import { maskOf } from "./block-mask.js";
import type { GroupCore, RaidArray } from "./core.js";
import { FullStripes } from "./full-stripes.js";
import type { Raid5Geometry } from "./geometry.js";
import type { Member } from "./member.js";
import { PartialStripes } from "./partial-stripes.js";
import { cutPieces, slicePieces, totalBytes } from "./pieces.js";
import { Raid5Reads } from "./raid5-reads.js";
import { Raid5Scrub } from "./raid5-scrub.js";
import { RangeLock } from "./range-lock.js";
import { type RowsToRebuild, rebuildRaid5 } from "./rebuild-rows.js";
import { reconstruct } from "./reconstruct.js";
import { isSettledRaid5, settleRaid5 } from "./resync.js";
import type { ScrubRun } from "./scrub-run.js";
import type { SlotOwner, StripeSlot } from "./stripe-slot.js";
import { succeeds } from "./succeeds.js";
import { takeBackRaid5 } from "./take-back.js";
import { Traffic } from "./traffic.js";

/** Stripes that one full write locks and writes at a time; a longer write is cut. */
const STRIPES_AT_ONCE = 64;

/** A part of a write that lies in one band. */
interface BandPiece {
  readonly piece: Buffer;
  readonly at: number;
}

/**
 * RAID-5. Whole stripes go straight to the members (full-stripes.ts). Parts of stripes are gathered in slots (stripe-cache.ts), and go to
 * the journal at `flush` and to their place later (partial-stripes.ts). Reads: raid5-reads.ts.
 *
 * Per stripe there is one lock. It is held while anybody writes the stripe on the disks or reads several members of it for parity.
 * Plain reads and writes into a slot take none: they do their work between two awaits, a slot write only while nobody holds the lock.
 */
export class Raid5Array implements RaidArray, SlotOwner {
  readonly stripeBytes: number;
  readonly dataMembers: number;
  readonly #core: GroupCore;
  readonly #lu: number;
  readonly #geometry: Raid5Geometry;
  readonly #bandBytes: number;
  readonly #bandsPerChunk: number;
  readonly #lock = new RangeLock();
  /** Slots of this array by band. */
  readonly #slots = new Map<number, StripeSlot>();
  /** Those that may have something that is not in the journal. */
  readonly #dirty = new Set<StripeSlot>();
  /** The newest journal record of a band, while it may still be replayed. */
  readonly #lastSeq = new Map<number, number>();
  readonly #partial: PartialStripes;
  readonly #full: FullStripes;
  readonly #reads: Raid5Reads;
  /** Whole slots on their way to the members without anybody waiting; a flush does. */
  readonly #background = new Set<Promise<void>>();
  /** Stripes whose lock is held by who puts a slot in place. */
  readonly #destaging = new Set<number>();
  /** Requests under way that began since `quiesce` was last called. */
  #traffic = new Traffic();

  constructor(core: GroupCore, lu: number, geometry: Raid5Geometry) {
    this.#core = core;
    this.#lu = lu;
    this.#geometry = geometry;
    this.stripeBytes = geometry.stripeBytes;
    this.dataMembers = geometry.dataMembers;
    this.#bandBytes = core.bands.bandBytes;
    this.#bandsPerChunk = geometry.chunkBytes / this.#bandBytes;
    this.#partial = new PartialStripes(core, lu, geometry, this.#lastSeq);
    this.#full = new FullStripes(core, geometry);
    this.#reads = new Raid5Reads(core, geometry, this.#lock, this.#slots);
    core.cache.join(this);
  }

  get sizeBytes(): number {
    return this.#geometry.capacityBytes;
  }

  async #counted<T>(action: () => Promise<T>): Promise<T> {
    const traffic = this.#traffic;
    traffic.enter();
    try {
      return await action();
    } finally {
      traffic.leave();
    }
  }

  /** Every request that had begun before this call has ended. */
  quiesce(): Promise<void> {
    const traffic = this.#traffic;
    this.#traffic = new Traffic();
    return traffic.gone();
  }

  // Reading

  #memberAt(at: number): Member {
    return this.#reads.memberAt(at);
  }

  #memberByte(at: number): number {
    return this.#reads.memberByte(at);
  }

  #bandAt(at: number): number {
    return this.#reads.bandAt(at);
  }

  readv(targets: readonly Buffer[], at: number): Promise<void> {
    // Counted from here on: one that waits to be gathered with others has begun, too.
    return this.#counted(() => {
      return this.#core.unsettled.any ? this.#settleAndRead(targets, at) : this.#reads.readv(targets, at);
    });
  }

  async #settleAndRead(targets: readonly Buffer[], at: number): Promise<void> {
    await this.#settleBytes(at, at + totalBytes(targets));
    await this.#reads.readv(targets, at);
  }

  // Writing

  async writev(sources: readonly Buffer[], at: number): Promise<void> {
    const traffic = this.#traffic;
    traffic.enter();
    try {
      await this.#write(sources, at);
    } finally {
      traffic.leave();
    }
  }

  async #write(sources: readonly Buffer[], at: number): Promise<void> {
    const byteCount = totalBytes(sources);
    const end = at + byteCount;
    const fullFrom = Math.ceil(at / this.stripeBytes) * this.stripeBytes;
    const fullTo = Math.floor(end / this.stripeBytes) * this.stripeBytes;
    if (fullFrom >= fullTo) {
      await this.#writePartial(sources, at);
      return;
    }
    if (fullFrom > at) await this.#writePartial(slicePieces(sources, 0, fullFrom - at), at);
    for (let from = fullFrom; from < fullTo; from += STRIPES_AT_ONCE * this.stripeBytes) {
      const part = Math.min(fullTo - from, STRIPES_AT_ONCE * this.stripeBytes);
      await this.#writeFull(part === byteCount ? sources : slicePieces(sources, from - at, part), from, part);
    }
    if (end > fullTo) await this.#writePartial(slicePieces(sources, fullTo - at, end - fullTo), fullTo);
  }

  async #writeFull(sources: readonly Buffer[], at: number, byteCount: number): Promise<void> {
    this.#core.assertAlive();
    const first = at / this.stripeBytes;
    const count = byteCount / this.stripeBytes;
    const last = first + count - 1;
    const hold = this.#lock.tryAcquire(first, last) ?? (await this.#lock.acquire(first, last));
    try {
      this.#supersede(first, last);
      await this.#full.write(sources, first, count);
      if (this.#core.lost.size > 0) await this.#joinAgain(first, last);
    } finally {
      this.#lock.release(hold);
    }
  }

  /** Whole stripes have been written, and their parity with them: all of them takes part in it again. Their lock is held. */
  async #joinAgain(first: number, last: number): Promise<void> {
    const { lost } = this.#core;
    this.#core.losses.written(this.#lu, first * this.stripeBytes, (last + 1 - first) * this.stripeBytes);
    const blocks: number[] = [];
    for (
      let block = (first * this.stripeBytes) / BLOCK_BYTES;
      block < ((last + 1) * this.stripeBytes) / BLOCK_BYTES;
      block++
    ) {
      if (lost.kindOf(this.#lu, block) === "unread") blocks.push(block);
    }
    if (blocks.length > 0) await this.#core.losses.readAgain(this.#lu, blocks);
  }

  takeBack(at: number): Promise<boolean> {
    return this.#counted(() => takeBackRaid5(this.#core, this.#lu, this.#geometry, this, at));
  }

  /** As `TakeBackSide.locked`. */
  locked<T>(at: number, action: () => Promise<T>): Promise<T> {
    const stripe = Math.floor(at / this.stripeBytes);
    return this.#lock.run(stripe, stripe, action);
  }

  /** As `TakeBackSide.isNewer`. */
  isNewer(at: number): boolean {
    const chunk = Math.floor((at % this.stripeBytes) / this.#geometry.chunkBytes);
    const first = (at % this.#bandBytes) / BLOCK_BYTES;
    return ((this.#slots.get(this.#bandAt(at))?.newer(chunk) ?? 0) & maskOf(first, first + 1)) !== 0;
  }

  /** As `TakeBackSide.put`. */
  put(content: Buffer, at: number): boolean {
    return this.#writeSlotNow(content, at);
  }

  /** As `TakeBackSide.settleBlock`. */
  settleBlock(at: number): Promise<void> {
    return this.#settleStripe(at);
  }

  /** Whole stripes are about to be written: slots and journal records of them are of no more use. */
  #supersede(first: number, last: number): void {
    if (this.#slots.size === 0 && this.#lastSeq.size === 0) return;
    for (let band = first * this.#bandsPerChunk; band < (last + 1) * this.#bandsPerChunk; band++) {
      const slot = this.#slots.get(band);
      if (slot !== undefined) this.#release(slot);
      const stripe = Math.floor(band / this.#bandsPerChunk);
      const base = this.#geometry.memberByte(stripe) + (band % this.#bandsPerChunk) * this.#bandBytes;
      this.#partial.revokeBand(band, base, this.#bandBytes);
    }
  }

  #release(slot: StripeSlot): void {
    this.#slots.delete(slot.band);
    this.#dirty.delete(slot);
    this.#core.cache.release(slot);
  }

  async #writePartial(sources: readonly Buffer[], at: number): Promise<void> {
    const pieces: BandPiece[] = [];
    cutPieces(sources, at, this.#bandBytes, (piece, pieceAt) => void pieces.push({ piece, at: pieceAt }));
    for (const { piece, at: pieceAt } of pieces) {
      while (!(await this.#writeSlot(piece, pieceAt))) await this.#core.cache.waitForRoom();
    }
  }

  /** Copy a piece into its slot while nobody writes the stripe in place as a whole. @returns false when there is no room: then nothing is done */
  #writeSlot(piece: Buffer, at: number): boolean | Promise<boolean> {
    const stripe = Math.floor(at / this.stripeBytes);
    if (this.#lock.isFree(stripe, stripe) || this.#destaging.has(stripe)) return this.#writeSlotNow(piece, at);
    return this.#lock.run(stripe, stripe, async () => this.#writeSlotNow(piece, at));
  }

  #writeSlotNow(piece: Buffer, at: number): boolean {
    this.#core.assertAlive();
    const { cache } = this.#core;
    if (!cache.hasRoom(piece.length / BLOCK_BYTES)) return false;
    const slot = this.#slotAt(at);
    if (slot === null) return false;
    const chunk = Math.floor((at % this.stripeBytes) / this.#geometry.chunkBytes);
    slot.fresh.put(chunk, (at % this.#bandBytes) / BLOCK_BYTES, piece);
    cache.touch(slot);
    if (this.#core.lost.size > 0) this.#core.losses.written(this.#lu, at, piece.length);
    this.#dirty.add(slot);
    if (slot.whollyDirty) this.#startWhole(slot);
    return true;
  }

  #slotAt(at: number): StripeSlot | null {
    const band = this.#bandAt(at);
    const known = this.#slots.get(band);
    if (known !== undefined) return known;
    const slot = this.#core.cache.tryTake(this, Math.floor(at / this.stripeBytes), band);
    if (slot !== null) this.#slots.set(band, slot);
    return slot;
  }

  /** A slot has become a whole band of new data: write it now, in the background. One that could not be written is dirty still. */
  #startWhole(slot: StripeSlot): void {
    const writing = this.destage(slot)
      .catch((error: unknown) => this.#core.log.warn({ error: messageOf(error) }, "a stripe could not be put in place"))
      .finally(() => this.#background.delete(writing));
    this.#background.add(writing);
  }

  async writeThrough(sources: readonly Buffer[], at: number): Promise<void> {
    await this.writev(sources, at);
    await this.flush();
  }

  // Making durable, putting in place

  async flush(): Promise<void> {
    const core = this.#core;
    core.guard();
    core.counters.flushes++;
    await this.#flushAll();
    await core.labelsSettled();
    core.assertAlive();
  }

  async #flushAll(): Promise<void> {
    const { failures } = this.#partial;
    await allSettledOrThrow([this.#journalDirty(), this.#flushDirect()]);
    // A band that became whole, and was on its way when it should have been journaled.
    if (this.#partial.busy) await this.#flushDirect();
    // One that did not get there is dirty again, and goes to the journal now.
    if (this.#partial.failures > failures) await this.#flushAll();
  }

  async #journalDirty(): Promise<void> {
    const { cache, journal, without } = this.#core;
    await cache.admitFlush();
    const dirty = [...this.#dirty];
    if (without.journal === true) {
      await allSettledOrThrow(dirty.map((slot) => this.destage(slot)));
      return this.#flushDirect();
    }
    // One that is put in place meanwhile, or given back, leaves the set by itself.
    for (const slot of dirty) {
      while (this.#dirty.has(slot) && !this.#partial.tryJournal(slot)) await journal.makeRoom();
      this.#dirty.delete(slot);
    }
    await journal.commit();
  }

  async #flushDirect(): Promise<void> {
    await Promise.all(this.#background);
    await this.#partial.directWritesEnded();
    await Promise.all(this.#core.members.map((member) => member.flush(true)));
  }

  /** Run with the lock of the slot's stripe, if the slot is still what it was when that is granted. */
  async #locked(slot: StripeSlot, action: (slot: StripeSlot) => Promise<void>): Promise<void> {
    const { band, stripe } = slot;
    if (band < 0) return;
    await this.#lock.run(stripe, stripe, async () => {
      if (slot.owner === this && slot.band === band) await action(slot);
    });
  }

  async destage(slot: StripeSlot): Promise<void> {
    await this.#locked(slot, async (held) => {
      // Writes go on: they do not touch what is on its way.
      this.#destaging.add(held.stripe);
      try {
        await this.#putInPlace(held);
      } finally {
        this.#destaging.delete(held.stripe);
      }
    });
  }

  async #putInPlace(slot: StripeSlot): Promise<void> {
    this.#core.assertAlive();
    try {
      await this.#partial.destage(slot);
    } finally {
      if (slot.fresh.dirtyBlocks > 0) this.#dirty.add(slot);
      else this.#dirty.delete(slot);
    }
    if (slot.empty) this.#release(slot);
  }

  journalAgain(slot: StripeSlot): Promise<void> {
    return this.#partial.journalAgain(slot);
  }

  forgetJournaled(tailSeq: number): void {
    for (const [band, seq] of this.#lastSeq) if (seq < tailSeq) this.#lastSeq.delete(band);
  }

  exclusive<T>(from: number, to: number, action: () => Promise<T>): Promise<T> {
    const { chunkBytes } = this.#geometry;
    const settled = async (): Promise<T> => {
      await settleRaid5(this.#core, this.#geometry, from, to);
      return action();
    };
    return this.#counted(() => this.#lock.run(Math.floor(from / chunkBytes), Math.ceil(to / chunkBytes) - 1, settled));
  }

  async rebuild(rows: RowsToRebuild): Promise<number> {
    const { members, chunkBytes } = this.#geometry;
    let lost = 0;
    const cut = { from: rows.from, to: rows.to, unit: 2 * chunkBytes, parts: members };
    await this.#core.workspace.inLanes(cut, async (from, to, buffers) => {
      lost += await this.exclusive(from, to, () =>
        rebuildRaid5(this.#core, this.#geometry, { ...rows, from, to }, buffers),
      );
    });
    return lost;
  }

  async drain(): Promise<void> {
    await this.#core.cache.drain(this);
    await this.#lock.run(0, this.#geometry.stripeCount - 1, async () => {});
  }

  // While it is spread anew (move-window.ts)

  /**
   * After a crash: a block that the journal has, and that is not in place. Nobody else is here yet.
   * @param slot  the member that it belongs on @param position  byte on that member
   * @returns false when there is no room: then nothing is done
   */
  restore(slot: number, inLu: number, data: Buffer, seq: number): boolean {
    const { chunkBytes } = this.#geometry;
    const stripe = Math.floor(inLu / chunkBytes);
    const chunk = this.#geometry.dataChunk(stripe, slot);
    assert(chunk >= 0, "data does not belong on the parity's member");
    if (this.#core.cache.pool.freeCount === 0) return false;
    const at = stripe * this.stripeBytes + chunk * chunkBytes + (inLu % chunkBytes);
    const held = this.#slotAt(at);
    if (held === null) return false;
    held.fresh.put(chunk, (at % this.#bandBytes) / BLOCK_BYTES, data);
    held.fresh.noteJournaled(seq);
    this.#lastSeq.set(held.band, seq);
    this.#core.cache.changed(held);
    return true;
  }

  /** After a crash: a record that is still in the journal has bytes [from, to) of the member space, which are in one band or a whole chunk. */
  noteRecord(from: number, to: number, seq: number): void {
    for (let band = Math.floor(from / this.#bandBytes); band * this.#bandBytes < to; band++) {
      this.#lastSeq.set(band, Math.max(seq, this.#lastSeq.get(band) ?? 0));
    }
  }

  /** Put the stripes [first, last] in place, as they are now. */
  settle(first: number, last: number): Promise<void> {
    return this.#core.cache.settle(this, first, last);
  }

  /**
   * Other data will be written over the stripes [first, last], which are in place and flushed: no journal record may bring them back. Durable
   * with the next commit of the journal.
   */
  giveUp(first: number, last: number): void {
    for (const slot of this.#slots.values()) {
      assert(slot.stripe < first || slot.stripe > last, "nothing of a stripe that is given up is only in memory");
    }
    this.#supersede(first, last);
  }

  /** A journal record that replay would apply holds all of a stripe: what replaces the stripe as a whole must revoke it. */
  noteJournaled(stripe: number, seq: number): void {
    for (let i = 0; i < this.#bandsPerChunk; i++) this.#lastSeq.set(stripe * this.#bandsPerChunk + i, seq);
  }

  /** It will not be used any more; nothing of it is in memory. */
  leave(): void {
    assert(this.#slots.size === 0, "whoever leaves has put everything in place");
    this.#core.cache.leave(this);
  }

  // Other ways to a block

  async *readAlternatives(target: Buffer, at: number): AsyncIterable<void> {
    await this.#settleBytes(at, at + BLOCK_BYTES);
    await this.#settleStripe(at);
    const stripe = Math.floor(at / this.stripeBytes);
    const member = this.#memberAt(at);
    const ways = [
      () => reconstruct(this.#core, this.#geometry.members, target, member.slot, this.#memberByte(at)),
      () => member.readv([target], this.#memberByte(at)),
    ];
    for (const way of ways) {
      const there = await this.#lock.run(stripe, stripe, () => succeeds(way()));
      if (there) yield;
    }
  }

  /** An ordinary write of one block, put in place at once: parity comes from the data that all members hold. */
  heal(good: Buffer, at: number): Promise<void> {
    return this.#counted(() => this.#heal(good, at));
  }

  async #heal(good: Buffer, at: number): Promise<void> {
    await this.#settleStripe(at);
    const stripe = Math.floor(at / this.stripeBytes);
    const write = async (): Promise<boolean> => {
      // Newer content has come meanwhile: what was found bad will be overwritten.
      if (this.isNewer(at)) return true;
      return this.#writeSlotNow(good, at);
    };
    while (!(await this.#lock.run(stripe, stripe, write))) await this.#core.cache.waitForRoom();
    await this.#settleStripe(at);
    this.#core.counters.healedBlocks++;
    const member = this.#memberAt(at);
    const position = this.#memberByte(at);
    this.#core.emit("healed", { at, position }, member.label.number);
    if (member.online) member.count("checksum", position, true);
  }

  /** Nothing of this block's stripe is only in memory or in the journal. */
  async #settleStripe(at: number): Promise<void> {
    const slot = this.#slots.get(this.#bandAt(at));
    if (slot !== undefined) await this.destage(slot);
  }

  // Scrub

  span(from: number, to: number): { from: number; to: number } {
    const { chunkBytes, stripeBytes } = this.#geometry;
    return { from: (from / chunkBytes) * stripeBytes, to: (to / chunkBytes) * stripeBytes };
  }

  async scrub(from: number, to: number, run: ScrubRun): Promise<void> {
    const { chunkBytes } = this.#geometry;
    const scrub = new Raid5Scrub(this.#core, this.#geometry, run);
    await this.#settled(from / chunkBytes, to / chunkBytes - 1, () => scrub.rows(from, to));
    // Whoever waited to write there has done so now.
    for (const at of scrub.again) {
      const stripe = Math.floor(at / chunkBytes);
      await this.#settled(stripe, stripe, () => scrub.confirm(at));
    }
  }

  /**
   * With the lock of these stripes, and nothing of them only in memory or in the journal. Most slots go to their place before the lock is
   * taken, as everybody's do; few are left for whom others wait meanwhile.
   */
  async #settled(first: number, last: number, action: () => Promise<void>): Promise<void> {
    await this.#core.cache.settle(this, first, last);
    const { chunkBytes } = this.#geometry;
    await this.#lock.run(first, last, async () => {
      await settleRaid5(this.#core, this.#geometry, first * chunkBytes, (last + 1) * chunkBytes);
      await allSettledOrThrow(this.#slotsOf(first, last).map((slot) => this.#putInPlace(slot)));
      await action();
    });
  }

  #slotsOf(first: number, last: number): StripeSlot[] {
    return [...this.#slots.values()].filter(({ stripe }) => first <= stripe && stripe <= last);
  }

  // After an unclean stop

  async resync(from: number, to: number): Promise<number> {
    const { chunkBytes } = this.#geometry;
    let written = 0;
    for (let inLu = from; inLu < to; inLu += chunkBytes) written += await this.#settleRows(inLu, inLu + chunkBytes);
    return written;
  }

  /** The bands of [from, to) of the LU. */
  async #settleBytes(from: number, to: number): Promise<void> {
    const last = Math.ceil(to / this.stripeBytes) - 1;
    const settling: Promise<number>[] = [];
    for (let stripe = Math.floor(from / this.stripeBytes); stripe <= last; stripe++) {
      const rows = this.#bandsIn(stripe, from, to);
      if (!isSettledRaid5(this.#core, this.#geometry, rows.from, rows.to)) {
        settling.push(this.#settleRows(rows.from, rows.to));
      }
    }
    await allSettledOrThrow(settling);
  }

  /** The bands of a stripe that hold bytes of [from, to) of the LU, in bytes of the member space. */
  #bandsIn(stripe: number, from: number, to: number): { from: number; to: number } {
    const { chunkBytes } = this.#geometry;
    const start = stripe * this.stripeBytes;
    const low = Math.max(from - start, 0);
    const high = Math.min(to - start, this.stripeBytes) - 1;
    const whole = Math.floor(low / chunkBytes) < Math.floor(high / chunkBytes);
    const first = whole ? 0 : Math.floor((low % chunkBytes) / this.#bandBytes);
    const end = whole ? this.#bandsPerChunk : Math.floor((high % chunkBytes) / this.#bandBytes) + 1;
    const row = stripe * chunkBytes;
    return { from: row + first * this.#bandBytes, to: row + end * this.#bandBytes };
  }

  /** @param from, to  of the member space: bands of one stripe */
  #settleRows(from: number, to: number): Promise<number> {
    const stripe = Math.floor(from / this.#geometry.chunkBytes);
    return this.#counted(() => this.#lock.run(stripe, stripe, () => settleRaid5(this.#core, this.#geometry, from, to)));
  }
}
