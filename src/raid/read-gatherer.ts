import { MIB } from "../lib/units.js";
import { totalBytes } from "./pieces.js";

/** While fewer reads are under way, nobody waits longer than the callback that runs. */
const UNDER_WAY_MIN = 2;
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
 * A client that reads one request after the other asks for several before the first is answered. Each of them alone is a device call a
 * member; together they are no more than that, because a chunk's neighbour on its member belongs to the next request. So a read that
 * continues where the last one ends waits for its successors. They begin together
 * - as soon as they are the most that is put together, or reach a place behind which no member's data goes on anyway;
 * - at the end of the callback that runs, when fewer than two reads are under way, or not more bytes than wait. What one answer makes clients
 *   ask for is there by then; and what a client keeps in flight becomes at least two reads that take turns, so that no thread is idle.
 * Every other read begins at once.
 */
export class ReadGatherer {
  /** In order and adjacent. Never without two reads under way or `#beginSoon` to come. */
  #waiting: Part[] = [];
  #waitingBytes = 0;
  #underWay = 0;
  #underWayBytes = 0;
  /** Where the newest read ends: one that begins there continues it. */
  #end = -1;
  #soon = false;

  readonly #pieceBytes: number;
  readonly #read: Read;

  /** @param runBytes  at its multiples no member's data goes on without a gap */
  constructor(runBytes: number, read: Read) {
    // Short runs are put together all the same: one call joins what it can.
    this.#pieceBytes = runBytes * Math.ceil(GATHERED_BYTES_MAX / runBytes);
    this.#read = read;
  }

  readv(targets: readonly Buffer[], at: number): Promise<void> {
    const byteCount = totalBytes(targets);
    const continues = at === this.#end;
    this.#end = at + byteCount;
    if (!continues) {
      this.#beginWaiting();
      return this.#begin(targets, at, byteCount);
    }
    if (this.#waitingBytes + byteCount > GATHERED_BYTES_MAX) this.#beginWaiting();
    return new Promise((resolve, reject) => {
      this.#waiting.push({ targets, at, resolve, reject });
      this.#waitingBytes += byteCount;
      if (this.#waitingBytes >= GATHERED_BYTES_MAX || this.#reachesEnd(at, byteCount)) this.#beginWaiting();
      else if (this.#due) this.#beginSoon();
    });
  }

  #reachesEnd(at: number, byteCount: number): boolean {
    return Math.floor(at / this.#pieceBytes) < Math.floor((at + byteCount) / this.#pieceBytes);
  }

  get #due(): boolean {
    return this.#underWay < UNDER_WAY_MIN || this.#waitingBytes >= this.#underWayBytes;
  }

  #beginSoon(): void {
    if (this.#soon) return;
    this.#soon = true;
    process.nextTick(() => {
      this.#soon = false;
      if (this.#due) this.#beginWaiting();
    });
  }

  async #begin(targets: readonly Buffer[], at: number, byteCount: number): Promise<void> {
    this.#underWay++;
    this.#underWayBytes += byteCount;
    try {
      await this.#read(targets, at);
    } finally {
      this.#underWay--;
      this.#underWayBytes -= byteCount;
      if (this.#waiting.length > 0 && this.#due) this.#beginSoon();
    }
  }

  #beginWaiting(): void {
    const parts = this.#waiting;
    const [first] = parts;
    if (first === undefined) return;
    const byteCount = this.#waitingBytes;
    this.#waiting = [];
    this.#waitingBytes = 0;
    const targets = parts.length === 1 ? first.targets : parts.flatMap((part) => part.targets);
    this.#begin(targets, first.at, byteCount).then(
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
    else
      for (const { targets, at, resolve, reject } of parts)
        this.#begin(targets, at, totalBytes(targets)).then(resolve, reject);
  }
}
