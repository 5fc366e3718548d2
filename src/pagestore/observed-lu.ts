import type { LuByte } from "../lib/units.js";
import type { LogicalUnit, LuDescription } from "../lu/lu.js";

/** Told of every write twice, before it begins and when it has ended: between the two the LU holds this or that. */
export interface WriteObserver {
  writing(at: number, byteCount: number): void;
}

/** The LU of a page store, with those who must know what is being written. */
export class ObservedLu implements LogicalUnit {
  readonly observers = new Set<WriteObserver>();
  readonly #lu: LogicalUnit;

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

  heal(good: Buffer, at: LuByte): Promise<void> {
    return this.#lu.heal(good, at);
  }

  close(): Promise<void> {
    return this.#lu.close();
  }

  async #telling(sources: readonly Buffer[], at: number, write: () => Promise<void>): Promise<void> {
    this.#tell(sources, at);
    try {
      await write();
    } finally {
      this.#tell(sources, at);
    }
  }

  #tell(sources: readonly Buffer[], at: number): void {
    if (this.observers.size === 0) return;
    let byteCount = 0;
    for (const source of sources) byteCount += source.length;
    for (const observer of this.observers) observer.writing(at, byteCount);
  }
}
