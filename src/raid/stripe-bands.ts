import type { GroupCore } from "./core.js";
import type { Extents } from "./extents.js";
import type { Raid5Geometry } from "./geometry.js";

/** Bands whose parity is held at once by one request: with 64 KiB bands, 1 MiB of parity. */
export const BANDS_AT_ONCE = 16;

/** Whole stripes of one RAID-5 LU as bands, which are what memory for parity comes in. */
export class StripeBands {
  readonly bandBytes: number;
  readonly perChunk: number;
  readonly #core: GroupCore;
  readonly #sources: number[] = [];

  constructor(core: GroupCore, geometry: Raid5Geometry) {
    this.#core = core;
    this.bandBytes = core.bands.bandBytes;
    this.perChunk = geometry.chunkBytes / this.bandBytes;
  }

  /**
   * XOR of one band of some chunks: step by step, as far as all of them lie in one piece; one step when each is one range.
   * @param chunks   bytes of the request where the chunks begin
   * @param inChunk  byte in each of them where the band begins
   * @param parity   a band; overwritten with the XOR, unless there is `lost`: then one of the sources
   * @param lost     byte of the request where the chunk begins that is overwritten; -1: none
   */
  xor(extents: Extents, chunks: readonly number[], inChunk: number, parity: Buffer, lost = -1): void {
    const { arena } = this.#core;
    const sources = this.#sources;
    const parityOffset = arena.offsetOf(parity);
    for (let done = 0; done < this.bandBytes; ) {
      let step = this.bandBytes - done;
      sources.length = 0;
      for (const chunk of chunks) {
        const at = chunk + inChunk + done;
        sources.push(extents.offsetAt(at));
        step = Math.min(step, extents.runAt(at));
      }
      let target = parityOffset + done;
      if (lost >= 0) {
        sources.push(target);
        step = Math.min(step, extents.runAt(lost + inChunk + done));
        target = extents.offsetAt(lost + inChunk + done);
      }
      arena.kernel.xor(target, sources, step);
      done += step;
    }
  }
}
