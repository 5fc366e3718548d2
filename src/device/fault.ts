import type { Random } from "../lib/prng.js";

interface Common {
  /** Bytes; together with `byteCount` the range that is hit. By default the whole device. */
  readonly position?: number | undefined;
  readonly byteCount?: number | undefined;
  /** After so many hits it clears itself; by default it stays until it is cleared. */
  readonly hits?: number | undefined;
}

/**
 * What can be wrong with a disk.
 *
 * - gone: pulled out. Every request is ENXIO.
 * - eio: requests that touch the range fail.
 * - slow: every request takes longer.
 * - bitrot: a read that meets no rot yet finds one bit flipped. The bit stays flipped, also after the fault is cleared, until it is
 *   written over, as on a disk; it is kept by the layer and forgotten with it.
 * - torn: a write is acknowledged after only its first sectors were written.
 * - lost: a write is acknowledged and was not done at all.
 */
export type Fault =
  | ({ readonly kind: "gone" } & Common)
  | ({ readonly kind: "eio"; readonly on?: "read" | "write" | undefined } & Common)
  | ({ readonly kind: "slow"; readonly delayMs: number } & Common)
  | ({ readonly kind: "bitrot" } & Common)
  | ({ readonly kind: "torn" } & Common)
  | ({ readonly kind: "lost" } & Common);

export type FaultKind = Fault["kind"];

/** A fault that is set, and how often it may still strike. */
export class ActiveFault {
  #hitsLeft: number;

  constructor(readonly fault: Fault) {
    this.#hitsLeft = fault.hits ?? Number.POSITIVE_INFINITY;
  }

  get spent(): boolean {
    return this.#hitsLeft <= 0;
  }

  covers(position: number, byteCount: number): boolean {
    const start = this.fault.position ?? 0;
    const end = start + (this.fault.byteCount ?? Number.POSITIVE_INFINITY);
    return !this.spent && position < end && start < position + byteCount;
  }

  strike(): void {
    this.#hitsLeft--;
  }

  /** The part of a request that the fault covers. */
  overlap(position: number, byteCount: number): { readonly from: number; readonly to: number } {
    const start = this.fault.position ?? 0;
    const end = start + (this.fault.byteCount ?? Number.POSITIVE_INFINITY);
    return { from: Math.max(start, position), to: Math.min(end, position + byteCount) };
  }
}

/** Flipped bits by byte position. */
export class Rot {
  readonly #masks = new Map<number, number>();

  get size(): number {
    return this.#masks.size;
  }

  meets(from: number, to: number): boolean {
    for (const at of this.#masks.keys()) if (at >= from && at < to) return true;
    return false;
  }

  flipOne(from: number, to: number, random: Random): void {
    this.#masks.set(from + random.below(to - from), 1 << random.below(8));
  }

  /** Spoil what was read. */
  apply(targets: readonly Buffer[], position: number): void {
    let start = position;
    for (const target of targets) {
      for (const [at, mask] of this.#masks) {
        const i = at - start;
        if (i >= 0 && i < target.length) target[i] = (target[i] as number) ^ mask;
      }
      start += target.length;
    }
  }

  /** Written over, therefore good again. */
  clear(from: number, to: number): void {
    for (const at of this.#masks.keys()) if (at >= from && at < to) this.#masks.delete(at);
  }
}
