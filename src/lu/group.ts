import type { Clock } from "../lib/clock.js";
import { StorageError } from "../lib/errors.js";
import type { Logger } from "../lib/log.js";
import type { Random } from "../lib/prng.js";
import type { Arena } from "../parity/arena.js";
import { SLOW_DISKS, type SlowDiskSettings } from "../raid/aside-watch.js";
import { compareLu } from "../raid/compare.js";
import type {
  BlockInspector,
  Group,
  GroupCounters,
  GroupDescription,
  GroupEvent,
  LabelledDisk,
  LuComparison,
  NewLu,
  ScrubOptions,
  TaskKind,
  Without,
} from "../raid/contract.js";
import type { RaidGroup } from "../raid/group.js";
import type { GroupBuffers, GroupEnvironment } from "../raid/group-environment.js";
import { GuardedDevice } from "../raid/guarded-device.js";
import { assembleRaidGroup, createRaidGroup, type NewGroupOptions } from "../raid/open-group.js";
import { EpochGuard } from "./epoch-guard.js";
import { ArrayLu } from "./logical-unit.js";
import type { LogicalUnit, LuDescription } from "./lu.js";

export { initDisk, labelledDisk, readLabel, wipeDisk } from "../raid/label-io.js";

/** What a group needs from outside. */
export interface GroupOptions {
  /** Takes the group's reservations (`buffers`) for ever: about 80 MiB by default. */
  readonly arena: Arena;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  readonly onEvent?: ((event: GroupEvent) => void) | undefined;
  /** The epoch under which this node owns the group; by default the one on the disks. A change means it was lost. */
  readonly epoch?: (() => number) | undefined;
  readonly buffers?: Partial<GroupBuffers> | undefined;
  readonly without?: Without | undefined;
  /** When a member that is slow is left out; by default one that takes 5 times longer than the others for 5 s. */
  readonly slowDisks?: SlowDiskSettings | undefined;
  /** Read and checksum errors within a while that a member may give before it is failed; 32 by default. */
  readonly errorsMax?: number | undefined;
  /** Another node sees all disks of the group now: what gives errors here is a path, not a disk. */
  readonly seenElsewhere?: ((group: string) => boolean) | undefined;
}

export interface CreateGroupOptions extends GroupOptions, NewGroupOptions {}

export interface AssembleGroupOptions extends GroupOptions {
  /** Choose one half where two halves of a group were used apart. */
  readonly force?: boolean | undefined;
}

/** @throws as createRaidGroup */
export async function createGroup(disks: readonly LabelledDisk[], options: CreateGroupOptions): Promise<Group> {
  const ownership = new GroupOwnership(options);
  const raid = await createRaidGroup(disks.map(ownership.guarded), options, environment(options, ownership.open(1)));
  return new LuGroup(raid, ownership);
}

/**
 * @param disks all disks that were found with this group's UUID, in any order. Those that it uses (online, rebuilding, or left out because they
 *   are slow) are the group's from here on; the others (failed, stale) stay the caller's, who may bring them back with `returnDisk`.
 * @throws as assembleRaidGroup; all devices stay the caller's then
 */
export async function assembleGroup(disks: readonly LabelledDisk[], options: AssembleGroupOptions): Promise<Group> {
  const ownership = new GroupOwnership(options);
  const environmentFor = (epoch: number) => environment(options, ownership.open(epoch));
  const { force = false, clock, slowDisks: settings = SLOW_DISKS } = options;
  const raid = await assembleRaidGroup(disks.map(ownership.guarded), force, { clock, settings }, environmentFor);
  return new LuGroup(raid, ownership);
}

/** Under which epoch a group is open. A group that no other node can take is not asked about with every write. */
class GroupOwnership {
  #guard: EpochGuard | null = null;
  readonly #current: (() => number) | undefined;

  constructor({ epoch }: GroupOptions) {
    this.#current = epoch;
  }

  open(epochOnDisk: number): EpochGuard {
    this.#guard = new EpochGuard(this.#current ?? (() => epochOnDisk));
    return this.#guard;
  }

