import type { GroupCore } from "./core.js";
import type { Extents } from "./extents.js";
import type { Raid5Geometry } from "./geometry.js";
import { IoBatch } from "./io-batch.js";
import { BANDS_AT_ONCE, StripeBands } from "./stripe-bands.js";

/**
 * Reads of whole stripes of which one member is lost: every other member is read once, the parity beside the data that the caller wants
 * anyway. So a stripe costs as many bytes as with all members there, where chunk by chunk the others would be read once more.
 */
export class DegradedStripes {
  readonly #core: GroupCore;
  readonly #geometry: Raid5Geometry;
  readonly #bands: StripeBands;

  constructor(core: GroupCore, geometry: Raid5Geometry) {
    this.#core = core;
    this.#geometry = geometry;
    this.#bands = new StripeBands(core, geometry);
  }

  /** Stripes that one `read` can take. */
  get stripesMax(): number {
    return Math.max(1, Math.floor(BANDS_AT_ONCE / this.#bands.perChunk));
  }

  /**
   * Called with the lock of these stripes held, and nothing newer of them in memory.
   * @param extents  the request
   * @param from     byte of the request where the first stripe begins
   * @param lost     slot of the member that is not to be read
   */
  async read(extents: Extents, from: number, stripe: number, count: number, lost: number): Promise<void> {
    const { bands } = this.#core;
    const parity = await bands.acquireMany(count * this.#bands.perChunk);
    try {
      const batch = new IoBatch(this.#core.members);
      for (let i = 0; i < count; i++) this.#plan(batch, extents, from, stripe, i, lost, parity);
      await batch.read();
      for (let i = 0; i < count; i++) this.#restore(extents, from, stripe, i, lost, parity);
    } finally {
      bands.releaseMany(parity);
    }
  }

  #plan(
    batch: IoBatch,
    extents: Extents,
    from: number,
    first: number,
    i: number,
    lost: number,
    parity: Buffer[],
  ): void {
    const { chunkBytes, stripeBytes, dataMembers } = this.#geometry;
    const base = this.#geometry.memberByte(first + i);
    for (let chunk = 0; chunk < dataMembers; chunk++) {
      const member = this.#geometry.dataMember(first + i, chunk);
      const start = from + i * stripeBytes + chunk * chunkBytes;
      if (member !== lost)
        extents.forEach(start, chunkBytes, (buffer, at) => batch.add(member, base + at - start, buffer));
    }
    const parityMember = this.#geometry.parityMember(first + i);
    if (parityMember === lost) return;
    for (let band = 0; band < this.#bands.perChunk; band++) {
      batch.add(parityMember, base + band * this.#bands.bandBytes, parity[i * this.#bands.perChunk + band]!);
    }
  }

  #restore(extents: Extents, from: number, first: number, i: number, lost: number, parity: Buffer[]): void {
    if (this.#geometry.parityMember(first + i) === lost) return;
    const { chunkBytes, stripeBytes, dataMembers } = this.#geometry;
    const chunks: number[] = [];
    let target = 0;
    for (let chunk = 0; chunk < dataMembers; chunk++) {
      const start = from + i * stripeBytes + chunk * chunkBytes;
      if (this.#geometry.dataMember(first + i, chunk) === lost) target = start;
      else chunks.push(start);
    }
    for (let band = 0; band < this.#bands.perChunk; band++) {
      const at = band * this.#bands.bandBytes;
      this.#bands.xor(extents, chunks, at, parity[i * this.#bands.perChunk + band]!, target);
    }
    this.#core.counters.degradedReads++;
    this.#core.counters.degradedStripes++;
  }
}
