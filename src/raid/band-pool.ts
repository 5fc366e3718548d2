import { assert } from "../lib/assert.js";
import { Mutex } from "../lib/mutex.js";
import type { Arena } from "../parity/arena.js";

/**
 * Buffers of one band each, in the arena, for parity, gathering and reconstruction. Who needs several takes them one after the other
 * under a lock, so that two takers never wait for each other's half.
 */
export class BandPool {
  readonly #free: Buffer[] = [];
  #count = 0;
  readonly #taking = new Mutex();
  #wake: (() => void) | null = null;

  constructor(
    private readonly arena: Arena,
    readonly bandBytes: number,
    count: number,
  ) {
    this.growTo(count);
  }

  /** Have `count` buffers at least. @throws StorageError ENOSPC when the arena has no memory for them */
  growTo(count: number): void {
    const more = count - this.#count;
    if (more <= 0) return;
    const { bandBytes } = this;
    const memory = this.arena.take(bandBytes * more, "raid: parity and gather buffers");
    for (let i = more - 1; i >= 0; i--) this.#free.push(memory.subarray(i * bandBytes, (i + 1) * bandBytes));
    this.#count = count;
  }

  /** As many as there are at once, at most `count`; none while others wait for several. */
  tryAcquireSome(count: number): Buffer[] {
    if (this.#taking.held) return [];
    return this.#free.splice(Math.max(0, this.#free.length - count));
  }

  /** Exactly `count`. The caller holds none yet. */
  async acquireMany(count: number): Promise<Buffer[]> {
    assert(count <= this.#count, "the pool can ever give so many");
    if (!this.#taking.held && this.#free.length >= count) return this.tryAcquireSome(count);
    return this.#taking.run(async () => {
      while (this.#free.length < count) await new Promise<void>((resolve) => (this.#wake = resolve));
      return this.#free.splice(this.#free.length - count);
    });
  }

  releaseMany(buffers: readonly Buffer[]): void {
    for (const buffer of buffers) this.#free.push(buffer);
    const wake = this.#wake;
    this.#wake = null;
    wake?.();
  }
}
