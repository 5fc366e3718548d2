import type { Clock } from "../lib/clock.js";
import { StorageError } from "../lib/errors.js";
import type { Logger } from "../lib/log.js";
import type { Random } from "../lib/prng.js";
import type { Arena } from "../parity/arena.js";
import type {
  Group,
  GroupCounters,
  GroupDescription,
  GroupEvent,
  LabelledDisk,
  ScrubOptions,
  TaskKind,
  Without,
} from "../raid/contract.js";
import type { GroupBuffers, GroupEnvironment, RaidGroup } from "../raid/group.js";
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
  /** Read and checksum errors within a while that a member may give before it is failed; 32 by default. */
  readonly errorsMax?: number | undefined;
}

export interface CreateGroupOptions extends GroupOptions, NewGroupOptions {}

export interface AssembleGroupOptions extends GroupOptions {
  /** Choose one half where two halves of a group were used apart. */
  readonly force?: boolean | undefined;
}

/** @throws as createRaidGroup */
export async function createGroup(disks: readonly LabelledDisk[], options: CreateGroupOptions): Promise<Group> {
  return new LuGroup(await createRaidGroup(disks, options, environment(options, 1)));
}

/**
 * @param disks all disks that were found with this group's UUID, in any order. Those that it uses (online, rebuilding) are the group's from
 *   here on; the others (failed, stale) stay the caller's, who may bring them back with `returnDisk`.
 * @throws as assembleRaidGroup; all devices stay the caller's then
 */
export async function assembleGroup(disks: readonly LabelledDisk[], options: AssembleGroupOptions): Promise<Group> {
  return new LuGroup(await assembleRaidGroup(disks, options.force ?? false, (epoch) => environment(options, epoch)));
}

function environment(options: GroupOptions, epochOnDisk: number): GroupEnvironment {
  const { arena, clock, random, log, onEvent, buffers, without, errorsMax } = options;
  const guard = new EpochGuard(options.epoch ?? (() => epochOnDisk));
  return {
    arena,
    clock,
    random,
    log,
    onEvent,
    buffers,
    without,
    errorsMax,
    epoch: () => guard.epoch,
    guard: guard.check,
  };
}

/** A RAID group that hands out LUs. */
class LuGroup implements Group {
  readonly #raid: RaidGroup;
  readonly #open = new Map<number, LogicalUnit>();

  constructor(raid: RaidGroup) {
    this.#raid = raid;
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

  async deleteLu(number: number): Promise<void> {
    await this.#raid.deleteLu(number);
    this.#open.delete(number);
  }

  openLu(number: number): LogicalUnit {
    const array = this.#raid.array(number);
    let lu = this.#open.get(number);
    if (lu === undefined) {
      lu = new ArrayLu(this.#raid.describeLu(number), array, this.#raid);
      this.#open.set(number, lu);
    }
    return lu;
  }

  async resizeLu(number: number, sizeBytes: number | "max"): Promise<LuDescription> {
    throw unbuilt("resizeLu", number, sizeBytes);
  }

  async failDisk(number: number): Promise<void> {
    await this.#raid.failDisk(number);
  }

  async replaceDisk(number: number, disk: LabelledDisk): Promise<void> {
    await this.#raid.replaceDisk(number, disk);
  }

  async returnDisk(disk: LabelledDisk, force = false): Promise<void> {
    await this.#raid.returnDisk(disk, force);
  }

  async growDisk(disk: LabelledDisk): Promise<void> {
    throw unbuilt("growDisk", disk.number);
  }

  async scrub(options: ScrubOptions): Promise<void> {
    throw unbuilt("scrub", options.heal);
  }

  async scheduleScrub(everySeconds: number): Promise<void> {
    throw unbuilt("scheduleScrub", everySeconds);
  }

  async pauseTask(kind: TaskKind): Promise<void> {
    throw unbuilt("pauseTask", kind);
  }

  async resumeTask(kind: TaskKind): Promise<void> {
    throw unbuilt("resumeTask", kind);
  }

  async cancelTask(kind: TaskKind): Promise<void> {
    throw unbuilt("cancelTask", kind);
  }

  close(): Promise<void> {
    return this.#raid.close();
  }
}

function unbuilt(what: string, ...values: readonly unknown[]): StorageError {
  return new StorageError("ENOTSUP", `${what}(${values.join(", ")})`);
}
