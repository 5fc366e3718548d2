import { StorageError } from "../lib/errors.js";
import { BLOCK_BYTES } from "../lib/units.js";
import { countBlocks, countRuns, forEachBlock, forEachRun, maskOf } from "./block-mask.js";
import type { GroupCore } from "./core.js";
import type { Raid5Geometry } from "./geometry.js";
import { IoBatch } from "./io-batch.js";
import type { OpenRecord } from "./journal.js";
import type { Member } from "./member.js";
import { ParityLoader, type Unproven } from "./parity-loader.js";
import type { SlotBlocks, StripeSlot } from "./stripe-slot.js";
import { succeeds } from "./succeeds.js";

const ZEROS = Buffer.alloc(BLOCK_BYTES);

/** What is new cannot be put in place before a block of another member can be read: it is tried again later. */
export class Waiting extends StorageError {
  constructor(
    readonly member: Member,
    readonly position: number,
  ) {
    super("EIO", `disk #${member.label.number} cannot be read at byte ${position}: what depends on it waits`, {
      ...{ position, waits: true },
    });
  }
}

/** Where a slot's band begins on every member. */
export function bandByte(geometry: Raid5Geometry, band: number, bandBytes: number): number {
  const bandsPerChunk = geometry.chunkBytes / bandBytes;
  return geometry.memberByte(Math.floor(band / bandsPerChunk)) + (band % bandsPerChunk) * bandBytes;
}

/**
 * What happens to one slot of one RAID-5 LU. First its data goes into the journal, alone: nothing is read for that, and no lock is needed. Later the
 * band is put
 * in place, with the stripe's lock held: parity is computed, and is in the journal before the first block in place is written
 * (docs/decisions/0016-parity-deferred.md).
 */
export class PartialStripes {
  readonly #core: GroupCore;
  readonly #lu: number;
  readonly #geometry: Raid5Geometry;
  readonly #lastSeq: Map<number, number>;
  readonly #loader: ParityLoader;
  /** Under way to the members, and not in the journal. */
  readonly #undurable = new Set<Promise<unknown>>();
  /** How often something did not get to its place. */
  failures = 0;

  /** @param lastSeq  per band: the newest journal record that has blocks of it; kept here, read by full-stripe writes */
  constructor(core: GroupCore, lu: number, geometry: Raid5Geometry, lastSeq: Map<number, number>) {
    this.#core = core;
    this.#lu = lu;
    this.#geometry = geometry;
    this.#lastSeq = lastSeq;
    this.#loader = new ParityLoader(core, geometry);
  }

  #base(slot: StripeSlot): number {
    return bandByte(this.#geometry, slot.band, this.#core.bands.bandBytes);
  }

