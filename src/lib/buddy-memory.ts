import { assert, must } from "./assert.js";
import { KIB, MIB } from "./units.js";

/** The largest piece that is handed out, and the smallest. */
export const PIECE_BYTES_MAX = 1 * MIB;
export const PIECE_BYTES_MIN = 32 * KIB;
const ORDERS = Math.log2(PIECE_BYTES_MAX / PIECE_BYTES_MIN) + 1;

/**
 * One piece of memory, handed out in powers of two from 32 KiB to 1 MiB: a piece is cut in halves until it fits, and halves that are free
 * become one again (Knowlton 1965). Always the lowest address, so that memory which was never needed is never touched. What does not fit comes
 * from ordinary memory: how much is out at once is bounded by who borrows.
 */
export class BuddyMemory {
  readonly #memory: Buffer;
  /** By order (0: the smallest): addresses of free pieces, in units of the smallest, falling. */
  readonly #free: number[][] = Array.from({ length: ORDERS }, () => []);
  /** The view of each piece, by order and address, made when it is first handed out. */
  readonly #views: (Buffer | undefined)[][] = Array.from({ length: ORDERS }, () => []);
  readonly #onStray: () => void;
  #lentBytes = 0;

  /**
   * @param memory   a multiple of 1 MiB long, in the arena; of no length: everything comes from ordinary memory
   * @param onStray  called for each piece that has to come from there
   */
  constructor(memory: Buffer, onStray: () => void = () => {}) {
    assert(memory.length % PIECE_BYTES_MAX === 0, "the reservation is whole pieces");
    this.#memory = memory;
    this.#onStray = onStray;
    const unitsPerPiece = PIECE_BYTES_MAX / PIECE_BYTES_MIN;
    const pieces = memory.length / PIECE_BYTES_MAX;
    for (let i = pieces - 1; i >= 0; i--) must(this.#free[ORDERS - 1], "an order").push(i * unitsPerPiece);
  }

  /** Handed out, wherever it lies. */
  get lentBytes(): number {
    return this.#lentBytes;
  }

  sizeOf(byteCount: number): number {
    return PIECE_BYTES_MIN * 2 ** orderOf(byteCount);
  }

  borrow(byteCount: number): Buffer {
    const order = orderOf(byteCount);
    const size = PIECE_BYTES_MIN * 2 ** order;
    this.#lentBytes += size;
    const unit = this.#take(order);
    if (unit >= 0) return this.#view(order, unit);
    this.#onStray();
    return Buffer.allocUnsafeSlow(size);
  }

  giveBack(buffer: Buffer): void {
    this.#lentBytes -= buffer.length;
    if (buffer.buffer !== this.#memory.buffer) return;
    let order = orderOf(buffer.length);
    let unit = (buffer.byteOffset - this.#memory.byteOffset) / PIECE_BYTES_MIN;
    for (; order < ORDERS - 1; order++) {
      const buddy = unit ^ (1 << order);
      if (!this.#remove(order, buddy)) break;
      unit = Math.min(unit, buddy);
    }
    this.#insert(order, unit);
  }

  /** @returns the address, -1: nothing fits */
  #take(order: number): number {
    let from = order;
    while (from < ORDERS && this.#free[from]!.length === 0) from++;
    if (from === ORDERS) return -1;
    const unit = this.#free[from]!.pop()!;
    // The upper half of each cut stays free.
    for (let cut = from - 1; cut >= order; cut--) this.#insert(cut, unit + (1 << cut));
    return unit;
  }

  #insert(order: number, unit: number): void {
    const free = this.#free[order]!;
    const at = placeOf(free, unit);
    assert(free[at] !== unit, "a piece is given back once");
    free.splice(at, 0, unit);
  }

  #remove(order: number, unit: number): boolean {
    const free = this.#free[order]!;
    const at = placeOf(free, unit);
    if (free[at] !== unit) return false;
    free.splice(at, 1);
    return true;
  }

  #view(order: number, unit: number): Buffer {
    const views = this.#views[order]!;
    const index = unit >> order;
    const start = unit * PIECE_BYTES_MIN;
    views[index] ??= this.#memory.subarray(start, start + PIECE_BYTES_MIN * 2 ** order);
    return views[index];
  }
}

function orderOf(byteCount: number): number {
  assert(byteCount <= PIECE_BYTES_MAX, "a piece is at most 1 MiB");
  return byteCount <= PIECE_BYTES_MIN ? 0 : 32 - Math.clz32((byteCount - 1) / PIECE_BYTES_MIN);
}

/** Where `unit` stands, or would, in a falling list. */
function placeOf(falling: readonly number[], unit: number): number {
  let low = 0;
  let high = falling.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (falling[middle]! > unit) low = middle + 1;
    else high = middle;
  }
  return low;
}
