import { assert } from "../lib/assert.js";
import { allSettledOrThrow } from "../lib/mutex.js";
import { BLOCK_BYTES } from "../lib/units.js";
import { forEachBlock, highestOf, lowestOf, maskOf, runsOf } from "./block-mask.js";
import type { GroupCore } from "./core.js";
import type { Raid5Geometry } from "./geometry.js";
import type { Member } from "./member.js";
import { readOrReconstruct } from "./reconstruct.js";
import { settleRaid5 } from "./resync.js";
import type { SlotBlocks, StripeSlot } from "./stripe-slot.js";
import { succeeds } from "./succeeds.js";

/** A data block of a band that neither its member nor the others can tell, so that its column has no parity for what is new in it. */
export interface Unproven {
  readonly chunk: number;
  readonly column: number;
  /** Whose it is. */
  readonly member: Member;
}

/**
 * Parity of some columns of a band: what is new from memory, the other data blocks from the members (reconstruct-write). Old parity is never trusted
 * unless a member is missing or cannot be read; then it is settled first. Where one of the others can be had from nowhere, the old parity and the old
 * content of what is new do as well (read-modify-write), and the one that cannot be read is as good as it was. Called with the stripe's lock held.
 */
export class ParityLoader {
  readonly #core: GroupCore;
  readonly #geometry: Raid5Geometry;
  readonly #sources: number[] = [];

  constructor(core: GroupCore, geometry: Raid5Geometry) {
    this.#core = core;
    this.#geometry = geometry;
  }