  #parityMember(slot: StripeSlot): Member {
    return this.#core.members[this.#geometry.parityMember(slot.stripe)]!;
  }

  // Into the journal

  /** Put the dirty blocks into the open record, now. @returns false when it takes no more: await `Journal.makeRoom` and ask again */
  tryJournal(slot: StripeSlot): boolean {
    const { fresh } = slot;
    let entries = 0;
    let blocks = 0;
    for (const mask of fresh.dirty) {
      entries += countRuns(mask);
      blocks += countBlocks(mask);
    }
    if (blocks === 0) return true;
    // The parity on its way counts for everything up to a record; this comes after that record.
    if (slot.frozen.lastSeq === this.#core.journal.openSeq) return false;
    const record = this.#core.journal.tryBegin(entries, blocks);
    if (record === null) return false;
    this.#addData(record, slot, fresh);
    fresh.noteJournaled(record.seq);
    this.#lastSeq.set(slot.band, record.seq);
    this.#core.cache.changed(slot);
    this.#core.counters.partialStripeWrites++;
    return true;
  }

  /** Also for members that do not take writes: what they should hold is known from nowhere else until the parity is there. */
  #addData(record: OpenRecord, slot: StripeSlot, blocks: SlotBlocks): void {
    const base = this.#base(slot) / BLOCK_BYTES;
    for (let i = 0; i < this.#geometry.dataMembers; i++) {
      const member = this.#geometry.dataMember(slot.stripe, i);
      forEachRun(blocks.dirty[i]!, (first, end) => record.addData(member, base + first, blocks.buffers(i, first, end)));
    }
  }

  /** @returns once the parity is in a record, which is not durable yet: its seq */
  async #journalParity(slot: StripeSlot, parity: Buffer, columns: number): Promise<number> {
    const { journal } = this.#core;
    const base = this.#base(slot) / BLOCK_BYTES;
    let record = journal.tryBegin(countRuns(columns), countBlocks(columns));
    while (record === null) {
      await journal.makeRoom();
      record = journal.tryBegin(countRuns(columns), countBlocks(columns));
    }
    const { seq } = record;
    forEachRun(columns, (first, end) => {
      const part = parity.subarray(first * BLOCK_BYTES, end * BLOCK_BYTES);
      record.addParity(this.#parityMember(slot).slot, base + first, part, slot.frozen.lastSeq);
    });
    slot.parityJournaled = true;
    this.#core.cache.changed(slot);
    this.#lastSeq.set(slot.band, seq);
    return seq;
  }

  // In place. Called with the stripe's lock held.

  /** Everything that the slot has now goes to its place. What is written meanwhile stays in the slot. */
  async destage(slot: StripeSlot): Promise<void> {
    const { without, journal } = this.#core;
    if (this.#core.lost.unreadCount > 0) await this.#joinAgain(slot);
    while (without.journal !== true && !slot.whollyDirty && !this.tryJournal(slot)) await journal.makeRoom();
    const whole = slot.whollyDirty;
    slot.freeze();
    const writing = this.#putFrozenInPlace(slot, whole);
    const undurable = slot.frozen.dirtyBlocks > 0;
    if (undurable) this.#undurable.add(writing);
    const unproven = await writing.finally(() => this.#undurable.delete(writing));
    if (unproven.length === 0) return;
    for (const block of unproven) await this.#setApart(slot, block, unproven);
    await this.destage(slot);
  }

  #positionOf(slot: StripeSlot, column: number): number {
    return this.#base(slot) + column * BLOCK_BYTES;
  }

  /** Byte of the LU where a block begins. */
  #at(slot: StripeSlot, chunk: number, column: number): number {
    const { chunkBytes, stripeBytes } = this.#geometry;
    const inChunk = this.#positionOf(slot, column) - this.#geometry.memberByte(slot.stripe);
    return slot.stripe * stripeBytes + chunk * chunkBytes + inChunk;
  }

  /**
   * A data block of a column that neither its member nor the others can tell: there is no parity for what is new in that column, and the old parity
   * cannot be kept either. Where nothing is lost by it, the block takes no part in the parity any more, as the labels say first; it is not written.
   * Otherwise what is new stays in memory and in the journal: the block is waited for, until a person gives it up.
   * @throws Waiting
   */
  async #setApart(slot: StripeSlot, { chunk, column, member }: Unproven, all: readonly Unproven[]): Promise<void> {
    const { cache } = this.#core;
    if (this.#isNew(slot, chunk, column)) return;
    const position = this.#positionOf(slot, column);
    if (!cache.givingUp && !(await this.#bearsApart(slot, column, all))) throw new Waiting(member, position);
    if (this.#isNew(slot, chunk, column)) return;
    // Of one that is not there nothing remains: what a new member gets there agrees with the parity, and is not the old content.
    const at = this.#at(slot, chunk, column);
    if (member.online) await this.#core.losses.lose({ lu: this.#lu, at, member, position, kind: "unread" });
    else await this.#giveUp(slot, { chunk, column, member });
  }

  #isNew(slot: StripeSlot, chunk: number, column: number): boolean {
    return (slot.newer(chunk) & maskOf(column, column + 1)) !== 0;
  }

  /**
   * All that is unproven stands on members that are there, and may be read later; and the old parity tells nothing of it: there is none, or what is
   * new replaces blocks that no member in use holds.
   */
  async #bearsApart(slot: StripeSlot, column: number, all: readonly Unproven[]): Promise<boolean> {
    const { lost, members } = this.#core;
    if (lost.full || this.#core.losses.isMoving(this.#lu)) return false;
    if (all.some((one) => one.column === column && !one.member.online)) return false;
    const parity = this.#parityMember(slot);
    const position = this.#positionOf(slot, column);
    if (!parity.online && !(await succeeds(parity.read(Buffer.allocUnsafe(BLOCK_BYTES), position)))) return true;
    for (let i = 0; i < this.#geometry.dataMembers; i++) {
      if (!this.#isNew(slot, i, column)) continue;
      if (members[this.#geometry.dataMember(slot.stripe, i)]!.online) return false;
    }
    return true;
  }

  /** Lost for its readers, as the labels say first; zeros for the parity, which go the way of all new data. */
  async #giveUp(slot: StripeSlot, { chunk, column, member }: Unproven): Promise<void> {
    const { cache } = this.#core;
    const position = this.#positionOf(slot, column);
    const at = this.#at(slot, chunk, column);
    await this.#core.losses.lose({ lu: this.#lu, at, member, position, kind: "lost" });
    if (this.#isNew(slot, chunk, column)) return;
    if (cache.pool.freeCount === 0) throw new StorageError("EIO", "no memory to give a block up", { position });
    slot.fresh.put(chunk, column, ZEROS);
    cache.changed(slot);
  }

  /**
   * New content for blocks that take no part in the parity: they are to take part again. With the new content safe in the journal, zeros are written
   * in place, which is what the parity counts; then the labels forget the block, and the new content goes its usual way. At every point in between a
   * crash leaves a column that agrees with what the labels say.
   */
  async #joinAgain(slot: StripeSlot): Promise<void> {
    const { journal, lost, without } = this.#core;
    const apart: { member: Member; position: number; block: number }[] = [];
    for (let i = 0; i < this.#geometry.dataMembers; i++) {
      const member = this.#core.members[this.#geometry.dataMember(slot.stripe, i)]!;
      forEachBlock(slot.newer(i), (column) => {
        const position = this.#positionOf(slot, column);
        if (lost.isApart(member.slot, position))
          apart.push({ member, position, block: this.#at(slot, i, column) / BLOCK_BYTES });
      });
    }
    if (apart.length === 0) return;
    while (without.journal !== true && !this.tryJournal(slot)) await journal.makeRoom();
    await this.#journaled(slot.fresh.lastSeq);
    const batch = new IoBatch(this.#core.members);
    for (const { member, position } of apart) batch.add(member.slot, position, ZEROS);
    await this.#writeMarked(batch, this.#base(slot), true);
    await Promise.all(apart.map(({ member }) => member.flush(false)));
    await this.#core.losses.readAgain(
      this.#lu,
      apart.map(({ block }) => block),
    );
    this.#core.assertAlive();
  }

  /** As SlotOwner. Until the new record is durable the old ones count. */
  async journalAgain(slot: StripeSlot): Promise<void> {
    const { band, fresh } = slot;
    if (!slot.frozen.empty || fresh.empty) return;
    fresh.soil();
    this.#core.cache.changed(slot);
    if (!this.tryJournal(slot)) return;
    const seq = fresh.lastSeq;
    await this.#core.journal.durable(seq);
    if (slot.band === band && slot.fresh === fresh && fresh.firstSeq > 0)
      fresh.firstSeq = Math.max(fresh.firstSeq, seq);
  }

  /** Something is on its way, and not in the journal. */
  get busy(): boolean {
    return this.#undurable.size > 0;
  }

  /** What is on its way and not in the journal is on the members, or dirty again. */
  async directWritesEnded(): Promise<void> {
    await Promise.allSettled(this.#undurable);
  }

  async #putFrozenInPlace(slot: StripeSlot, whole: boolean): Promise<Unproven[]> {
    try {
      const unproven = whole ? await this.#writeWhole(slot) : await this.#writePart(slot);
      if (unproven.length === 0) slot.settle();
      else slot.thaw();
      return unproven;
    } catch (error) {
      slot.thaw();
      this.failures++;
      throw error;
    } finally {
      this.#core.cache.changed(slot);
    }
  }

  async #writePart(slot: StripeSlot): Promise<Unproven[]> {
    const { without } = this.#core;
    const { columns } = slot.frozen;
    // Without a journal the flush that is to come must flush these (Without.journal).
    const direct = without.journal === true;
    const withParity = this.#parityMember(slot).takesWrites && without.parity !== true;
    if (!withParity) {
      await this.#journaled(slot.frozen.lastSeq);
      await this.#write(slot, null, 0, direct);
      return [];
    }
    return this.#loader.run(slot, this.#base(slot), async (parity) => {
      const seq = direct ? 0 : await this.#journalParity(slot, parity, columns);
      await this.#journaled(seq);
      await this.#write(slot, parity, columns, direct);
    });
  }

  /** The record is durable; all before it are, too. */
  async #journaled(seq: number): Promise<void> {
    if (this.#core.without.journal !== true) await this.#core.journal.durable(seq);
  }

  /** @param direct  an LU's flush has to flush it: the journal has not the same bytes */
  async #write(slot: StripeSlot, parity: Buffer | null, columns: number, direct: boolean): Promise<void> {
    const base = this.#base(slot);
    const batch = new IoBatch(this.#core.members);
    for (let i = 0; i < this.#geometry.dataMembers; i++) {
      const member = this.#geometry.dataMember(slot.stripe, i);
      forEachBlock(slot.frozen.held(i), (column) => {
        batch.add(member, base + column * BLOCK_BYTES, slot.frozen.buffer(i, column));
      });
    }
    if (parity !== null) {
      forEachRun(columns, (first, end) => {
        const part = parity.subarray(first * BLOCK_BYTES, end * BLOCK_BYTES);
        batch.add(this.#parityMember(slot).slot, base + first * BLOCK_BYTES, part);
      });
    }
    await this.#writeMarked(batch, base, direct);
    this.#core.assertAlive();
  }

  /** A band whose data is wholly newer than the journal: as a full stripe, nothing read, nothing journaled. */
  async #writeWhole(slot: StripeSlot): Promise<Unproven[]> {
    const { bands, counters } = this.#core;
    const parity = await bands.acquireMany(1);
    try {
      this.#loader.xor(slot.frozen, slot.allColumns, null, parity[0]!);
      this.revokeBand(slot.band, this.#base(slot), bands.bandBytes);
      await this.#write(slot, parity[0]!, slot.allColumns, true);
      counters.fullStripeWrites++;
      return [];
    } finally {
      bands.releaseMany(parity);
    }
  }

  /** Replay must not undo a full write: records that it may still find for this band are revoked. */
  revokeBand(band: number, base: number, byteCount: number): void {
    const seq = this.#lastSeq.get(band);
    if (seq === undefined) return;
    this.#lastSeq.delete(band);
    if (seq < this.#core.journal.tailSeq) return;
    this.#core.journal.revoke({ memberBlock: base / BLOCK_BYTES, blockCount: byteCount / BLOCK_BYTES, upToSeq: seq });
  }

  async #writeMarked(batch: IoBatch, base: number, direct: boolean): Promise<void> {
    const { bitmap, bands } = this.#core;
    this.#core.guard();
    const writable = this.#core.writable();
    if (writable !== null) await writable;
    const end = base + bands.bandBytes;
    const marked = bitmap.enter(base, end);
    try {
      if (marked !== null) await marked;
      await batch.write(direct);
    } finally {
      bitmap.leave(base, end);
    }
  }
}
