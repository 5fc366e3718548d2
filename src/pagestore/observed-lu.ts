import type { LuByte } from "../lib/units.js";
import type { LogicalUnit, LuDescription } from "../lu/lu.js";
import { inParallel } from "./parallel.js";

/** Told of every write twice, before it begins and when it has ended: between the two the LU holds this or that. */
export interface WriteObserver {
  writing(at: number, byteCount: number): void;
}

/** Blocks that wait to be healed until the store is open, 4 KiB each. The rest is for a scrub. */
const FOUND_MAX = 4096;
const HEALS_IN_FLIGHT = 8;

/**
 * The LU of a page store, with those who must know what is being written. While a store is being opened nothing is healed: what one copy proves another
 * page may show to be of another age, and then both copies must still be as they were.
 */
export class ObservedLu implements LogicalUnit {
  readonly observers = new Set<WriteObserver>();
  readonly #lu: LogicalUnit;
  /** Proven contents of blocks of which some copy is bad; null: they are healed at once. */
  #found: Map<LuByte, Buffer> | null = null;

  constructor(lu: LogicalUnit) {
    this.#lu = lu;
  }

  get description(): LuDescription {
    return this.#lu.description;
  }

  get sizeBytes(): number {
    return this.#lu.sizeBytes;
  }

  get stripeBytes(): number {
    return this.#lu.stripeBytes;
  }

  read(target: Buffer, at: LuByte): Promise<void> {
    return this.#lu.read(target, at);
  }

  readv(targets: readonly Buffer[], at: LuByte): Promise<void> {
    return this.#lu.readv(targets, at);
  }

  write(source: Buffer, at: LuByte): Promise<void> {
    return this.#telling([source], at, () => this.#lu.write(source, at));
  }

  writev(sources: readonly Buffer[], at: LuByte): Promise<void> {
    return this.#telling(sources, at, () => this.#lu.writev(sources, at));
  }

  writeThrough(sources: readonly Buffer[], at: LuByte): Promise<void> {
    return this.#telling(sources, at, () => this.#lu.writeThrough(sources, at));
  }

  flush(): Promise<void> {
    return this.#lu.flush();
  }

  readAlternatives(target: Buffer, at: LuByte): AsyncIterable<void> {
    return this.#lu.readAlternatives(target, at);
  }

  async heal(good: Buffer, at: LuByte): Promise<void> {
    if (this.#found === null) await this.#lu.heal(good, at);
    else if (this.#found.size < FOUND_MAX) this.#found.set(at, Buffer.from(good));
  }

  /** Heal nothing until `healFound`. */
  holdHeals(): void {
    this.#found = new Map();
  }

  /** All is proven, and nothing is being written yet. @throws StorageError what the LU answers */
  async healFound(): Promise<void> {
    const found = this.#found ?? new Map<LuByte, Buffer>();
    this.#found = null;
    await inParallel([...found], HEALS_IN_FLIGHT, ([at, good]) => this.#lu.heal(good, at));
  }

  close(): Promise<void> {
    return this.#lu.close();
  }

  async #telling(sources: readonly Buffer[], at: number, write: () => Promise<void>): Promise<void> {
    this.#forget(sources, at);
    this.#tell(sources, at);
    try {
      await write();
    } finally {
      this.#tell(sources, at);
    }
  }

  /** What is written now is not to be healed with what stood there before: the older superblock is where the next one goes. */
  #forget(sources: readonly Buffer[], at: number): void {
    if (this.#found === null || this.#found.size === 0) return;
    const end = at + sources.reduce((sum, { length }) => sum + length, 0);
    for (const place of this.#found.keys()) if (place >= at && place < end) this.#found.delete(place);
  }

  #tell(sources: readonly Buffer[], at: number): void {
    if (this.observers.size === 0) return;
    let byteCount = 0;
    for (const source of sources) byteCount += source.length;
    for (const observer of this.observers) observer.writing(at, byteCount);
  }
}
