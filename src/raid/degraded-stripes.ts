import type { GroupCore } from "./core.js";
import type { Extents } from "./extents.js";
import type { Raid5Geometry } from "./geometry.js";
import { IoBatch } from "./io-batch.js";

/** Bands whose parity is held at once. */
const BANDS_AT_ONCE = 16;

/**
 * Reads of whole stripes of which one member is lost: every other member is read once, the parity beside the data that the caller wants
 * anyway. So a stripe costs as many bytes as with all members there, where chunk by chunk the others would be read once more.
 */
export class DegradedStripes {
  readonly #core: GroupCore;
  readonly #geometry: Raid5Geometry;
  readonly #bandBytes: number;
  readonly #bandsPerChunk: number;
  readonly #xorSources: number[] = [];

  constructor(core: GroupCore, geometry: Raid5Geometry) {
    this.#core = core;
    this.#geometry = geometry;
    this.#bandBytes = core.bands.bandBytes;
    this.#bandsPerChunk = geometry.chunkBytes / this.#bandBytes;
  }

  /** Stripes that one `read` can take. */
  get stripesMax(): number {
    return Math.max(1, Math.floor(BANDS_AT_ONCE / this.#bandsPerChunk));
  }

  /**
   * Called with the lock of these stripes held, and nothing newer of them in memory.
   * @param extents  the request
   * @param from     byte of the request where the first stripe begins
   * @param lost     slot of the member that is not to be read
   */
  async read(extents: Extents, from: number, stripe: number, count: number, lost: number): Promise<void> {
    const { bands } = this.#core;
    const parity = await bands.acquireMany(count * this.#bandsPerChunk);
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
    for (let band = 0; band < this.#bandsPerChunk; band++) {
      batch.add(parityMember, base + band * this.#bandBytes, parity[i * this.#bandsPerChunk + band]!);
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
    for (let band = 0; band < this.#bandsPerChunk; band++) {
      const at = band * this.#bandBytes;
      this.#xor(extents, target + at, chunks, at, parity[i * this.#bandsPerChunk + band]!);
    }
    this.#core.counters.degradedReads++;
  }

  /** Step by step, as far as all chunks lie in one piece; one step when each is one range. */
  #xor(extents: Extents, target: number, chunks: readonly number[], inChunk: number, parity: Buffer): void {
    const { arena } = this.#core;
    const sources = this.#xorSources;
    for (let done = 0; done < this.#bandBytes; ) {
      let step = Math.min(this.#bandBytes - done, extents.runAt(target + done));
      sources.length = 0;
      for (const chunk of chunks) {
        sources.push(extents.offsetAt(chunk + inChunk + done));
        step = Math.min(step, extents.runAt(chunk + inChunk + done));
      }
      sources.push(arena.offsetOf(parity) + done);
      arena.kernel.xor(extents.offsetAt(target + done), sources, step);
      done += step;
    }
  }
}
