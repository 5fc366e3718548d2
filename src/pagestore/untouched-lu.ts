import { StorageError } from "../lib/errors.js";
import type { LuByte } from "../lib/units.js";
import type { LogicalUnit, LuDescription } from "../lu/lu.js";

/** An LU that somebody else writes: it is read, and left as it is. What is found bad is for its owner to heal. */
export class UntouchedLu implements LogicalUnit {
  constructor(private readonly lu: LogicalUnit) {}

  get description(): LuDescription {
    return this.lu.description;
  }

  get sizeBytes(): number {
    return this.lu.sizeBytes;
  }

  get stripeBytes(): number {
    return this.lu.stripeBytes;
  }

  read(target: Buffer, at: LuByte): Promise<void> {
    return this.lu.read(target, at);
  }

  readv(targets: readonly Buffer[], at: LuByte): Promise<void> {
    return this.lu.readv(targets, at);
  }

  readAlternatives(target: Buffer, at: LuByte): AsyncIterable<void> {
    return this.lu.readAlternatives(target, at);
  }

  write(): Promise<void> {
    return this.#refuse();
  }

  writev(): Promise<void> {
    return this.#refuse();
  }

  writeThrough(): Promise<void> {
    return this.#refuse();
  }

  async flush(): Promise<void> {}

  async heal(): Promise<void> {}

  /** Whoever opened it closes it. */
  async close(): Promise<void> {}

  #refuse(): Promise<never> {
    return Promise.reject(new StorageError("EROFS", "the LU is open for reading only", { lu: this.description.name }));
  }
}
