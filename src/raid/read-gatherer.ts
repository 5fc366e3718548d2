import { MIB } from "../lib/units.js";
import { totalBytes } from "./pieces.js";

/** Reads that follow one another begin at once while fewer are under way. */
const UNDER_WAY_MIN = 3;
/** The longest read that is put together; a request that is longer by itself stays as it is. */
const GATHERED_BYTES_MAX = 2 * MIB;

interface Part {
  readonly targets: readonly Buffer[];
  readonly at: number;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

type Read = (targets: readonly Buffer[], at: number) => Promise<void>;

/**
 * A client that reads one request after the other asks for several before the first is answered. Each of them alone is some seven device calls of a
 * chunk or three; together they are a third of that, because a chunk's neighbour on its member belongs to the next request. So those that
 * continue where the last one ends, while three are under way, wait for one of these to end, and go together. Every other read begins at once.
 */
export class ReadGatherer {
  /** In order and adjacent; begins when a read ends. Never without one under way. */
  #waiting: Part[] = [];
  #waitingBytes = 0;
  #underWay = 0;
  /** Where the newest read ends: one that begins there continues it. */
  #end = -1;

  constructor(private readonly read: Read) {}

  readv(targets: readonly Buffer[], at: number): Promise<void> {
    const byteCount = totalBytes(targets);
    const continues = at === this.#end;
    this.#end = at + byteCount;
    if (!continues || this.#underWay < UNDER_WAY_MIN) {
      this.#beginWaiting();
      return this.#begin(targets, at);
    }
    if (this.#waitingBytes + byteCount > GATHERED_BYTES_MAX) this.#beginWaiting();
    this.#waitingBytes += byteCount;
    return new Promise((resolve, reject) => this.#waiting.push({ targets, at, resolve, reject }));
  }

  async #begin(targets: readonly Buffer[], at: number): Promise<void> {
    this.#underWay++;
    try {
      await this.read(targets, at);
    } finally {
      this.#underWay--;
      this.#beginWaiting();
    }
  }

  #beginWaiting(): void {
    const parts = this.#waiting;
    const [first] = parts;
    if (first === undefined) return;
    this.#waiting = [];
    this.#waitingBytes = 0;
    const targets = parts.length === 1 ? first.targets : parts.flatMap((part) => part.targets);
    this.#begin(targets, first.at).then(
      () => {
        for (const part of parts) part.resolve();
      },
      (error: unknown) => this.#failed(parts, error),
    );
  }

  /** Whose part it was that could not be read, each finds out for itself. */
  #failed(parts: readonly Part[], error: unknown): void {
    const [first] = parts;
    if (parts.length === 1) first?.reject(error);
    else for (const part of parts) this.#begin(part.targets, part.at).then(part.resolve, part.reject);
  }
}
