import { assert } from "../lib/assert.js";
import { StorageError } from "../lib/errors.js";
import type { Random } from "../lib/prng.js";
import { BLOCK_BYTES } from "../lib/units.js";
import type { BlockDevice } from "./device.js";
import { type Keep, Media } from "./memory-media.js";
import { checkRange, checkWritable, closedError, InFlight, totalBytes } from "./range.js";

export type Operation = "read" | "write" | "writeThrough" | "flush";

export interface MemoryDeviceOptions {
  readonly name?: string | undefined;
  /** A multiple of 4096. Memory is taken as it is written. */
  readonly sizeBytes: number;
  /** Decides what a crash keeps. */
  readonly random: Random;
  readonly readOnly?: boolean | undefined;
  readonly alignmentBytes?: number | undefined;
  /**
   * Called before an operation takes effect: it may delay it, or throw, and then it has no effect. This is where a test stops the
   * world after each single write, and where a simulator schedules.
   */
  readonly before?: ((operation: Operation, position: number, byteCount: number) => void | Promise<void>) | undefined;
}

/** Requests that reached the media. */
export interface DeviceCounters {
  reads: number;
  /** Both kinds. */
  writes: number;
  writesThrough: number;
  flushes: number;
  bytesRead: number;
  bytesWritten: number;
}

/** Bad sectors: a request that touches the range is EIO. */
export interface BadRange {
  readonly position: number;
  readonly byteCount: number;
  /** By default both. */
  readonly on?: "read" | "write" | undefined;
  /** A block of it that is written is good again, as on a disk that puts another sector in the place of a bad one. */
  readonly remaps?: boolean | undefined;
}

/**
 * A disk in memory, with the volatile cache of a real one: what a crash keeps of it is any subset of the sectors that were not
 * flushed, and of a sector written several times any version.
 *
 * After `crash` the same object goes on, as a disk does after power returns; requests that had not taken effect are ENXIO.
 * `reopen` gives a fresh handle on the same media and makes this one ENXIO at once, so that code from before the crash cannot write.
 */
export class MemoryDevice implements BlockDevice {
  readonly name: string;
  readonly sizeBytes: number;
  readonly readOnly: boolean;
  readonly alignmentBytes: number;
  readonly counters: DeviceCounters = {
    reads: 0,
    writes: 0,
    writesThrough: 0,
    flushes: 0,
    bytesRead: 0,
    bytesWritten: 0,
  };
  readonly #options: MemoryDeviceOptions;
  readonly #media: Media;
  readonly #inFlight = new InFlight();
  #badRanges: BadRange[] = [];
  #failure: "EIO" | "ENXIO" | null = null;
  #closed: Promise<void> | null = null;
  /** Rises with every crash. */
  #powerCycle = 0;

  constructor(options: MemoryDeviceOptions, media?: Media) {
    assert(options.sizeBytes % BLOCK_BYTES === 0, "a memory device is whole blocks");
    this.#options = options;
    this.name = options.name ?? "memory";
    this.sizeBytes = options.sizeBytes;
    this.readOnly = options.readOnly ?? false;
    this.alignmentBytes = options.alignmentBytes ?? 1;
    this.#media = media ?? new Media();
  }

  read(target: Buffer, position: number): Promise<void> {
    return this.readv([target], position);
  }

