import { MemoryDevice } from "../../src/device/memory-device.js";
import { type CancelTimer, SystemClock } from "../../src/lib/clock.js";
import { SILENT } from "../../src/lib/log.js";
import { nextTurn } from "../../src/lib/next-turn.js";
import { type Random, SeededRandom } from "../../src/lib/prng.js";
import { MIB } from "../../src/lib/units.js";
import {
  type AssembleGroupOptions,
  assembleGroup,
  createGroup,
  initDisk,
  labelledDisk,
  readLabel,
} from "../../src/lu/group.js";
import type { Group, GroupEvent, LabelledDisk, TaskDescription, TaskKind } from "../../src/raid/contract.js";
import type { GroupBuffers } from "../../src/raid/group-environment.js";
import { LifeArena } from "../support/life-arena.js";

export const SMALL_BUFFERS = {
  stripeCacheBytes: 2 * MIB,
  bandPoolBytes: MIB,
  journalRecordBytes: 256 * 1024,
  backgroundBytes: MIB,
};

/** Time that passes when a test says so: every timer that is set fires, in order. */
export class ManualClock extends SystemClock {
  #timers: Array<() => void> = [];

  override after(_delayMs: number, action: () => void): CancelTimer {
    this.#timers.push(action);
    return () => {
      this.#timers = this.#timers.filter((timer) => timer !== action);
    };
  }

  pass(): void {
    for (const timer of this.#timers.splice(0)) timer();
  }
}

/** Levels, and how many members. */
export const GROUPS = [
  [1, 2],
  [1, 3],
  [5, 3],
  [5, 5],
] as const;

/** A rig with an LU that holds this. */
export interface FilledRig {
  readonly rig: RaidRig;
  group: Group;
  readonly content: Buffer;
}

export interface RigOptions {
  readonly members: number;
  readonly seed: number;
  readonly diskBytes?: number;
  readonly chunkBytes?: number;
  /** Two by default, or one of the largest chunks, so that parity moves in small LUs, too. */
  readonly parityRun?: number;
  readonly errorsMax?: number;
  readonly seenElsewhere?: (group: string) => boolean;
  readonly arenaBytes?: number;
  /** Instead of small ones. */
  readonly buffers?: Partial<GroupBuffers>;
}

/** Disks in memory that live through several lives of a group. */
export class RaidRig {
  readonly random: Random;
  readonly arena: LifeArena;
  readonly events: GroupEvent[] = [];
  clock = new ManualClock();
  readonly options: RigOptions;
  /** null: pulled out. */
  devices: Array<MemoryDevice | null> = [];
  /** Counts every operation of every device; called before it takes effect. */
  before: (operation: string, disk: number, position: number) => void | Promise<void> = () => {};

  constructor(options: RigOptions) {
    this.options = options;
    const arenaBytes = options.buffers === undefined ? 16 * MIB : 128 * MIB;
    this.arena = new LifeArena(options.arenaBytes ?? arenaBytes);
    this.random = new SeededRandom(options.seed);
  }

  #device(i: number, diskBytes = this.options.diskBytes): MemoryDevice {
    return new MemoryDevice({
      name: `disk${i}`,
      sizeBytes: diskBytes ?? 40 * MIB,
      random: new SeededRandom(this.options.seed * 100 + i),
      before: (operation, position) => this.before(operation, i, position),
    });
  }

  async create(): Promise<Group> {
    const disks: LabelledDisk[] = [];
    for (let i = 0; i < this.options.members; i++) {
      const device = this.#device(i);
      this.devices.push(device);
      disks.push(await initDisk(device, { number: i + 1, random: this.random }));
    }
    const { chunkBytes = 64 * 1024 } = this.options;
    return createGroup(disks, { ...this.#environment(), name: "g", chunkBytes, parityRun: this.parityRun });
  }

  get parityRun(): number {
    const { parityRun, chunkBytes = 64 * 1024 } = this.options;
    return parityRun ?? Math.min(2, MIB / chunkBytes);
  }

  /** One more disk, in no group. */
  async spare(number = this.devices.length + 1, diskBytes = this.options.diskBytes): Promise<LabelledDisk> {
    const device = this.#device(this.devices.length, diskBytes);
    this.devices.push(device);
    return initDisk(device, { number, random: this.random });
  }

  addDisk(diskBytes = this.options.diskBytes): Promise<LabelledDisk> {
    return this.spare(undefined, diskBytes);
  }

  /** The disk in this place as an empty one. */
  async blank(i: number): Promise<LabelledDisk> {
    return initDisk(this.devices[i]!, { number: this.devices.length + 1, random: this.random, force: true });
  }

  /** Until no background work of this kind is under way; time passes only when it rests. @returns how it ended */
  async ended(group: Group, kind: TaskKind): Promise<TaskDescription | undefined> {
    let doneBytes = -1;
    const { clock } = this;
    for (let turn = 1; ; turn++) {
      // Its power was cut meanwhile: time passes for another life now.
      if (this.clock !== clock) return undefined;
      const task = group.describe().tasks.find((one) => one.kind === kind);
      if (task === undefined || (task.state !== "running" && task.state !== "paused")) return task;
      if (turn % 64 === 0 && task.doneBytes === doneBytes) this.clock.pass();
      if (turn % 64 === 0) doneBytes = task.doneBytes;
      await nextTurn();
    }
  }

  #environment(): AssembleGroupOptions {
    this.arena.begin();
    this.clock = new ManualClock();
    return {
      arena: this.arena,
      clock: this.clock,
      random: this.random,
      log: SILENT,
      buffers: this.options.buffers ?? SMALL_BUFFERS,
      errorsMax: this.options.errorsMax,
      seenElsewhere: this.options.seenElsewhere,
      onEvent: (event) => void this.events.push(event),
    };
  }

  /** Fresh handles on the same media: what was running before can write no more. */
  reopen(): void {
    this.devices = this.devices.map((device) => device?.reopen() ?? null);
  }

  crash(keep: "none" | "all" | "random"): void {
    this.reopen();
    for (const device of this.devices) device?.crash({ keep } as Parameters<MemoryDevice["crash"]>[0]);
  }

  async found(): Promise<LabelledDisk[]> {
    const disks: LabelledDisk[] = [];
    for (const device of this.devices) {
      const label = device === null ? null : await readLabel(device);
      if (device !== null && label?.group !== undefined) disks.push(labelledDisk(device, label));
    }
    // Any order will do.
    return disks.sort(() => this.random.below(3) - 1);
  }

  async assemble(options: Partial<AssembleGroupOptions> = {}): Promise<Group> {
    return assembleGroup(await this.found(), { ...this.#environment(), ...options });
  }
}
