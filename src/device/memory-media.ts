import { must } from "../lib/assert.js";
import type { Random } from "../lib/prng.js";
import { KIB } from "../lib/units.js";

export const SECTOR_BYTES = 512;
/** Media is taken in such pieces when it is first written. */
const PIECE_BYTES = 64 * KIB;

/** none: the cache is lost. all: the cache had been written. random: any subset, and of each sector any version. */
export type Keep = "none" | "all" | "random";

interface Version {
  readonly number: number;
  readonly bytes: Buffer;
}

/**
 * The inside of a disk: what is on the platter, sparse, and the versions of every sector that are only in the cache, oldest first.
 * All versions since the last flush are kept: a flush under way may still settle any of them.
 */
export class Media {
  readonly #pieces = new Map<number, Buffer>();
  readonly #cache = new Map<number, Version[]>();
  #version = 0;

  /** The number of the last write. */
  get version(): number {
    return this.#version;
  }

  get unflushedSectors(): number {
    return this.#cache.size;
  }

  read(target: Buffer, position: number): void {
    for (let done = 0; done < target.length; ) {
      const at = position + done;
      const sector = Math.floor(at / SECTOR_BYTES);
      const within = at - sector * SECTOR_BYTES;
      const byteCount = Math.min(SECTOR_BYTES - within, target.length - done);
      const cached = this.#cache.get(sector)?.at(-1)?.bytes ?? this.#platter(sector);
      if (cached === null) target.fill(0, done, done + byteCount);
      else cached.copy(target, done, within, within + byteCount);
      done += byteCount;
    }
  }

  write(source: Buffer, position: number): void {
    const number = ++this.#version;
    for (let done = 0; done < source.length; ) {
      const at = position + done;
      const sector = Math.floor(at / SECTOR_BYTES);
      const within = at - sector * SECTOR_BYTES;
      const byteCount = Math.min(SECTOR_BYTES - within, source.length - done);
      const bytes = Buffer.allocUnsafe(SECTOR_BYTES);
      if (byteCount < SECTOR_BYTES) this.read(bytes, sector * SECTOR_BYTES);
      source.copy(bytes, within, done, done + byteCount);
      this.#remember(sector, { number, bytes });
      done += byteCount;
    }
  }

  /** What was written up to version `upTo` is on the platter. */
  flush(upTo: number): void {
    for (const [sector, versions] of this.#cache) {
      const durable = versions.findLast(({ number }) => number <= upTo);
      if (durable === undefined) continue;
      this.#settle(sector, durable.bytes);
      const later = versions.filter(({ number }) => number > upTo);
      if (later.length === 0) this.#cache.delete(sector);
      else this.#cache.set(sector, later);
    }
  }

  /** The newest version of every sector of a range is on the platter. */
  persist(position: number, byteCount: number): void {
    const end = Math.ceil((position + byteCount) / SECTOR_BYTES);
    for (let sector = Math.floor(position / SECTOR_BYTES); sector < end; sector++) {
      const newest = this.#cache.get(sector)?.at(-1);
      if (newest === undefined) continue;
      this.#settle(sector, newest.bytes);
      this.#cache.delete(sector);
    }
  }

  /** @returns how many sectors of the cache survived in some version */
  crash(keep: Keep, random: Random): number {
    let kept = 0;
    for (const [sector, versions] of this.#cache) {
      const survivor = surviving(versions, keep, random);
      if (survivor === undefined) continue;
      this.#settle(sector, survivor.bytes);
      kept++;
    }
    this.#cache.clear();
    return kept;
  }

  #remember(sector: number, version: Version): void {
    const versions = this.#cache.get(sector);
    if (versions === undefined) this.#cache.set(sector, [version]);
    else versions.push(version);
  }

  #platter(sector: number): Buffer | null {
    const at = sector * SECTOR_BYTES;
    const piece = this.#pieces.get(Math.floor(at / PIECE_BYTES));
    return piece?.subarray(at % PIECE_BYTES, (at % PIECE_BYTES) + SECTOR_BYTES) ?? null;
  }

  #settle(sector: number, bytes: Buffer): void {
    const index = Math.floor((sector * SECTOR_BYTES) / PIECE_BYTES);
    if (!this.#pieces.has(index)) this.#pieces.set(index, Buffer.alloc(PIECE_BYTES));
    bytes.copy(must(this.#platter(sector), "the piece is there"));
  }
}

function surviving(versions: readonly Version[], keep: Keep, random: Random): Version | undefined {
  if (keep === "none") return undefined;
  if (keep === "all") return versions.at(-1);
  // One more than there are versions: the last outcome is the platter's old content.
  return versions[random.below(versions.length + 1)];
}