  readv(targets: readonly Buffer[], position: number): Promise<void> {
    const byteCount = totalBytes(targets);
    return this.#run("read", position, byteCount, () => {
      let at = position;
      for (const target of targets) {
        this.#media.read(target, at);
        at += target.length;
      }
      this.counters.reads++;
      this.counters.bytesRead += byteCount;
    });
  }

  write(source: Buffer, position: number): Promise<void> {
    return this.writev([source], position);
  }

  writev(sources: readonly Buffer[], position: number): Promise<void> {
    const byteCount = totalBytes(sources);
    return this.#run("write", position, byteCount, () => this.#put(sources, position, byteCount));
  }

  writeThrough(sources: readonly Buffer[], position: number): Promise<void> {
    const byteCount = totalBytes(sources);
    return this.#run("writeThrough", position, byteCount, () => {
      this.#put(sources, position, byteCount);
      this.#media.persist(position, byteCount);
      this.counters.writesThrough++;
    });
  }

  flush(): Promise<void> {
    // What is written while the flush is under way is not part of it.
    const upTo = this.#media.version;
    return this.#run("flush", 0, 0, () => {
      this.#media.flush(upTo);
      this.counters.flushes++;
    });
  }

  close(): Promise<void> {
    this.#closed ??= this.#inFlight.drain();
    return this.#closed;
  }

  /** The power fails and returns. Returns how many unflushed sectors were kept in some version. */
  crash(options: { readonly keep: Keep }): number {
    this.#powerCycle++;
    return this.#media.crash(options.keep, this.#options.random);
  }

  /** A fresh handle on the same media, without injected errors; this one is closed at once. */
  reopen(options: Partial<MemoryDeviceOptions> = {}): MemoryDevice {
    this.#powerCycle++;
    void this.close();
    return new MemoryDevice({ ...this.#options, ...options }, this.#media);
  }

  /** From now on every request fails: the disk is broken (EIO) or pulled out (ENXIO). */
  fail(code: "EIO" | "ENXIO" = "EIO"): void {
    this.#failure = code;
  }

  failRange(range: BadRange): void {
    this.#badRanges.push(range);
  }

  /** Takes back `fail` and `failRange`. */
  heal(): void {
    this.#failure = null;
    this.#badRanges = [];
  }

  /** Change what is on the media behind everybody's back, flushed: bit rot, a stale disk, another machine. */
  poke(source: Buffer, position: number): void {
    this.#media.write(source, position);
    this.#media.persist(position, source.length);
  }

  /** Sectors written and not flushed. */
  get unflushedSectors(): number {
    return this.#media.unflushedSectors;
  }

  async #run(operation: Operation, position: number, byteCount: number, effect: () => void): Promise<void> {
    if (this.#inFlight.closed) throw closedError(this.name, position);
    checkRange(this, position, byteCount);
    if (operation !== "read" && operation !== "flush") checkWritable(this, position);
    const powerCycle = this.#powerCycle;
    this.#inFlight.enter();
    try {
      await this.#options.before?.(operation, position, byteCount);
      if (powerCycle !== this.#powerCycle) throw closedError(this.name, position);
      this.#checkHealth(operation, position, byteCount);
      effect();
    } finally {
      this.#inFlight.leave();
    }
  }

  /** What is written of a bad range that remaps is cut out of it. */
  #remap(position: number, byteCount: number): void {
    if (!this.#badRanges.some(({ remaps }) => remaps === true)) return;
    const end = position + byteCount;
    this.#badRanges = this.#badRanges.flatMap((range) => {
      const rangeEnd = range.position + range.byteCount;
      if (range.remaps !== true || position >= rangeEnd || range.position >= end) return [range];
      const parts = [
        { ...range, byteCount: position - range.position },
        { ...range, position: end, byteCount: rangeEnd - end },
      ];
      return parts.filter((part) => part.byteCount > 0);
    });
  }

  #put(sources: readonly Buffer[], position: number, byteCount: number): void {
    this.#remap(position, byteCount);
    let at = position;
    for (const source of sources) {
      this.#media.write(source, at);
      at += source.length;
    }
    this.counters.writes++;
    this.counters.bytesWritten += byteCount;
  }

  #checkHealth(operation: Operation, position: number, byteCount: number): void {
    const detail = { device: this.name, position };
    if (this.#failure !== null) throw new StorageError(this.#failure, `${this.name} has failed`, detail);
    const kind = operation === "read" ? "read" : "write";
    for (const range of this.#badRanges) {
      if (range.on !== undefined && range.on !== kind) continue;
      if (position >= range.position + range.byteCount || range.position >= position + byteCount) continue;
      throw new StorageError("EIO", `bad sectors on ${this.name}`, detail);
    }
  }
}
