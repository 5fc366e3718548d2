import type { BlockDevice } from "../../../src/device/device.js";
import { closedError, totalBytes } from "../../../src/device/range.js";
import { crc32c } from "../../../src/lib/crc32c.js";
import { StorageError } from "../../../src/lib/errors.js";
import { LAYOUT } from "../../../src/raid/layout.js";
import { DeviceHandle, OPERATIONS, type Operation } from "../device-handle.js";
import { CRASHES, type Media } from "../media.js";
import type { Platter } from "../platter.js";
import type { Simulation } from "../simulation.js";
import type { Threads } from "../threads.js";
import type { Gate } from "./node-clock.js";
import type { Holding, Ownership } from "./ownership.js";

const LOOK_AGAIN_MS = 500;

/** A process that has disks open. */
export interface DiskUser {
  readonly node: string;
  readonly host: string;
  readonly gate: Gate;
  readonly threads: Threads;
}

interface Request {
  readonly user: DiskUser;
  readonly holding: Holding | null;
  readonly operation: Operation;
  readonly position: number;
  readonly byteCount: number;
  /** Of a read: where it goes. Of a write: a copy of what it was asked with. */
  readonly buffers: readonly Buffer[];
  readonly upTo: number;
  readonly askedMs: number;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

/** What one node gets from a disk. */
export interface NodeFaults {
  /** It does not see the disk at all. */
  blocked: boolean;
  /** Its requests in the reserved area fail, or take this long more. */
  reserved: "fail" | number | null;
  /** So many times longer than usual its requests take, one after the other. */
  slowness: number;
  /** When it has done all that it was asked for while it was slow. */
  busyUntilMs: number;
}

export interface SharedDiskOptions {
  readonly simulation: Simulation;
  readonly ownership: Ownership;
  readonly index: number;
  readonly sizeBytes: number;
  readonly media: Media;
  /** A write or flush is about to take effect. */
  readonly beforeEffect: () => void;
  /** A request that was asked for may take effect as late as this when its process is paused or gone. */
  readonly lateMsMax: number;
}

/**
 * A disk that all nodes see. Requests end in any order after a random time; what a process has asked for takes effect even when it is paused or ended
 * in between, at once or much later, unless it is settled (`settle`). Writes stay in a volatile cache of the disk, seen by all.
 */
export class SharedDisk {
  readonly index: number;
  readonly sizeBytes: number;
  readonly path: string;
  /** Who holds the flock, by host. */
  readonly locks = new Map<string, DiskUser>();
  readonly #faults = new Map<string, NodeFaults>();
  readonly #options: SharedDiskOptions;
  readonly media: Media;
  readonly #pending = new Set<Request>();
  /** Whose writes are in the cache: the number of the last one of each host. */
  readonly #cached = new Map<string, number>();

  constructor(options: SharedDiskOptions) {
    this.#options = options;
    this.media = options.media;
    this.index = options.index;
    this.sizeBytes = options.sizeBytes;
    this.path = `/dev/shared${options.index}`;
  }

  faultsOf(node: string): NodeFaults {
    const known = this.#faults.get(node);
    if (known !== undefined) return known;
    const faults: NodeFaults = { blocked: false, reserved: null, slowness: 1, busyUntilMs: 0 };
    this.#faults.set(node, faults);
    return faults;
  }

  /** For a group that the process has (`holding`), or to look at it. */
  open(user: DiskUser, holding: Holding | null): BlockDevice {
    return new DeviceHandle({
      ...{ name: this.path, sizeBytes: this.sizeBytes, isDead: () => user.gate.dead },
      request: (operation, buffers, position) => this.request(user, holding, operation, buffers, position),
    });
  }

