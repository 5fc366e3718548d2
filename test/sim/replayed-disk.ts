import type { Random } from "../../src/lib/prng.js";
import { type CachedWrite, type Crash, crashOnto, outside } from "./media.js";
import type { Platter } from "./platter.js";
import type { RecordedEvent } from "./recording.js";

/** A disk on which a recording is played again, one event after the other: at each moment it tells what a crash would leave. */
export class ReplayedDisk {
  readonly #platter: Platter;
  #cache: CachedWrite[] = [];
  readonly #inFlight = new Map<number, CachedWrite>();
  #number = 0;

  constructor(platter: Platter) {
    this.#platter = platter;
  }

  /** Writes that a crash may drop, in the cache or on their way. */
  get unflushedCount(): number {
    return this.#cache.length + this.#inFlight.size;
  }

  asked({ operation, id, position, bytes }: RecordedEvent): void {
    if (operation !== "flush") this.#inFlight.set(id, { number: 0, position, bytes });
  }

  /** @returns whether something has become durable */
  ended({ operation, id, upTo }: RecordedEvent): boolean {
    if (operation === "flush") return this.#flush(upTo);
    const write = this.#inFlight.get(id);
    this.#inFlight.delete(id);
    // Asked for before the recording began.
    if (write === undefined) return false;
    this.#number++;
    if (operation === "write") this.#cache.push({ ...write, number: this.#number });
    else this.#persist(write);
    return operation !== "write";
  }

  #persist({ position, bytes }: CachedWrite): void {
    this.#cache = this.#cache.flatMap((write) => outside(write, position, position + bytes.length));
    this.#platter.write(bytes, position);
  }

  #flush(upTo: number): boolean {
    const durable = this.#cache.filter(({ number }) => number <= upTo);
    this.#cache = this.#cache.filter(({ number }) => number > upTo);
    for (const { position, bytes } of durable) this.#platter.write(bytes, position);
    return durable.length > 0;
  }

  /** What would be there after a crash now; to be released before the next event. */
  crashed(crash: Crash, random: Random): Platter {
    const image = this.#platter.fork();
    crashOnto(image, [...this.#cache, ...this.#inFlight.values()], crash, random);
    return image;
  }
}
