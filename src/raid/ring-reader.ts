import { KIB } from "../lib/units.js";
import { RING_START } from "./journal.js";
import type { Member } from "./member.js";

/** Many small records: whoever looks for them asks a disk once, not twice for each. */
const WINDOW_BYTES = 256 * KIB;

/** Reads the ring of the journal on one member from front to back, ahead of what is asked for. Nobody writes it meanwhile. */
export class RingReader {
  #window: Buffer = Buffer.alloc(0);
  /** Where the window begins, in the ring. */
  #from = 0;

  constructor(
    readonly member: Member,
    private readonly ringBytes: number,
  ) {}

  /** @returns bytes inside the ring, to be read only; null: they cannot be had */
  async read(byteCount: number, offset: number): Promise<Buffer | null> {
    if (!this.#holds(byteCount, offset)) {
      this.#window =
        (await this.#fetch(Math.min(Math.max(WINDOW_BYTES, byteCount), this.ringBytes - offset), offset)) ??
        // What lies behind may be a bad block.
        (await this.#fetch(byteCount, offset)) ??
        Buffer.alloc(0);
      this.#from = offset;
    }
    return this.#holds(byteCount, offset) ? this.#window.subarray(offset - this.#from).subarray(0, byteCount) : null;
  }

  #holds(byteCount: number, offset: number): boolean {
    return offset >= this.#from && offset + byteCount <= this.#from + this.#window.length;
  }

  #fetch(byteCount: number, offset: number): Promise<Buffer | null> {
    return this.member.fetch(byteCount, RING_START + offset).catch(() => null);
  }
}
