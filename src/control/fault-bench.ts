import type { BlockDevice } from "../device/device.js";
import { type Fault, type FaultKind, FaultSet } from "../device/fault.js";
import { FaultyDevice } from "../device/faulty-device.js";
import { type RottenBit, rotMedium } from "../device/rot-medium.js";
import { type CutMode, VolatileDevice } from "../device/volatile-device.js";
import type { Clock } from "../lib/clock.js";
import { messageOf, StorageError } from "../lib/errors.js";
import type { Logger } from "../lib/log.js";
import { type Random, SeededRandom } from "../lib/prng.js";
import type { StorageLayers } from "./layers.js";

/** A fault that is set. */
export interface FaultRow {
  readonly disk: number;
  readonly path: string;
  readonly kind: FaultKind;
  /** Bytes; null: the whole disk. */
  readonly position: number | null;
  readonly byteCount: number | null;
  readonly delayMs: number | null;
  /** null: reads and writes. */
  readonly on: "read" | "write" | null;
  /** null: until it is cleared. */
  readonly hitsLeft: number | null;
}

export interface InjectedFault {
  readonly disk: number;
  readonly path: string;
  readonly kind: FaultKind;
  /** With it and the same disk the same happens again. */
  readonly seed: number;
  /** Of bit rot: what is wrong on the disk from now on. */
  readonly rotten: readonly RottenBit[];
}

export interface CrashReport {
  readonly seed: number;
  readonly mode: CutMode;
  /** Sectors of 512 bytes that were written and not flushed. All 0 without volatile caches: then nothing is torn. */
  readonly disks: readonly { readonly path: string; readonly keptSectors: number; readonly lostSectors: number }[];
}

export interface DiskPlace {
  readonly disk: number;
  readonly path: string;
}

/**
 * A crash comes at one of the next writes, for time is no good choice: most of it passes while disks flush and caches are empty. When nothing
 * is written it comes after so long.
 */
const WRITES_MAX = 64;
const WAIT_MS = 200;

/** A disk that is open, and the layers over it. */
interface Stack {
  readonly medium: BlockDevice;
  readonly cache: VolatileDevice | null;
  readonly faulty: FaultyDevice;
}

/** What is known of a path, also while no disk is open there. */
interface Bay {
  readonly faults: FaultSet;
  /** As it was last called. */
  disk: number;
  stack: Stack | null;
}

export interface BenchOptions {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  /** How a slow disk lets time pass (FaultyOptions.hold). */
  readonly hold?: ((ms: number) => Promise<void>) | undefined;
  /** Give every disk a volatile write cache, which a crash can tear. */
  readonly volatileCache: boolean;
}

/**
 * Puts a layer over every disk that does wrong on demand (device/faulty-device.ts), and keeps the faults by path. They are in memory: a
 * restart forgets them. What they did to the disks stays.
 */
export class FaultBench {
  readonly #bays = new Map<string, Bay>();
  #onWrite: (() => void) | null = null;

  constructor(private readonly options: BenchOptions) {}

  /** The same layers, with ours over each disk that is opened. */
  over(layers: StorageLayers): StorageLayers {
    return {
      ...layers,
      openDevice: async (path) => {
        this.#assertPresent(path);
        return this.#wrap(path, await layers.openDevice(path));
      },
      openShared: async (path) => {
        this.#assertPresent(path);
        // Another process has it open too, and would not see what is in a cache of ours.
        return this.#wrap(path, await layers.openShared(path), false);
      },
      openReadOnly: async (path) => {
        this.#assertPresent(path);
        return layers.openReadOnly(path);
      },
    };
  }

  /** For the reserved area: of a slow disk it is as slow. Other faults are for what a group keeps on a disk. */
  overReserved(device: BlockDevice): BlockDevice {
    const { clock, random, hold } = this.options;
    const faults = this.#bay(device.name).faults.only("slow");
    return new FaultyDevice(device, { clock, random, hold, faults });
  }

  list(): FaultRow[] {
    return [...this.#bays].flatMap(([path, { disk, faults }]) =>
      faults.active.map(({ fault, hitsLeft }) => ({
        ...{ disk, path, kind: fault.kind, hitsLeft },
        position: fault.position ?? null,
        byteCount: fault.byteCount ?? null,
        delayMs: fault.kind === "slow" ? fault.delayMs : null,
        on: (fault.kind === "eio" ? fault.on : undefined) ?? null,
      })),
    );
  }

