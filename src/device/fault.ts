import type { Random } from "../lib/prng.js";
import { MIB } from "../lib/units.js";

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
 * - slow: every request takes longer, and holds its thread meanwhile where the layer is given a way to (`FaultyOptions.hold`).
 * - bitrot: a read that meets no rot yet finds one bit flipped. The bit stays flipped, also after the fault is cleared, until it is
 *   written over, as on a disk; it is kept by the layer and forgotten with it.
 * - torn: a write is acknowledged after only its first sectors were written.
 * - lost: a write is acknowledged and was not done at all.
 * - misdirected: a write is acknowledged and was done at another place of the disk, at most `reachBytes` (1 MiB) beside its own; the
 *   right place keeps what it had. On a disk that is too small to have another place it is lost.
 */
export type Fault =
  | ({ readonly kind: "gone" } & Common)
  | ({ readonly kind: "eio"; readonly on?: "read" | "write" | undefined } & Common)
  | ({ readonly kind: "slow"; readonly delayMs: number } & Common)
  | ({ readonly kind: "bitrot" } & Common)
  | ({ readonly kind: "torn" } & Common)
  | ({ readonly kind: "lost" } & Common)
  | ({ readonly kind: "misdirected"; readonly reachBytes?: number | undefined } & Common);

export type FaultKind = Fault["kind"];

const REACH_BYTES = 1 * MIB;

/** A fault that is set, and how often it may still strike. */
export class ActiveFault {
  #hitsLeft: number;

  /** @param random  what the fault leaves to chance */
  constructor(
    readonly fault: Fault,
    readonly random: Random,
  ) {
    this.#hitsLeft = fault.hits ?? Number.POSITIVE_INFINITY;
  }

  /** null: without limit. */
  get hitsLeft(): number | null {
    return Number.isFinite(this.#hitsLeft) ? this.#hitsLeft : null;
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

/**
 * Where a misdirected write lands: clear of its right place, within the fault's reach, on the device.
 * @param unit  bytes; what the device can address
 * @returns null when there is no such place
 */
export function strayPosition(
  { fault, random }: ActiveFault,
  device: { readonly sizeBytes: number },
  request: { readonly position: number; readonly byteCount: number; readonly unit: number },
): number | null {
  const { position, byteCount, unit } = request;
  const reachBytes = (fault.kind === "misdirected" ? fault.reachBytes : undefined) ?? REACH_BYTES;
  const clear = Math.ceil(byteCount / unit) * unit;
  const distance = clear + unit * random.below(Math.max(1, Math.floor(reachBytes / unit)));
  const places =
    random.below(2) === 0 ? [position - distance, position + distance] : [position + distance, position - distance];
  // As near as it goes, when so far would be outside.
  const found = [...places, position - clear, position + clear].find(
    (at) => at >= 0 && at + byteCount <= device.sizeBytes,
  );
  return found ?? null;
}

/** The faults of one disk. They outlive the layer that shows them: a disk that is closed and opened again is as bad as it was. */
export class FaultSet {
  #active: readonly ActiveFault[] = [];

  get none(): boolean {
    return this.#active.length === 0 || this.active.length === 0;
  }

  get active(): readonly ActiveFault[] {
    if (this.#active.some(({ spent }) => spent)) this.#active = this.#active.filter(({ spent }) => !spent);
    return this.#active;
  }

  /** Faults add up; the same kind may be set for several ranges. */
  inject(fault: Fault, random: Random): void {
    this.#active = [...this.active, new ActiveFault(fault, random)];
  }

  /** @param kind by default all of them */
  clear(kind?: FaultKind): void {
    this.#active = kind === undefined ? [] : this.active.filter(({ fault }) => fault.kind !== kind);
  }

  /** The faults of one kind, as they are set and cleared here. */
  only(kind: FaultKind): FaultSet {
    return new FaultsOfKind(this, kind);
  }

  has(kind: FaultKind): boolean {
    return this.active.some(({ fault }) => fault.kind === kind);
  }

  striking(kind: FaultKind, position: number, byteCount: number): ActiveFault | null {
    return this.active.find((one) => one.fault.kind === kind && one.covers(position, byteCount)) ?? null;
  }
}

class FaultsOfKind extends FaultSet {
  constructor(
    private readonly all: FaultSet,
    private readonly kind: FaultKind,
  ) {
    super();
  }

  override get active(): readonly ActiveFault[] {
    return this.all.active.filter(({ fault }) => fault.kind === this.kind);
  }

  override get none(): boolean {
    return this.active.length === 0;
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
