import type { BlockDevice } from "../../src/device/device.js";
import { DiskLanes } from "../../src/device/disk-lane.js";
import { SILENT } from "../../src/lib/log.js";
import type { Random } from "../../src/lib/prng.js";
import { SeededRandom } from "../../src/lib/prng.js";
import { KIB, MIB } from "../../src/lib/units.js";
import { LIMITS } from "../../src/limits.js";
import {
  type AssembleGroupOptions,
  assembleGroup,
  createGroup,
  initDisk,
  labelledDisk,
  readLabel,
} from "../../src/lu/group.js";
import { SLOW_DISKS } from "../../src/raid/aside-watch.js";
import type { Group, GroupEvent, LabelledDisk, Without } from "../../src/raid/contract.js";
import { LifeArena } from "../support/life-arena.js";
import { Drive } from "./drive.js";
import { CRASHES, type Crash, Media } from "./media.js";
import { type Lives, Moments } from "./moments.js";
import type { Platter } from "./platter.js";
import { SimulatedClock, type Simulation } from "./simulation.js";
import { Threads } from "./threads.js";

/** As little memory as a group runs with, so that slots, buffers and the journal run out all the time. */
export const TIGHT_BUFFERS = {
  stripeCacheBytes: 512 * KIB,
  bandPoolBytes: 512 * KIB,
  journalRecordBytes: 128 * KIB,
  backgroundBytes: 512 * KIB,
};

/** One for all runs of this process: memory is taken once. */
export const arena = new LifeArena(24 * MIB);

/** Of a daemon on a single node. */
export const THREADS = LIMITS.ioThreads;

export interface MachineOptions {
  readonly simulation: Simulation;
  readonly members: number;
  readonly diskBytes: number;
  readonly chunkBytes: number;
  readonly rowBytes: number;
  /** Of few stripes: the LUs are small, and parity is to be on every member. */
  readonly parityRun: number;
  readonly without: Without;
  /** As of a group's environment. */
  readonly seenElsewhere?: () => boolean;
  /** As a daemon on a single node has them: so many, shared out by lanes. Default: no call waits for a thread. */
  readonly threads?: number;
  readonly broken?: MachineBroken;
}

/** What is broken around the group. */
export interface MachineBroken {
  /** Intervals are measured by the wall clock. */
  readonly clock?: boolean;
  /** Threads are not shared out among disks. */
  readonly lanes?: boolean;
  /** No member is ever left out because it is slow. */
  readonly "slow-disk"?: boolean;
}

/** The power failed while something was still being done. */
export class PowerCut extends Error {}

/** A computer with disks: lives of the daemon's lower half, one after the other, on the same media. */
export class Machine {
  readonly simulation: Simulation;
  readonly random: Random;
  readonly arena = arena;
  readonly events: GroupEvent[] = [];
  /** The members first, then spares. */
  readonly drives: Drive[] = [];
  /** Drives that are not plugged in. */
  readonly unplugged = new Set<Drive>();
  clock: SimulatedClock;
  group!: Group;
  /** The last life that began, that was assembled, and that was closed. */
  lives = 0;
  #assembled = 0;
  #closed = 0;
  readonly #moments: Moments;
  readonly #options: MachineOptions;
  #lanes: DiskLanes | null = null;
  #threads = new Threads(Number.POSITIVE_INFINITY);
  #cutAfter = Number.POSITIVE_INFINITY;
  #onCut: () => void = () => {};

  constructor(options: MachineOptions) {
    this.#options = options;
    this.simulation = options.simulation;
    this.random = options.simulation.random;
    this.clock = this.#makeClock();
    this.#moments = new Moments(new SeededRandom(this.random.below(2 ** 31)));
  }