  /**
   * Bit rot happens at once and on the medium: `hits` bits (1), in the range or somewhere in use. A disk that is gone loses what was in its
   * volatile cache, cannot be opened until the fault is cleared, and has to be opened anew then. The others stay until they are cleared.
   * @throws StorageError ENXIO when bits are to rot and the disk is not open; EINVAL for a range outside of it
   */
  async inject(place: DiskPlace, fault: Fault, seed: number): Promise<InjectedFault> {
    const bay = this.#bay(place.path);
    bay.disk = place.disk;
    const random = new SeededRandom(seed);
    const injected = { ...place, kind: fault.kind, seed };
    checkInside(bay, fault);
    if (fault.kind === "bitrot") return { ...injected, rotten: await this.#rot(place.path, bay, fault, random) };
    bay.faults.inject(fault, random);
    if (fault.kind === "gone") await this.#pull(place.path, bay, random);
    return { ...injected, rotten: [] };
  }

  /** Has this disk had a fault? It may have left the daemon's list since. */
  knows(disk: number): boolean {
    return [...this.#bays.values()].some((bay) => bay.disk === disk);
  }

  /**
   * @param which  a disk by its number when its fault was set, and by the path that it has now; absent: all
   * @returns what was cleared
   */
  clear(which: { disk: number; path?: string | undefined } | undefined, kind: FaultKind | undefined): FaultRow[] {
    const before = this.list();
    for (const [at, bay] of this.#bays) {
      if (which === undefined || which.path === at || which.disk === bay.disk) bay.faults.clear(kind);
    }
    const left = new Set(this.list().map((row) => JSON.stringify(row)));
    return before.filter((row) => !left.has(JSON.stringify(row)));
  }

  /**
   * The power of all disks fails at the same moment, with volatile caches right at one of the next writes. No request settles from then
   * on, so that nobody is told of anything that happens afterwards; the process has to end now.
   */
  async crash(seed: number, mode: CutMode): Promise<CrashReport> {
    const random = new SeededRandom(seed);
    const disks = await new Promise<CrashReport["disks"]>((resolve) => {
      this.#atSomeWrite(random, () => resolve(this.#cutAll(random, mode)));
    });
    return { seed, mode, disks };
  }

  #atSomeWrite(random: Random, action: () => void): void {
    if (!this.options.volatileCache) {
      action();
      return;
    }
    let writesLeft = 1 + random.below(WRITES_MAX);
    const now = (): void => {
      cancel();
      this.#onWrite = null;
      action();
    };
    const cancel = this.options.clock.after(WAIT_MS, now);
    this.#onWrite = () => {
      if (--writesLeft === 0) now();
    };
  }

  /** Every disk is silent and without power before anything is awaited. */
  #cutAll(random: Random, mode: CutMode): Promise<CrashReport["disks"]> {
    const stacks = [...this.#bays]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .flatMap(([path, { stack }]) => (stack === null ? [] : [{ path, ...stack }]));
    for (const { faulty } of stacks) faulty.halt();
    const cuts = stacks.map(async ({ path, cache }) => {
      const report = await this.#cut(path, cache, new SeededRandom(random.next()), mode);
      return { path, ...report };
    });
    return Promise.all(cuts);
  }

  #bay(path: string): Bay {
    const known = this.#bays.get(path);
    if (known !== undefined) return known;
    const bay: Bay = { faults: new FaultSet(), disk: 0, stack: null };
    this.#bays.set(path, bay);
    return bay;
  }

  #assertPresent(path: string): void {
    if (this.#bays.get(path)?.faults.has("gone") !== true) return;
    throw new StorageError("ENXIO", `there is no device behind ${path}`, { device: path, injected: "gone" });
  }

  #wrap(path: string, medium: BlockDevice, cached = this.options.volatileCache): BlockDevice {
    const bay = this.#bay(path);
    const { clock, random, hold } = this.options;
    const cache = cached ? new VolatileDevice(medium, { onWrite: () => this.#onWrite?.() }) : null;
    const faulty = new FaultyDevice(cache ?? medium, { clock, random, hold, faults: bay.faults });
    bay.stack = { medium, cache, faulty };
    return faulty;
  }

  /** Its descriptor is closed too, so that the path is free when the disk is put back; whoever holds the device gets ENXIO. */
  async #pull(path: string, bay: Bay, random: Random): Promise<void> {
    const stack = bay.stack;
    if (stack === null) return;
    bay.stack = null;
    stack.faulty.detach();
    await this.#cut(path, stack.cache, random, "torn");
    stack.faulty.close().catch((error: unknown) => this.#complain(path, error));
  }

  async #rot(path: string, bay: Bay, fault: Fault, random: Random): Promise<RottenBit[]> {
    if (bay.stack === null) throw new StorageError("ENXIO", `the disk at ${path} is not open`, { device: path });
    const { medium } = bay.stack;
    return rotMedium(medium, { range: rangeOf(fault, medium.sizeBytes), bits: fault.hits ?? 1 }, random);
  }

  async #cut(path: string, cache: VolatileDevice | null, random: Random, mode: CutMode) {
    const nothing = { keptSectors: 0, lostSectors: 0 };
    if (cache === null) return nothing;
    return cache.cut(random, mode).catch((error: unknown) => {
      this.#complain(path, error);
      return nothing;
    });
  }

  #complain(path: string, error: unknown): void {
    this.options.log.warn({ device: path, error: messageOf(error) }, "a disk failed while its power was cut");
  }
}

function checkInside({ stack }: Bay, { position, byteCount }: Fault): void {
  const end = (position ?? 0) + (byteCount ?? 0);
  const sizeBytes = stack?.medium.sizeBytes ?? Number.MAX_SAFE_INTEGER;
  if ((position ?? 0) < sizeBytes && end <= sizeBytes) return;
  throw new StorageError("EINVAL", `the range ends at byte ${end}, but the disk has ${sizeBytes}`, {
    position,
    byteCount,
  });
}

/** Of bit rot: without a length the one byte; null when nothing was said. */
function rangeOf({ position, byteCount }: Fault, sizeBytes: number): { from: number; to: number } | null {
  if (position === undefined && byteCount === undefined) return null;
  const from = position ?? 0;
  return { from, to: Math.min(from + (byteCount ?? 1), sizeBytes) };
}
