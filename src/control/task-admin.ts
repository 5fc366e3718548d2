import { isStorageError, StorageError } from "../lib/errors.js";
import type { DiskDescription, Group, GroupDescription, TaskKind } from "../raid/contract.js";
import { replacementFor, unusedDisk } from "./disk-choice.js";
import { pad } from "./disk-shelf.js";
import type { CabinetParts } from "./parts.js";
import { startScrub } from "./start-scrub.js";
import { isUnderWay } from "./task-state.js";
import type { TaskReport } from "./types.js";

export interface TaskOrder {
  readonly group?: string | undefined;
  /** Absent: begin, or tell how far it is when it is under way. */
  readonly action?: "pause" | "resume" | "cancel" | undefined;
}

export interface ScrubOrder extends TaskOrder {
  readonly heal?: boolean;
  /** Only set how often it begins by itself; 0: never. */
  readonly everySeconds?: number | undefined;
}

export interface RebuildOrder extends TaskOrder {
  /** Which member; absent: the one that is not online. */
  readonly disk?: number | undefined;
  /** Take a disk back that failed, or went on without the group. */
  readonly force?: boolean;
  /** What is waited for because it cannot be read is lost. */
  readonly giveUp?: boolean;
}

export interface GrowOrder extends TaskOrder {
  /** The disk that the group gets. */
  readonly disk?: number | undefined;
}

/** Work in the background of groups, as a person orders it. */
export class TaskAdmin {
  constructor(private readonly parts: CabinetParts) {}

  scrub(order: ScrubOrder): Promise<TaskReport> {
    return this.#run("scrub", order, async (group, described) => {
      if (order.everySeconds !== undefined) {
        await group.scheduleScrub(order.everySeconds);
        this.#reportSchedule(described.name, order.everySeconds);
        return false;
      }
      return this.#startScrub(group, described, order.heal ?? true);
    });
  }

  /** Also tells of one that has ended, when there is nothing to rebuild. */
  rebuild(order: RebuildOrder): Promise<TaskReport> {
    if (order.giveUp === true) return this.#giveUp(order);
    return this.#run("rebuild", order, (group, described) => this.#startRebuild(group, described, order));
  }

  #giveUp({ group: name }: RebuildOrder): Promise<TaskReport> {
    return this.parts.changes.run(async () => {
      const group = this.parts.groups.named(name);
      const givenUp = await group.giveUp();
      return { ...report(group, "rebuild", false), givenUp };
    });
  }

  grow(order: GrowOrder): Promise<TaskReport> {
    return this.#run("grow", order, async (group, described) => {
      if (order.disk === undefined) {
        if (described.tasks.some(({ kind }) => kind === "grow")) return false;
        throw new StorageError("EINVAL", `group ${described.name} is not growing: say which disk it gets (--disk)`);
      }
      const disk = unusedDisk(this.parts, order.disk);
      await this.parts.shelf.handOver(disk, described.uuid, () => group.growDisk(disk));
      return true;
    });
  }

  /** @param begin  resolves with whether something was begun */
  #run(
    kind: TaskKind,
    { group: name, action }: TaskOrder,
    begin: (group: Group, described: GroupDescription) => Promise<boolean>,
  ): Promise<TaskReport> {
    return this.parts.changes.run(async () => {
      const group = this.parts.groups.named(name);
      const described = group.describe();
      if (action === undefined) return report(group, kind, await begin(group, described));
      if (action === "pause") await group.pauseTask(kind);
      else if (action === "cancel") await group.cancelTask(kind);
      else await this.#resume(group, described, kind);
      return report(group, kind, false);
    });
  }

  #reportSchedule(group: string, everySeconds: number): void {
    const what = everySeconds === 0 ? "only by hand from now on" : `by itself every ${everySeconds} s from now on`;
    const detail = { group, everySeconds };
    this.parts.events.add({
      severity: "info",
      kind: "scrub-scheduled",
      what: `group ${group}: scrubbed ${what}`,
      detail,
    });
  }

  /** A scrub that was paused before the last restart is no task yet: it is begun from where it was. */
  async #resume(group: Group, { scrub }: GroupDescription, kind: TaskKind): Promise<void> {
    try {
      await group.resumeTask(kind);
    } catch (error) {
      if (!isStorageError(error, "ENOENT") || kind !== "scrub" || scrub.state === "idle") throw error;
      await startScrub(group, this.parts.fileSystems, true);
    }
  }

  async #startScrub(group: Group, { tasks }: GroupDescription, heal: boolean): Promise<boolean> {
    if (tasks.some((task) => task.kind === "scrub" && isUnderWay(task))) return false;
    await startScrub(group, this.parts.fileSystems, heal);
    return true;
  }

  async #startRebuild(group: Group, described: GroupDescription, { disk, force }: RebuildOrder): Promise<boolean> {
    if (described.tasks.some((task) => task.kind === "rebuild" && isUnderWay(task))) return false;
    const member = memberToRebuild(described, disk);
    if (member === null) return false;
    const { shelf } = this.parts;
    const itself = shelf.ofGroup(described.uuid).find(({ uuid }) => uuid === member.uuid);
    if (itself !== undefined) {
      await shelf.handOver(itself, described.uuid, () => group.returnDisk(itself, force ?? false)).catch(hint);
    } else {
      const other = replacementFor(described.disks, shelf);
      await shelf.handOver(other, described.uuid, () => group.replaceDisk(member.number, other));
    }
    return true;
  }
}

/** @throws StorageError with how to insist */
function hint(error: unknown): never {
  if (!isStorageError(error, "EACCES")) throw error;
  const text = `${error.message}; --force takes it back, disk replace puts another in its place`;
  throw new StorageError("EACCES", text, error.detail, error);
}

/** @throws StorageError ENOENT, EINVAL */
function memberToRebuild({ name, disks }: GroupDescription, number: number | undefined): DiskDescription | null {
  if (number === undefined) return disks.find(({ state }) => state !== "online" && state !== "rebuilding") ?? null;
  const member = disks.find((disk) => disk.number === number);
  if (member === undefined) throw new StorageError("ENOENT", `disk #${pad(number)} is not in group ${name}`);
  if (member.state !== "online") return member;
  throw new StorageError("EINVAL", `disk #${pad(number)} is online: there is nothing to rebuild`);
}

function report(group: Group, kind: TaskKind, begun: boolean): TaskReport {
  const { name, state, tasks, scrub } = group.describe();
  return { group: name, groupState: state, begun, task: tasks.find((task) => task.kind === kind) ?? null, scrub };
}
