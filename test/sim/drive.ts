import type { BlockDevice } from "../../src/device/device.js";
import { closedError, totalBytes } from "../../src/device/range.js";
import { crc32c } from "../../src/lib/crc32c.js";
import { StorageError } from "../../src/lib/errors.js";
import { BLOCK_BYTES } from "../../src/lib/units.js";
import { DeviceHandle, OPERATIONS, type Operation } from "./device-handle.js";
import { type CachedWrite, type Crash, Media } from "./media.js";
import type { Platter } from "./platter.js";
import type { Simulation } from "./simulation.js";
import { Threads } from "./threads.js";

export interface DriveRequest {
  readonly operation: Operation;
  readonly position: number;
  readonly byteCount: number;
  readonly buffers: readonly Buffer[];
  /** Of what is written, when it was asked for. */
  readonly checksum: number;
  /** Of a flush: the last write that it covers. */
  readonly upTo: number;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

/** A write that the disk acknowledges and does not do, or does somewhere else. */
export interface Lie {
  readonly from: number;
  readonly to: number;
  /** Added to the position; null: the write is lost. */
  readonly shiftBytes: number | null;
}

/** Sees every write and flush, when it is asked for and when it has taken effect. */
export interface DriveWatcher {
  asked(drive: Drive, request: DriveRequest): void;
  ended(drive: Drive, request: DriveRequest): void;
}

export interface DriveOptions {
  readonly simulation: Simulation;
  readonly index: number;
  readonly sizeBytes: number;
  readonly media?: Media;
}

/**
 * A simulated disk: requests end in any order after a random latency, writes stay in a volatile cache, and whatever can be wrong with a
 * disk can be made wrong with this one. `open` gives a device under some name; after `cut` that device is dead for ever.
 */
export class Drive {
  readonly index: number;
  readonly sizeBytes: number;
  readonly media: Media;
  /** All requests fail with this. */
  failure: "EIO" | "ENXIO" | null = null;
  /** Blocks (by number) that cannot be read until they are written. */
  readonly badBlocks = new Set<number>();
  /** Bytes that are not answered, for so many reads; null: all are. What is written there meanwhile arrives, and stays unanswered. */
  unanswered: { readonly from: number; readonly to: number; reads: number } | null = null;
  slowness = 1;
  lies: Lie[] = [];
  /** Called with each range that a lie leaves with other content than it should have. */
  onLie: (from: number, to: number) => void = () => {};
  /** Called when a request is about to take effect. */
  beforeEffect: (operation: Operation, drive: Drive) => void = () => {};
  watcher: DriveWatcher | null = null;
  /** Of the process that asks, now. */
  threads = new Threads(Number.POSITIVE_INFINITY);
  /** The longest that a request has waited for one of them. */
  waitedMsMax = 0;
  /** The latest request to be answered had one for so long. */
  tookMs = 0;
  readonly #simulation: Simulation;
  readonly #pending = new Set<DriveRequest>();
  #opened = 0;

  constructor(options: DriveOptions) {
    this.#simulation = options.simulation;
    this.index = options.index;
    this.sizeBytes = options.sizeBytes;
    this.media = options.media ?? new Media();
  }

  open(name: string): BlockDevice {
    const opening = ++this.#opened;
    return new DeviceHandle({
      ...{ name, sizeBytes: this.sizeBytes, isDead: () => !this.isOpen(opening) },
      request: (operation, buffers, position) => this.request(operation, opening, buffers, position),
    });
  }

  isOpen(opening: number): boolean {
    return opening === this.#opened;
  }