  readonly guarded = (disk: LabelledDisk): LabelledDisk => {
    if (this.#current === undefined) return disk;
    return { ...disk, device: new GuardedDevice(disk.device, () => this.#guard?.check()) };
  };
}

function environment(options: GroupOptions, guard: EpochGuard): GroupEnvironment {
  const { arena, clock, random, log, onEvent, buffers, without, errorsMax, slowDisks, seenElsewhere } = options;
  return {
    arena,
    clock,
    random,
    log,
    onEvent,
    buffers,
    without,
    errorsMax,
    slowDisks,
    seenElsewhere,
    epoch: () => guard.epoch,
    guard: guard.check,
  };
}

/** How often an LU was opened and not yet closed; the same object for all. */
interface OpenLu {
  count: number;
  readonly lu: LogicalUnit;
}

/** A RAID group that hands out LUs. */
class LuGroup implements Group {
  readonly #raid: RaidGroup;
  readonly #open = new Map<number, OpenLu>();
  /** Being deleted or made smaller: nobody may open them meanwhile. */
  readonly #closed = new Set<number>();

  readonly #ownership: GroupOwnership;

  constructor(raid: RaidGroup, ownership: GroupOwnership) {
    this.#raid = raid;
    this.#ownership = ownership;
  }

  describe(): GroupDescription {
    return this.#raid.describe();
  }

  counters(): GroupCounters {
    return { ...this.#raid.counters };
  }

  createLu(name: string, level: 1 | 5, sizeBytes: number | "max"): Promise<LuDescription> {
    return this.#raid.createLu(name, level, sizeBytes);
  }

  checkLus(wanted: readonly NewLu[]): void {
    this.#raid.assertAlive();
    this.#raid.lus.check(wanted);
  }

  async deleteLu(number: number): Promise<void> {
    const { name } = this.#raid.describeLu(number);
    if (this.#inUse(number)) throw new StorageError("EBUSY", `LU "${name}" is in use`, { number });
    await this.#keepClosed(number, () => this.#raid.deleteLu(number));
    this.#open.delete(number);
  }

  openLu(number: number): LogicalUnit {
    this.#raid.array(number);
    if (this.#closed.has(number)) {
      const { name } = this.#raid.describeLu(number);
      throw new StorageError("EBUSY", `LU "${name}" is being deleted or made smaller`, { number });
    }
    const open = this.#open.get(number) ?? this.#makeLu(number);
    open.count++;
    return open.lu;
  }

  #makeLu(number: number): OpenLu {
    const raid = this.#raid;
    const array = () => raid.arrayInUse(number);
    const open: OpenLu = {
      count: 0,
      lu: new ArrayLu(
        () => raid.describeLu(number),
        array,
        () => {
          if (open.count > 0) open.count--;
        },
        raid,
      ),
    };
    this.#open.set(number, open);
    return open;
  }

  #inUse(number: number): boolean {
    return (this.#open.get(number)?.count ?? 0) > 0;
  }

  async #keepClosed<T>(number: number, action: () => Promise<T>): Promise<T> {
    this.#closed.add(number);
    try {
      return await action();
    } finally {
      this.#closed.delete(number);
    }
  }

  async resizeLu(number: number, sizeBytes: number | "max"): Promise<LuDescription> {
    const open = this.#inUse(number);
    const resize = () => this.#raid.resizeLu(number, sizeBytes, open);
    const smaller = sizeBytes !== "max" && sizeBytes < this.#raid.describeLu(number).sizeBytes;
    return smaller && !open ? this.#keepClosed(number, resize) : resize();
  }

  async failDisk(number: number): Promise<void> {
    await this.#raid.membership.fail(number);
  }

  async replaceDisk(number: number, disk: LabelledDisk): Promise<void> {
    await this.#raid.membership.replace(number, this.#ownership.guarded(disk));
  }

  checkReplacement(number: number, sizeBytes: number): void {
    this.#raid.membership.checkReplacement(number, sizeBytes);
  }

  giveUp(): Promise<number> {
    return this.#raid.losses.giveUp();
  }

  async lendDisk(disk: LabelledDisk): Promise<void> {
    await this.#raid.membership.lend(this.#ownership.guarded(disk));
  }

  async returnDisk(disk: LabelledDisk, force = false): Promise<void> {
    await this.#raid.membership.return(this.#ownership.guarded(disk), force);
  }

  async growDisk(disk: LabelledDisk): Promise<void> {
    await this.#raid.growDisk(this.#ownership.guarded(disk));
  }

  probe(number?: number): Promise<void> {
    return this.#raid.membership.probe(number);
  }

  async scrub(options: ScrubOptions): Promise<void> {
    await this.#raid.scrubs.start(options);
  }

  compareLu(number: number, inspector: BlockInspector | null): Promise<LuComparison> {
    return compareLu(this.#raid, number, inspector);
  }

  async scheduleScrub(everySeconds: number): Promise<void> {
    await this.#raid.scrubs.schedule(everySeconds);
  }

  async pauseTask(kind: TaskKind): Promise<void> {
    if (kind === "scrub") await this.#raid.scrubs.pause();
    else this.#raid.tasks.find(kind).pause();
  }

  async resumeTask(kind: TaskKind): Promise<void> {
    if (kind === "scrub") await this.#raid.scrubs.resume();
    else this.#raid.tasks.find(kind).resume();
  }

  async cancelTask(kind: TaskKind): Promise<void> {
    if (kind !== "scrub") throw new StorageError("EINVAL", `a ${kind} cannot be given up, only paused`);
    await this.#raid.scrubs.cancel();
  }

  stopTasks(): Promise<void> {
    return this.#raid.tasks.stop("the group is being closed");
  }

  close(): Promise<void> {
    return this.#raid.close();
  }
}
