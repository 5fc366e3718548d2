import { randomFillSync } from "node:crypto";
import type { Random } from "../lib/prng.js";

/** The kernel's randomness, for what must not be guessed or repeated: uuids, keys of file handles, verifiers. */
export class SystemRandom implements Random {
  readonly #word = new Uint32Array(1);

  next(): number {
    randomFillSync(this.#word);
    return this.#word[0] ?? 0;
  }

  below(limit: number): number {
    return Math.floor((this.next() / 2 ** 32) * limit);
  }

  fill(target: Uint8Array): void {
    randomFillSync(target);
  }
}
