import type { Random } from "../../src/lib/prng.js";
import { Platter } from "./platter.js";

export const SECTOR_BYTES = 512;

/**
 * What a power cut does to writes that were not flushed.
 * lost: none of them is there. kept: all. torn: of each any sectors. reordered: any of them, each whole, so that a later one may be
 * there and an earlier one not.
 */
export const CRASHES = ["lost", "kept", "torn", "reordered"] as const;
export type Crash = (typeof CRASHES)[number];

/** A write in the volatile cache, or on its way there. */
export interface CachedWrite {
  /** Rises with every write. */
  readonly number: number;
  readonly position: number;
  readonly bytes: Buffer;
}

/** The inside of a disk: platter and volatile cache. What was flushed is on the platter; the view is what a read sees. */
export class Media {
  platter: Platter;
  #view: Platter | null = null;
  #cache: CachedWrite[] = [];
  #number = 0;

  constructor(platter = new Platter()) {
    this.platter = platter;
  }

  /** The number of the last write. */
  get number(): number {
    return this.#number;
  }

  get unflushed(): readonly CachedWrite[] {
    return this.#cache;
  }

  read(target: Buffer, position: number): void {
    (this.#view ?? this.platter).read(target, position);
  }

  /** @param bytes whole sectors; kept */
  write(bytes: Buffer, position: number): void {
    this.#cache.push({ number: ++this.#number, position, bytes });
    this.#view ??= this.platter.fork();
    this.#view.write(bytes, position);
  }

  /** This write is durable at once, whatever else is in the cache; older writes of the same place can never come back over it. */
  writeThrough(bytes: Buffer, position: number): void {
    const end = position + bytes.length;
    this.#cache = this.#cache.flatMap((write) => outside(write, position, end));
    this.platter.write(bytes, position);
    this.#number++;
    if (this.#cache.length === 0) this.#dropView();
    else this.#view?.write(bytes, position);
  }

  /** Writes up to number `upTo` are durable. */
  flush(upTo: number): void {
    const later: CachedWrite[] = [];
    for (const write of this.#cache) {
      if (write.number <= upTo) this.platter.write(write.bytes, write.position);
      else later.push(write);
    }
    this.#cache = later;
    if (later.length === 0) this.#dropView();
  }

  /** What is on the platter now, for good: what comes is written on top. */
  freeze(): Platter {
    const frozen = this.platter;
    this.platter = frozen.fork();
    return frozen;
  }

  /** Another platter is in its place, and the cache is empty. */
  replace(platter: Platter): void {
    this.#dropView();
    this.#cache = [];
    this.platter = platter.fork();
  }

  #dropView(): void {
    this.#view?.release();
    this.#view = null;
  }

  /** The power fails. @param inFlight writes that were under way: they may be there as well */
  crash(crash: Crash, inFlight: readonly CachedWrite[], random: Random): void {
    this.#dropView();
    crashOnto(this.platter, [...this.#cache, ...inFlight], crash, random);
    this.#cache = [];
  }
}

/** The parts of a cached write that another one does not cover. */
export function outside(write: CachedWrite, from: number, to: number): CachedWrite[] {
  const end = write.position + write.bytes.length;
  if (end <= from || write.position >= to) return [write];
  const parts: CachedWrite[] = [];
  const { number, position, bytes } = write;
  if (position < from) parts.push({ number, position, bytes: bytes.subarray(0, from - position) });
  if (end > to) parts.push({ number, position: to, bytes: bytes.subarray(to - position) });
  return parts;
}

/** Put on a platter what a crash keeps of these writes. */
export function crashOnto(platter: Platter, writes: readonly CachedWrite[], crash: Crash, random: Random): void {
  if (crash === "lost") return;
  for (const { position, bytes } of writes) {
    if (crash === "kept") platter.write(bytes, position);
    else if (crash === "reordered") {
      if (random.below(2) === 0) platter.write(bytes, position);
    } else tear(platter, bytes, position, random);
  }
}

/** Large writes are torn in a few runs of sectors, small ones sector by sector. */
function tear(platter: Platter, bytes: Buffer, position: number, random: Random): void {
  const step = SECTOR_BYTES * Math.max(1, Math.floor(bytes.length / SECTOR_BYTES / 16));
  for (let at = 0; at < bytes.length; at += step) {
    if (random.below(2) === 0) platter.write(bytes.subarray(at, Math.min(at + step, bytes.length)), position + at);
  }
}
