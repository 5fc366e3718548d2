import { BLOCK_BYTES } from "../lib/units.js";
import type { GroupCore } from "./core.js";
import { Extents } from "./extents.js";
import type { Raid5Geometry } from "./geometry.js";
import { IoBatch } from "./io-batch.js";
import { slicePieces } from "./pieces.js";
import { BANDS_AT_ONCE, StripeBands } from "./stripe-bands.js";

/**
 * Writes of whole stripes: parity in memory, nothing read, one device call per member for a run of stripes. Called with the lock of
 * all its stripes held.
 */
export class FullStripes {
  readonly #core: GroupCore;
  readonly #geometry: Raid5Geometry;
  readonly #bands: StripeBands;
  /** Bytes of the request where the chunks of the stripe at hand begin. */
  readonly #chunks: number[] = [];

  constructor(core: GroupCore, geometry: Raid5Geometry) {
    this.#core = core;
    this.#geometry = geometry;
    this.#bands = new StripeBands(core, geometry);
  }

  /** @param sources  exactly the data of `count` stripes from `stripe` on */
  async write(sources: readonly Buffer[], stripe: number, count: number): Promise<void> {
    const core = this.#core;
    core.guard();
    const writable = core.writable();
    if (writable !== null) await writable;
    const extents = Extents.of(core.arena, sources, BLOCK_BYTES);
    if (extents === null) await this.#writeCopied(sources, stripe, count);
    else await this.#writeInArena(extents, stripe, count);
    core.assertAlive();
    core.counters.fullStripeWrites += count;
  }

  async #writeInArena(extents: Extents, stripe: number, count: number): Promise<void> {
    const { bands } = this.#core;
    const unitCount = count * this.#bands.perChunk;
    let unit = 0;
    while (unit < unitCount) {
      const wanted = Math.min(unitCount - unit, BANDS_AT_ONCE);
      let parity = bands.tryAcquireSome(wanted);
      if (parity.length === 0) parity = await bands.acquireMany(1);
      try {
        await this.#writeUnits(extents, stripe, unit, parity);
      } finally {
        bands.releaseMany(parity);
      }
      unit += parity.length;
    }
  }

  /** Units are bands, counted from the first stripe of the request; one parity buffer for each. */
  async #writeUnits(extents: Extents, stripe: number, firstUnit: number, parity: readonly Buffer[]): Promise<void> {
    const batch = new IoBatch(this.#core.members);
    for (let i = 0; i < parity.length; i++) this.#planUnit(batch, extents, stripe, firstUnit + i, parity[i]!);
    await this.#writeMarked(batch);
  }

  #planUnit(batch: IoBatch, extents: Extents, firstStripe: number, unit: number, parity: Buffer): void {
    const geometry = this.#geometry;
    const inRequest = Math.floor(unit / this.#bands.perChunk);
    const inChunk = (unit % this.#bands.perChunk) * this.#bands.bandBytes;
    const stripe = firstStripe + inRequest;
    const base = geometry.memberByte(stripe) + inChunk;
    const chunks = this.#chunks;
    chunks.length = 0;
    for (let i = 0; i < geometry.dataMembers; i++) {
      chunks.push(inRequest * geometry.stripeBytes + i * geometry.chunkBytes);
      const start = chunks[i]! + inChunk;
      const slot = geometry.dataMember(stripe, i);
      extents.forEach(start, this.#bands.bandBytes, (buffer, at) => batch.add(slot, base + at - start, buffer));
    }
    const parityMember = geometry.parityMember(stripe);
    if (!this.#core.members[parityMember]!.takesWrites) return;
    this.#bands.xor(extents, chunks, inChunk, parity);
    batch.add(parityMember, base, parity);
  }

  /** Buffers from outside the arena: band after band through a gathered copy. */
  async #writeCopied(sources: readonly Buffer[], stripe: number, count: number): Promise<void> {
    const { bands, arena } = this.#core;
    const geometry = this.#geometry;
    const copies = await bands.acquireMany(geometry.members);
    try {
      const parity = copies[geometry.dataMembers]!;
      for (let unit = 0; unit < count * this.#bands.perChunk; unit++) {
        const inRequest = Math.floor(unit / this.#bands.perChunk);
        const inChunk = (unit % this.#bands.perChunk) * this.#bands.bandBytes;
        const base = geometry.memberByte(stripe + inRequest) + inChunk;
        const batch = new IoBatch(this.#core.members);
        for (let i = 0; i < geometry.dataMembers; i++) {
          const from = inRequest * geometry.stripeBytes + i * geometry.chunkBytes + inChunk;
          gather(copies[i]!, slicePieces(sources, from, this.#bands.bandBytes));
          batch.add(geometry.dataMember(stripe + inRequest, i), base, copies[i]!);
        }
        arena.xorBuffers(parity, copies.slice(0, geometry.dataMembers));
        batch.add(geometry.parityMember(stripe + inRequest), base, parity);
        await this.#writeMarked(batch);
      }
    } finally {
      bands.releaseMany(copies);
    }
  }

  async #writeMarked(batch: IoBatch): Promise<void> {
    const { bitmap } = this.#core;
    const runs = batch.runs();
    const marks: Promise<void>[] = [];
    for (const run of runs) {
      const mark = bitmap.enter(run.position, run.end);
      if (mark !== null) marks.push(mark);
    }
    try {
      if (marks.length > 0) await Promise.all(marks);
      await batch.write(true);
    } finally {
      for (const run of runs) bitmap.leave(run.position, run.end);
    }
  }
}

function gather(target: Buffer, pieces: readonly Buffer[]): void {
  let at = 0;
  for (const piece of pieces) {
    piece.copy(target, at);
    at += piece.length;
  }
}
