import { assert } from "../lib/assert.js";
import { isStorageError } from "../lib/errors.js";
import { allSettledOrThrow } from "../lib/mutex.js";
import { BLOCK_BYTES } from "../lib/units.js";
import { forEachRun, highestOf, lowestOf } from "./block-mask.js";
import type { GroupCore } from "./core.js";
import type { Raid5Geometry } from "./geometry.js";
import type { Member } from "./member.js";
import { readOrReconstruct } from "./reconstruct.js";
import type { SlotBlocks, StripeSlot } from "./stripe-slot.js";

/**
 * Parity of some columns of a band: what is new from memory, the other data blocks from the members (reconstruct-write). Old parity is never trusted
 * unless a member is missing. Called with the stripe's lock held.
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
   * @param action  gets a band with the parity of the frozen columns, its own until it resolves
   * @throws StorageError EIO when a data block can be had from nowhere
   */
  async run(slot: StripeSlot, base: number, action: (parity: Buffer) => Promise<void>): Promise<void> {
    const { parities, loads } = this.#core.cache;
    const parity = await parities.acquireMany(1);
    try {
      const loaded = await loads.acquireMany(this.#geometry.dataMembers);
      try {
        await this.#load(slot, base, loaded);
        this.xor(slot.frozen, slot.frozen.columns, loaded, parity[0]!);
      } finally {
        loads.releaseMany(loaded);
      }
      await action(parity[0]!);
    } finally {
      parities.releaseMany(parity);
    }
  }

  async #load(slot: StripeSlot, base: number, loaded: readonly Buffer[]): Promise<void> {
    const { columns } = slot.frozen;
    const reads: Promise<void>[] = [];
    for (let i = 0; i < this.#geometry.dataMembers; i++) {
      const missing = columns & ~slot.frozen.held(i);
      if (missing === 0) continue;
      const member = this.#core.members[this.#geometry.dataMember(slot.stripe, i)]!;
      reads.push(this.#loadChunk(member, missing, base, loaded[i]!));
    }
    await allSettledOrThrow(reads);
  }

  /** One call for all columns, what lies between them included; when that fails, only what is wanted. */
  async #loadChunk(member: Member, missing: number, base: number, target: Buffer): Promise<void> {
    const part = (first: number, end: number) => target.subarray(first * BLOCK_BYTES, end * BLOCK_BYTES);
    const first = lowestOf(missing);
    if (member.prompt) {
      try {
        await member.read(part(first, highestOf(missing) + 1), base + first * BLOCK_BYTES);
        return;
      } catch (error) {
        if (!isStorageError(error)) throw error;
      }
    }
    const reads: Promise<void>[] = [];
    forEachRun(missing, (from, end) => {
      reads.push(
        readOrReconstruct(this.#core, this.#geometry.members, part(from, end), member, base + from * BLOCK_BYTES),
      );
    });
    await allSettledOrThrow(reads);
  }

  /** @param loaded  what memory has not, band by band; null when it has everything */
  xor(blocks: SlotBlocks, columns: number, loaded: readonly Buffer[] | null, parity: Buffer): void {
    const { arena } = this.#core;
    const target = arena.offsetOf(parity);
    const sources = this.#sources;
    forEachRun(columns, (first, end) => {
      for (let column = first; column < end; column++) {
        sources.length = 0;
        for (let i = 0; i < this.#geometry.dataMembers; i++) {
          if ((blocks.held(i) & (1 << column)) !== 0) sources.push(blocks.offsetOf(i, column));
          else {
            assert(loaded !== null, "what is not in memory was loaded");
            sources.push(arena.offsetOf(loaded[i]!) + column * BLOCK_BYTES);
          }
        }
        arena.kernel.xor(target + column * BLOCK_BYTES, sources, BLOCK_BYTES);
      }
    });
  }
}
