import type { ScratchFolder } from "../../src/pagestore/scratch-folder.js";

const PLENTY = 2 ** 40;

/** A scratch folder whose room is played: the files are real, and fit. */
export class PlayedFolder implements ScratchFolder {
  #free = PLENTY;

  /** @param keepsHeld  what was held does not come back */
  constructor(private readonly options: { readonly keepsHeld?: boolean } = {}) {}

  readonly #held = new Map<string, number>();

  /** Somebody else has written all that was free, but for so much. */
  fill(leftBytes = 0): void {
    this.#free = leftBytes;
  }

  /** It is gone again. */
  clear(): void {
    this.#free = PLENTY;
  }

  /** The copy of a life that has ended is gone. */
  forget(): void {
    for (const file of [...this.#held.keys()]) this.drop(file);
  }

  freeBytes(): number {
    return this.#free;
  }

  hold(file: string, byteCount: number): number {
    this.drop(file);
    const held = Math.min(byteCount, this.#free);
    this.#free -= held;
    this.#held.set(file, held);
    return held;
  }

  drop(file: string): void {
    if (this.options.keepsHeld !== true) this.#free += this.#held.get(file) ?? 0;
    this.#held.delete(file);
  }

  wrote(byteCount: number): void {
    if (byteCount > this.#free) {
      throw Object.assign(new Error("ENOSPC: no space left on device"), { code: "ENOSPC", syscall: "write" });
    }
    this.#free -= byteCount;
  }

  released(byteCount: number): void {
    this.#free += byteCount;
  }
}