  request(user: DiskUser, holding: Holding | null, operation: Operation, buffers: readonly Buffer[], position: number) {
    return new Promise<void>((resolve, reject) => {
      const dead = (): void => reject(closedError(this.path, position));
      user.gate.run(() => {
        const byteCount = totalBytes(buffers);
        const kept = operation === "read" ? buffers : [Buffer.concat(buffers)];
        const [upTo, askedMs] = [this.media.number, this.#options.simulation.nowMs];
        const asked = { user, holding, operation, position, byteCount, buffers: kept, upTo, askedMs, resolve, reject };
        user.threads.take(() => this.#ask(asked), dead);
      }, dead);
    });
  }

  #ask(request: Request): void {
    const { simulation } = this.#options;
    const { user, position } = request;
    const faults = this.faultsOf(user.node);
    const reserved = position >= LAYOUT.reserved && position < LAYOUT.bitmapSlot0 && request.operation !== "flush";
    if (faults.blocked || (reserved && faults.reserved === "fail")) {
      simulation.after(0.1, () => this.#answer(request, new StorageError("EIO", `${this.path} does not answer`)));
      return;
    }
    this.#pending.add(request);
    const slow = reserved && typeof faults.reserved === "number" ? simulation.random.below(faults.reserved) : 0;
    simulation.after(slow + this.#serviceMs(request, faults), () => this.#arrive(request));
  }

  /** A slow disk, too, does what it was asked to within the time that is relied on where there is nothing but the lease. */
  #serviceMs({ operation, byteCount }: Request, faults: NodeFaults): number {
    const latencyMs = faults.slowness * this.#latencyMs(byteCount);
    if (faults.slowness === 1) return latencyMs;
    const { nowMs } = this.#options.simulation;
    faults.busyUntilMs = Math.max(nowMs, faults.busyUntilMs) + latencyMs;
    const serviceMs = faults.busyUntilMs - nowMs;
    return operation === "read" ? serviceMs : Math.min(serviceMs, this.#options.lateMsMax - 1);
  }

  #latencyMs(byteCount: number): number {
    const { random } = this.#options.simulation;
    const usual = 0.05 + random.below(1000) / 2000 + byteCount / 2 ** 18;
    return usual * (random.below(32) === 0 ? 20 : 1);
  }

  /** The disk does it now, or later as long as nobody is there to wait for it: it looks again soon, for a process that has gone on. */
  #arrive(request: Request): void {
    if (!this.#pending.has(request)) return;
    const { simulation, lateMsMax } = this.#options;
    const leftMs = request.askedMs + lateMsMax - simulation.nowMs;
    if (!request.user.gate.running && leftMs > 1 && simulation.random.below(8) > 0) {
      const delayMs = 1 + simulation.random.below(Math.min(Math.ceil(leftMs), LOOK_AGAIN_MS));
      simulation.after(delayMs, () => this.#arrive(request));
      return;
    }
    this.#effect(request);
    this.#answer(request, null);
  }

  #answer(request: Request, error: Error | null): void {
    const { user, position, resolve, reject } = request;
    user.threads.giveBack();
    user.gate.run(
      () => (error === null ? resolve() : reject(error)),
      () => reject(closedError(this.path, position)),
    );
  }

  #effect(request: Request): void {
    this.#pending.delete(request);
    const { operation, position, byteCount, buffers, upTo, holding, user } = request;
    const checksum = operation === "read" ? 0 : buffers.reduce((sum, buffer) => crc32c(buffer, sum), 0);
    this.#options.simulation.trace(OPERATIONS.indexOf(operation), this.index, position, byteCount, checksum);
    if (operation !== "read") this.#options.beforeEffect();
    if (operation === "flush") this.media.flush(upTo);
    else if (operation === "read") this.#read(buffers, position);
    else {
      this.#options.ownership.written(holding, this.index, position);
      if (operation === "writeThrough") this.media.writeThrough(buffers[0]!, position);
      else this.media.write(buffers[0]!, position);
      this.#cached.set(user.host, this.media.number);
    }
  }

  #read(targets: readonly Buffer[], position: number): void {
    let at = position;
    for (const target of targets) {
      this.media.read(target, at);
      at += target.length;
    }
  }

  /** A process is gone, and so is what it had asked for: of each request it is known whether it took effect. Its locks are free. */
  settle(user: DiskUser): void {
    const { random } = this.#options.simulation;
    for (const request of [...this.#pending]) {
      if (request.user !== user) continue;
      if (random.below(2) === 0) this.#effect(request);
      else this.#pending.delete(request);
      request.reject(closedError(this.path, request.position));
    }
  }

  /** As it was at an earlier moment. Who had something under way there is gone, but for looks at the reserved area. */
  putBack(platter: Platter): void {
    this.media.replace(platter);
    this.#cached.clear();
  }

  unlock(user: DiskUser): void {
    if (this.locks.get(user.host) === user) this.locks.delete(user.host);
  }

  /** The power of a host fails, and with it the cache, as far as only writes of this host are in it. Its requests have been settled. */
  losePower(host: string): void {
    const { random } = this.#options.simulation;
    const others = [...this.#cached].some(([other, number]) => other !== host && this.#isCached(number));
    if (!others) this.media.crash(CRASHES[random.below(CRASHES.length)]!, [], random);
  }

  #isCached(upTo: number): boolean {
    return this.media.unflushed.some(({ number }) => number <= upTo);
  }
}
