/** One bit for each of so many things, all clear at first. Indices past the end are never in it, and setting them does nothing. */
export class BitSet {
  readonly #bytes: Uint8Array;

  constructor(count: number) {
    this.#bytes = new Uint8Array(Math.ceil(count / 8));
  }

  // Divide, do not shift: indices of blocks pass 32 bits.
  has(index: number): boolean {
    return ((this.#bytes[Math.floor(index / 8)] ?? 0) & (1 << (index % 8))) !== 0;
  }

  add(index: number): void {
    this.#bytes[Math.floor(index / 8)]! |= 1 << (index % 8);
  }

  delete(index: number): void {
    this.#bytes[Math.floor(index / 8)]! &= ~(1 << (index % 8));
  }

  addRange(from: number, to: number): void {
    for (let index = from; index < to; index++) this.add(index);
  }

  deleteRange(from: number, to: number): void {
    let index = from;
    for (; index < to && index % 8 !== 0; index++) this.delete(index);
    const whole = Math.floor((to - index) / 8) * 8;
    if (whole > 0) this.#bytes.fill(0, index / 8, (index + whole) / 8);
    for (index += Math.max(0, whole); index < to; index++) this.delete(index);
  }
}
