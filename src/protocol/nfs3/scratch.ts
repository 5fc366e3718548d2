import { COPIED_READ_BYTES_MAX } from "../limits.js";

/** A buffer for one small READ. The view of the last length is kept: clients read in one size, and making a view costs 50 ns. */
export class Scratch {
  readonly #buffer = Buffer.allocUnsafeSlow(COPIED_READ_BYTES_MAX);
  #view = this.#buffer;

  view(byteCount: number): Buffer {
    if (this.#view.length !== byteCount) this.#view = this.#buffer.subarray(0, byteCount);
    return this.#view;
  }
}

const FREE_MAX = 256;

/** Small READs go through one of these; a synchronous one gives it back at once, so one is in use however many requests arrive. */
export class ScratchPool {
  readonly #free: Scratch[] = [];

  acquire(): Scratch {
    return this.#free.pop() ?? new Scratch();
  }

  release(scratch: Scratch): void {
    if (this.#free.length < FREE_MAX) this.#free.push(scratch);
  }
}
