import { BLOCK_BYTES } from "../lib/units.js";
import { countBlocks, countRuns, forEachRun } from "./block-mask.js";
import type { GroupCore } from "./core.js";
import type { Raid5Geometry } from "./geometry.js";
import { IoBatch } from "./io-batch.js";
import type { OpenRecord } from "./journal.js";
import type { Member } from "./member.js";
import { readOrReconstruct } from "./reconstruct.js";
import type { StripeSlot } from "./stripe-slot.js";

/** Where a slot's band begins on every member. */
export function bandByte(geometry: Raid5Geometry, slot: StripeSlot): number {
  const bandsPerChunk = geometry.chunkBytes / slot.bandBytes;
  return geometry.memberByte(slot.stripe) + (slot.band % bandsPerChunk) * slot.bandBytes;
}

/**
 * What happens to one slot of one RAID-5 LU: load what parity needs, journal, write in place. Every function is called with
 * the stripe's lock held, so nobody changes the slot or the stripe meanwhile.
 */
export class PartialStripes {
  readonly #core: GroupCore;
  readonly #geometry: Raid5Geometry;
  readonly #lastSeq: Map<number, number>;
  readonly #xorSources: number[] = [];

  /** @param lastSeq  per band: the newest journal record that has blocks of it; kept here, read by full-stripe writes */
  constructor(core: GroupCore, geometry: Raid5Geometry, lastSeq: Map<number, number>) {
    this.#core = core;
    this.#geometry = geometry;
    this.#lastSeq = lastSeq;
  }