  /**
   * @param base    byte of the band on every member
   * @param action  gets a band with the parity of the frozen columns, its own until it resolves; not called when blocks are unproven
   * @returns data blocks of these columns that nothing can prove
   */
  async run(slot: StripeSlot, base: number, action: (parity: Buffer) => Promise<void>): Promise<Unproven[]> {
    const { parities, loads } = this.#core.cache;
    const parity = await parities.acquireMany(1);
    try {
      const loaded = await loads.acquireMany(this.#geometry.dataMembers);
      try {
        const unproven = await this.#load(slot, base, loaded);
        const without = columnsOf(unproven);
        this.xor(slot.frozen, slot.frozen.columns & ~without, loaded, parity[0]!);
        const left = await this.#modify(slot, base, unproven, loaded, parity[0]!);
        if (left.length > 0) return left;
      } finally {
        loads.releaseMany(loaded);
      }
      await action(parity[0]!);
      return [];
    } finally {
      parities.releaseMany(parity);
    }
  }

  async #load(slot: StripeSlot, base: number, loaded: readonly Buffer[]): Promise<Unproven[]> {
    const { columns } = slot.frozen;
    const unproven: Unproven[] = [];
    const reads: Promise<void>[] = [];
    for (let i = 0; i < this.#geometry.dataMembers; i++) {
      const missing = columns & ~slot.frozen.held(i);
      if (missing === 0) continue;
      const member = this.#core.members[this.#geometry.dataMember(slot.stripe, i)]!;
      reads.push(
        this.#loadChunk(member, missing, slot, base, loaded[i]!).then((lost) => {
          forEachBlock(lost, (column) => unproven.push({ chunk: i, column, member }));
        }),
      );
    }
    await allSettledOrThrow(reads);
    return unproven;
  }

  /** One call for all columns, what lies between them included; when that fails, only what is wanted. @returns columns that nothing can prove */
  async #loadChunk(member: Member, missing: number, slot: StripeSlot, base: number, target: Buffer): Promise<number> {
    const part = (first: number, end: number) => target.subarray(first * BLOCK_BYTES, end * BLOCK_BYTES);
    if (this.#core.lost.apartWithin(base, this.#core.bands.bandBytes)) {
      // The parity counts them as zeros.
      const apart = maskWhere(missing, (column) => this.#core.lost.isApart(member.slot, base + column * BLOCK_BYTES));
      forEachBlock(apart, (column) => void part(column, column + 1).fill(0));
      if (apart === missing) return 0;
      if (apart !== 0) return this.#loadRuns(member, missing & ~apart, slot, base, target);
    }
    const first = lowestOf(missing);
    const end = highestOf(missing) + 1;
    if (member.prompt && (await succeeds(member.read(part(first, end), base + first * BLOCK_BYTES)))) return 0;
    return this.#loadRuns(member, missing, slot, base, target);
  }

  async #loadRuns(member: Member, missing: number, slot: StripeSlot, base: number, target: Buffer): Promise<number> {
    const part = (first: number, end: number) => target.subarray(first * BLOCK_BYTES, end * BLOCK_BYTES);
    await this.#settle(slot, base);
    const read = (from: number, to: number) =>
      readOrReconstruct(this.#core, this.#geometry.members, part(from, to), member, base + from * BLOCK_BYTES);
    let unproven = 0;
    for (const [from, to] of runsOf(missing)) {
      if (await succeeds(read(from, to))) continue;
      // Block by block, and twice, before anything is given up.
      for (let column = from; column < to; column++) {
        if ((await succeeds(read(column, column + 1))) || (await succeeds(read(column, column + 1)))) continue;
        unproven |= maskOf(column, column + 1);
      }
    }
    this.#core.assertAlive();
    return unproven;
  }

  /**
   * Columns that something is missing for: old parity, less the old content of what is new, plus the new. The buffer of an unproven block is free for
   * the old parity.
   * @returns what is unproven in columns where that cannot be had either
   */
  async #modify(
    slot: StripeSlot,
    base: number,
    unproven: readonly Unproven[],
    loaded: readonly Buffer[],
    parity: Buffer,
  ): Promise<Unproven[]> {
    const done = new Set<number>();
    for (const column of new Set(unproven.map((one) => one.column))) {
      const spare = unproven.find((one) => one.column === column)!;
      if (await this.#modifyColumn(slot, base, column, loaded, this.#block(loaded[spare.chunk]!, column), parity)) {
        done.add(column);
      }
    }
    this.#core.assertAlive();
    return unproven.filter(({ column }) => !done.has(column));
  }

  /** @returns whether everything that it takes could be read */
  async #modifyColumn(
    slot: StripeSlot,
    base: number,
    column: number,
    loaded: readonly Buffer[],
    oldParity: Buffer,
    parity: Buffer,
  ): Promise<boolean> {
    const { arena, members } = this.#core;
    const position = base + column * BLOCK_BYTES;
    const target = this.#block(parity, column);
    if (!(await succeeds(members[this.#geometry.parityMember(slot.stripe)]!.read(oldParity, position)))) return false;
    arena.xorBuffers(target, [oldParity]);
    for (let i = 0; i < this.#geometry.dataMembers; i++) {
      if ((slot.frozen.held(i) & (1 << column)) === 0) continue;
      const old = this.#block(loaded[i]!, column);
      if (!(await succeeds(members[this.#geometry.dataMember(slot.stripe, i)]!.read(old, position)))) return false;
      arena.xorBuffers(target, [target, old, slot.frozen.buffer(i, column)]);
    }
    return true;
  }

  #block(band: Buffer, column: number): Buffer {
    return band.subarray(column * BLOCK_BYTES, (column + 1) * BLOCK_BYTES);
  }

  async #settle({ stripe }: StripeSlot, base: number): Promise<void> {
    const from = stripe * this.#geometry.chunkBytes + base - this.#geometry.memberByte(stripe);
    await settleRaid5(this.#core, this.#geometry, from, from + this.#core.bands.bandBytes);
  }

  /** @param loaded  what memory has not, band by band; null when it has everything */
  xor(blocks: SlotBlocks, columns: number, loaded: readonly Buffer[] | null, parity: Buffer): void {
    const { arena } = this.#core;
    const target = arena.offsetOf(parity);
    const sources = this.#sources;
    forEachBlock(columns, (column) => {
      sources.length = 0;
      for (let i = 0; i < this.#geometry.dataMembers; i++) {
        if ((blocks.held(i) & (1 << column)) !== 0) sources.push(blocks.offsetOf(i, column));
        else {
          assert(loaded !== null, "what is not in memory was loaded");
          sources.push(arena.offsetOf(loaded[i]!) + column * BLOCK_BYTES);
        }
      }
      arena.kernel.xor(target + column * BLOCK_BYTES, sources, BLOCK_BYTES);
    });
  }
}

function columnsOf(blocks: readonly Unproven[]): number {
  return blocks.reduce((mask, { column }) => mask | maskOf(column, column + 1), 0);
}

function maskWhere(mask: number, holds: (block: number) => boolean): number {
  let found = 0;
  forEachBlock(mask, (block) => {
    if (holds(block)) found |= maskOf(block, block + 1);
  });
  return found;
}