  addDrive(): Drive {
    const { simulation } = this;
    const drive = new Drive({ simulation, index: this.drives.length, sizeBytes: this.#options.diskBytes });
    drive.threads = this.#threads;
    drive.beforeEffect = (operation) => {
      if (operation === "read") return;
      this.#moments.pass(this.drives, this.#now);
      if (--this.#cutAfter <= 0) this.#onCut();
    };
    this.drives.push(drive);
    return drive;
  }

  /** Label a new drive, for whoever takes it. */
  label(drive: Drive): Promise<LabelledDisk> {
    return initDisk(this.#open(drive), { number: drive.index + 1, random: this.random });
  }

  #open(drive: Drive): BlockDevice {
    const device = drive.open(`/dev/sd${this.lives}${String.fromCharCode(97 + ((drive.index + this.lives) % 26))}`);
    return this.#lanes?.over(device, "data") ?? device;
  }

  #makeClock(): SimulatedClock {
    return new SimulatedClock(this.simulation, this.#options.broken?.clock);
  }

  /** Another process, with threads of its own. */
  #beginThreads(): void {
    const { threads, broken } = this.#options;
    if (threads === undefined) return;
    if (broken?.lanes !== true) this.#lanes = new DiskLanes(this.clock, threads);
    this.#threads = new Threads(threads);
    for (const drive of this.drives) drive.threads = this.#threads;
  }

  async create(): Promise<void> {
    const environment = this.#environment();
    const disks: LabelledDisk[] = [];
    for (let i = 0; i < this.#options.members; i++) disks.push(await this.label(this.addDrive()));
    const { chunkBytes, rowBytes, parityRun } = this.#options;
    this.group = await createGroup(disks, { ...environment, name: "g", chunkBytes, rowBytes, parityRun });
    this.#assembled = this.lives;
  }

  get #now(): Lives {
    return { begun: this.lives, assembled: this.#assembled, closed: this.#closed, nowMs: this.simulation.nowMs };
  }

  /** What a drive may be put back to now; null: nothing. */
  earlier(drive: Drive, random: Random): Platter | null {
    return this.#moments.earlier(drive, this.#now, random);
  }

  async close(): Promise<void> {
    await this.group.close();
    this.#closed = this.lives;
  }

  #environment(): AssembleGroupOptions {
    this.arena.begin();
    this.lives++;
    this.clock.stop();
    this.clock = this.#makeClock();
    this.#beginThreads();
    const onEvent = (event: GroupEvent): void => void this.events.push(event);
    const { clock, random, arena } = this;
    const { without, broken, seenElsewhere } = this.#options;
    const slowDisks =
      broken?.["slow-disk"] === true ? { ...SLOW_DISKS, afterMs: Number.POSITIVE_INFINITY } : SLOW_DISKS;
    const settings = { without, slowDisks, seenElsewhere };
    return { arena, clock, random, log: SILENT, buffers: TIGHT_BUFFERS, ...settings, onEvent };
  }

  /** What the daemon finds at its start: every drive that is plugged in and carries a label of the group, in any order. */
  async find(): Promise<LabelledDisk[]> {
    const disks: LabelledDisk[] = [];
    for (const drive of this.drives) {
      if (this.unplugged.has(drive) || drive.failure !== null) continue;
      const device = this.#open(drive);
      const label = await readLabel(device).catch(() => null);
      if (label?.group !== undefined) disks.push(labelledDisk(device, label));
    }
    const order = disks.map(() => this.random.next());
    return disks
      .map((_, i) => i)
      .sort((a, b) => order[a]! - order[b]!)
      .map((i) => disks[i]!);
  }

  async assemble(): Promise<void> {
    const environment = this.#environment();
    const life = this.lives;
    this.group = await assembleGroup(await this.find(), environment);
    this.#assembled = life;
  }

  /** Drives that the group counts as its members, present or not. */
  memberDrives(): number[] {
    return this.group.describe().disks.map(({ number }) => number - 1);
  }

  /** A device on a drive that the running daemon has not opened yet, with its label. */
  async labelled(drive: Drive): Promise<LabelledDisk | null> {
    const device = this.#open(drive);
    const label = await readLabel(device);
    return label === null ? null : labelledDisk(device, label);
  }

  /**
   * Do `work` until it ends, or until so many writes and flushes have reached the disks: then the power fails.
   * @returns whether it did
   */
  async runUntilCut(work: Promise<unknown>, operations: number, what: string): Promise<boolean> {
    const cut = new Promise<"cut">((resolve) => {
      this.#cutAfter = operations;
      this.#onCut = () => {
        this.cut();
        resolve("cut");
      };
    });
    try {
      // After the cut every request fails, and so may the work.
      return (await this.simulation.until(Promise.race([cut, work]), what)) === "cut";
    } finally {
      this.#cutAfter = Number.POSITIVE_INFINITY;
      work.catch(() => {});
    }
  }

  /** The power fails now. Every disk loses its cache in its own way. */
  cut(): void {
    this.#cutAfter = Number.POSITIVE_INFINITY;
    this.clock.stop();
    for (const drive of this.drives) drive.cut(this.#crash());
  }

  #crash(): Crash {
    return CRASHES[this.random.below(CRASHES.length)]!;
  }

  /** The same disks in another machine, as they would come up without the members `lost`; this one goes on undisturbed. */
  copy(simulation: Simulation, lost: ReadonlySet<number>): Machine {
    const twin = new Machine({ ...this.#options, simulation });
    for (const { index, sizeBytes, media, badBlocks, failure } of this.drives) {
      const drive = new Drive({ simulation, index, sizeBytes, media: new Media(media.platter.fork()) });
      for (const block of badBlocks) drive.badBlocks.add(block);
      drive.failure = failure;
      twin.drives.push(drive);
      if (lost.has(index) || [...this.unplugged].some((one) => one.index === index)) twin.unplugged.add(drive);
    }
    return twin;
  }
}

/** Randomness of one step: the same whatever other steps there are. */
export function stepRandom(seed: number, step: number): Random {
  return new SeededRandom(seed * 4099 + step * 7 + 1);
}