  #dataMember(slot: StripeSlot, chunk: number): Member {
    return this.#core.members[this.#geometry.dataMember(slot.stripe, chunk)]!;
  }

  #parityMember(slot: StripeSlot): Member {
    return this.#core.members[this.#geometry.parityMember(slot.stripe)]!;
  }

  /** Put the dirty blocks and their columns' parity into a journal record (not yet durable). */
  async journal(slot: StripeSlot): Promise<void> {
    const columns = slot.dirtyColumns;
    if (columns === 0) return;
    const withParity = this.#parityMember(slot).takesWrites;
    if (withParity) {
      await this.#load(slot, columns);
      this.#computeParity(slot, columns);
    }
    let record = this.#tryBegin(slot, columns);
    while (record === null) {
      await this.#core.journal.makeRoom();
      record = this.#tryBegin(slot, columns);
    }
    this.#append(record, slot, withParity ? columns : 0);
    this.#core.counters.partialStripeWrites++;
  }

  /** The open record, if it has room for the slot's dirty blocks and their parity. */
  #tryBegin(slot: StripeSlot, columns: number): OpenRecord | null {
    let entries = countRuns(columns);
    let blocks = countBlocks(columns);
    for (let i = 0; i < this.#geometry.dataMembers; i++) {
      entries += countRuns(slot.dirty[i]!);
      blocks += countBlocks(slot.dirty[i]!);
    }
    return this.#core.journal.tryBegin(entries, blocks);
  }

  #append(record: OpenRecord, slot: StripeSlot, parityColumns: number): void {
    const base = bandByte(this.#geometry, slot) / BLOCK_BYTES;
    for (let i = 0; i < this.#geometry.dataMembers; i++) {
      this.#appendChunk(record, slot, i, this.#dataMember(slot, i), slot.dirty[i]!, base);
      slot.journaled[i]! |= slot.dirty[i]!;
      slot.dirty[i] = 0;
    }
    const parity = this.#geometry.dataMembers;
    this.#appendChunk(record, slot, parity, this.#parityMember(slot), parityColumns, base);
    slot.parityColumns |= parityColumns;
    if (slot.firstSeq === 0) slot.firstSeq = record.seq;
    slot.lastSeq = record.seq;
    this.#lastSeq.set(slot.band, record.seq);
  }

  #appendChunk(record: OpenRecord, slot: StripeSlot, chunk: number, member: Member, mask: number, base: number): void {
    if (!member.takesWrites) return;
    forEachRun(mask, (first, end) => record.add(member.slot, base + first, slot.view(chunk, first, end)));
  }

  /** Have every data block of these columns in memory: reconstruct-write, which never trusts parity unless a member is missing. */
  async #load(slot: StripeSlot, columns: number): Promise<void> {
    const base = bandByte(this.#geometry, slot);
    const reads: Promise<void>[] = [];
    for (let i = 0; i < this.#geometry.dataMembers; i++) {
      forEachRun(columns & ~slot.present[i]!, (first, end) => {
        reads.push(
          this.#readOrReconstruct(this.#dataMember(slot, i), slot.view(i, first, end), base + first * BLOCK_BYTES),
        );
      });
    }
    const results = await Promise.allSettled(reads);
    for (const result of results) if (result.status === "rejected") throw result.reason;
    for (let i = 0; i < this.#geometry.dataMembers; i++) slot.present[i]! |= columns;
  }

  #readOrReconstruct(member: Member, target: Buffer, position: number): Promise<void> {
    return readOrReconstruct(this.#core, this.#geometry.members, target, member, position);
  }

  #computeParity(slot: StripeSlot, columns: number): void {
    const parity = this.#geometry.dataMembers;
    const sources = this.#xorSources;
    forEachRun(columns, (first, end) => {
      sources.length = 0;
      for (let i = 0; i < parity; i++) sources.push(slot.offsetOf(i, first));
      this.#core.arena.kernel.xor(slot.offsetOf(parity, first), sources, (end - first) * BLOCK_BYTES);
    });
  }

  /** Write what is in the journal to its place. The record is durable by now; it stays until the members are flushed. */
  async writeInPlace(slot: StripeSlot): Promise<void> {
    const base = bandByte(this.#geometry, slot);
    const batch = new IoBatch(this.#core.members);
    const add = (chunk: number, member: number, mask: number): void =>
      forEachRun(mask, (first, end) => batch.add(member, base + first * BLOCK_BYTES, slot.view(chunk, first, end)));
    for (let i = 0; i < this.#geometry.dataMembers; i++) {
      add(i, this.#geometry.dataMember(slot.stripe, i), slot.journaled[i]!);
    }
    add(this.#geometry.dataMembers, this.#geometry.parityMember(slot.stripe), slot.parityColumns);
    await this.#writeMarked(batch, base, slot.bandBytes, false);
    this.#core.assertAlive();
    slot.settle();
  }

  /** A slot whose data is wholly newer than the journal: as a full stripe, nothing read, nothing journaled. */
  async writeWhole(slot: StripeSlot): Promise<void> {
    const base = bandByte(this.#geometry, slot);
    this.#computeParity(slot, slot.allColumns);
    const batch = new IoBatch(this.#core.members);
    for (let i = 0; i < this.#geometry.dataMembers; i++) {
      batch.add(this.#geometry.dataMember(slot.stripe, i), base, slot.chunks[i]!);
    }
    batch.add(this.#geometry.parityMember(slot.stripe), base, slot.chunks[this.#geometry.dataMembers]!);
    this.revokeBand(slot.band, base, slot.bandBytes);
    await this.#writeMarked(batch, base, slot.bandBytes, true);
    this.#core.assertAlive();
    this.#core.counters.fullStripeWrites++;
  }

  /** Replay must not undo a full write: records that it may still find for this band are revoked. */
  revokeBand(band: number, base: number, byteCount: number): void {
    const seq = this.#lastSeq.get(band);
    if (seq === undefined) return;
    this.#lastSeq.delete(band);
    if (seq < this.#core.journal.tailSeq) return;
    this.#core.journal.revoke({ memberBlock: base / BLOCK_BYTES, blockCount: byteCount / BLOCK_BYTES, upToSeq: seq });
  }

  async #writeMarked(batch: IoBatch, base: number, byteCount: number, direct: boolean): Promise<void> {
    const { bitmap } = this.#core;
    this.#core.guard();
    const writable = this.#core.writable();
    if (writable !== null) await writable;
    const marked = bitmap.enter(base, base + byteCount);
    try {
      if (marked !== null) await marked;
      await batch.write(direct);
    } finally {
      bitmap.leave(base, base + byteCount);
    }
  }
}