  /** The power fails: nothing that was asked for happens any more, and of what was not flushed the crash keeps some. */
  cut(crash: Crash): void {
    this.#opened++;
    const pending = [...this.#pending];
    this.#pending.clear();
    const inFlight = this.failure === null ? pending.flatMap(writesOf) : [];
    this.media.crash(crash, inFlight, this.#simulation.random);
    for (const request of pending) request.reject(closedError(`disk ${this.index}`, request.position));
  }

  /** What is on the platter now, cut off from what comes. */
  snapshot(): Platter {
    return this.media.platter.fork();
  }

  request(operation: Operation, opening: number, buffers: readonly Buffer[], position: number): Promise<void> {
    const byteCount = totalBytes(buffers);
    return new Promise((resolve, reject) => {
      const checksum = operation === "read" ? 0 : checksumOf(buffers);
      const upTo = this.media.number;
      const request = { operation, position, byteCount, buffers, checksum, upTo, resolve, reject };
      this.#pending.add(request);
      if (operation !== "read") this.watcher?.asked(this, request);
      this.#ask(request, opening);
    });
  }

  /** It holds a thread until the disk answers. */
  #ask(request: DriveRequest, opening: number): void {
    const { threads } = this;
    const simulation = this.#simulation;
    const askedMs = simulation.nowMs;
    let beganMs = 0;
    const answered = (): void => {
      this.tookMs = simulation.nowMs - beganMs;
      threads.giveBack();
      this.#end(request, opening);
    };
    const begin = (): void => {
      beganMs = simulation.nowMs;
      this.waitedMsMax = Math.max(this.waitedMsMax, beganMs - askedMs);
      simulation.after(this.#latencyMs(request.byteCount), answered);
    };
    threads.take(begin, () => {});
  }

  #latencyMs(byteCount: number): number {
    const { random } = this.#simulation;
    const usual = 0.05 + random.below(1000) / 2000 + byteCount / 2 ** 18;
    return usual * this.slowness * (random.below(16) === 0 ? 20 : 1);
  }

  #end(request: DriveRequest, opening: number): void {
    if (!this.isOpen(opening)) {
      // It was lost and is back under another handle: who asked by the old one hears of it.
      if (this.#pending.delete(request)) request.reject(closedError(`disk ${this.index}`, request.position));
      return;
    }
    this.beforeEffect(request.operation, this);
    // The power may just have failed.
    if (!this.#pending.delete(request)) return;
    const { operation, position, byteCount, checksum } = request;
    this.#simulation.trace(OPERATIONS.indexOf(operation), this.index, position, byteCount, checksum);
    try {
      this.#refuse(request);
      this.#effect(request);
      if (operation !== "read") this.watcher?.ended(this, request);
      request.resolve();
    } catch (error) {
      request.reject(error as Error);
    }
  }

  #refuse({ operation, position, byteCount }: DriveRequest): void {
    const detail = { device: `disk ${this.index}`, position };
    if (this.failure !== null) throw new StorageError(this.failure, `disk ${this.index} has failed`, detail);
    if (operation === "read" && this.#staysSilent(position, byteCount)) {
      throw new StorageError("EIO", `disk ${this.index} does not answer now`, detail);
    }
    if (this.badBlocks.size === 0) return;
    for (let at = Math.floor(position / BLOCK_BYTES); at * BLOCK_BYTES < position + byteCount; at++) {
      if (operation !== "read") this.badBlocks.delete(at);
      else if (this.badBlocks.has(at)) throw new StorageError("EIO", `bad block on disk ${this.index}`, detail);
    }
  }

  #staysSilent(position: number, byteCount: number): boolean {
    const { unanswered } = this;
    if (unanswered === null || unanswered.reads === 0) return false;
    if (position >= unanswered.to || position + byteCount <= unanswered.from) return false;
    unanswered.reads--;
    return true;
  }

  #effect(request: DriveRequest): void {
    const { operation, position, buffers, upTo } = request;
    if (operation === "flush") this.media.flush(upTo);
    else if (operation === "read") readInto(this.media, buffers, position);
    else this.#write(request);
  }

  #write({ operation, position, byteCount, buffers, checksum }: DriveRequest): void {
    const bytes = Buffer.concat(buffers);
    if (crc32c(bytes) !== checksum) throw new Error(`disk ${this.index}: a buffer changed while it was being written`);
    const shift = this.#lieAbout(position, byteCount);
    if (shift === null) return;
    if (operation === "writeThrough") this.media.writeThrough(bytes, position + shift);
    else this.media.write(bytes, position + shift);
  }

  /** @returns where the write really goes, from where it should; null: nowhere */
  #lieAbout(position: number, byteCount: number): number | null {
    const at = this.lies.findIndex(({ from, to }) => position >= from && position + byteCount <= to);
    if (at < 0) return 0;
    const { shiftBytes } = this.lies.splice(at, 1)[0]!;
    this.onLie(position, position + byteCount);
    if (shiftBytes !== null) this.onLie(position + shiftBytes, position + shiftBytes + byteCount);
    return shiftBytes;
  }
}

function writesOf({ operation, position, buffers }: DriveRequest): CachedWrite[] {
  if (operation === "read" || operation === "flush") return [];
  return [{ number: 0, position, bytes: Buffer.concat(buffers) }];
}

function checksumOf(buffers: readonly Buffer[]): number {
  let checksum = 0;
  for (const buffer of buffers) checksum = crc32c(buffer, checksum);
  return checksum;
}

function readInto(media: Media, targets: readonly Buffer[], position: number): void {
  let at = position;
  for (const target of targets) {
    media.read(target, at);
    at += target.length;
  }
}
