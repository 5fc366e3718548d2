import { messageOf, operatingError, StorageError } from "../lib/errors.js";
import { plural } from "../lib/plural.js";
import type { Group, GroupDescription, GroupEvent, LabelledDisk } from "../raid/contract.js";
import { NO_SCRUB } from "../raid/label.js";
import { unusedDisk } from "./disk-choice.js";
import { pad } from "./disk-shelf.js";
import { FailedGroup } from "./failed-group.js";
import type { CabinetParts } from "./parts.js";
import { groupRow } from "./rows.js";
import { isUnderWay } from "./task-state.js";
import type { GroupRow } from "./types.js";

export interface CreateGroup {
  readonly name: string;
  /** Numbers of disks that are in no group. */
  readonly disks: readonly number[];
  readonly chunkBytes?: number | undefined;
  readonly rowBytes?: number | undefined;
}

export interface PairOptions {
  /** Nodes that new groups are for. */
  readonly nodes?: readonly string[] | undefined;
  readonly onGroupCreated?: ((uuid: string) => Promise<void>) | undefined;
}

type OnEvent = (uuid: string, event: GroupEvent) => void;

/** Makes groups, puts them together from the disks on the shelf, and takes failed ones apart to try again. */
export class GroupAdmin {
  constructor(
    private readonly parts: CabinetParts,
    private readonly onEvent: OnEvent,
    private readonly pair: PairOptions = {},
  ) {}

  create(wanted: CreateGroup): Promise<GroupRow> {
    return this.parts.changes.run(async () => {
      const { groups, layers, shelf, events } = this.parts;
      if (groups.find(wanted.name) !== undefined)
        throw new StorageError("EEXIST", `group ${wanted.name} exists already`);
      const disks = wanted.disks.map((number) => unusedDisk(this.parts, number));
      if (new Set(disks).size !== disks.length) throw new StorageError("EINVAL", "a disk is named twice");
      let uuid = "";
      const onEvent = (event: GroupEvent) => this.onEvent(uuid, event);
      const { nodes, onGroupCreated } = this.pair;
      const group = await layers.createGroup(disks, { ...wanted, nodes, onEvent });
      uuid = group.describe().uuid;
      shelf.take(disks, uuid);
      groups.add(uuid, group);
      await onGroupCreated?.(uuid);
      const numbers = disks.map(({ number }) => `#${pad(number)}`).join(" ");
      events.add({
        severity: "info",
        kind: "group-created",
        what: `group ${wanted.name} created on disks ${numbers}`,
        detail: { group: wanted.name },
      });
      return groupRow(group);
    });
  }

  /** Try again to put a group together that is not served. @param force  of two halves that were used apart take the one written to more */
  assemble(name: string, force: boolean): Promise<GroupRow> {
    return this.parts.changes.run(async () => {
      const { groups, shelf, fileSystems } = this.parts;
      const uuid = await this.#unservedNamed(name);
      const failed = groups.get(uuid);
      if (failed !== undefined) await this.#takeApart(uuid, failed);
      await shelf.scan({ lenient: true });
      const disks = this.#unassembled().get(uuid) ?? [];
      if (disks.length === 0) throw new StorageError("ENOENT", `no disk of group ${name} is here`);
      const group = await this.#assemble(uuid, disks, force);
      await fileSystems.mountAll(group);
      if (group instanceof FailedGroup) throw new StorageError(group.code, group.reason);
      return groupRow(group);
    });
  }

  /**
   * Put a group together that is not served, when all that it has is here: of its disks that come one after the other none is left behind.
   * @returns what it lacks, in a sentence; null: nothing, or it is served already
   */
  async assembleWhole(uuid: string): Promise<string | null> {
    const { groups, shelf, layers, fileSystems } = this.parts;
    const known = groups.get(uuid);
    if (known !== undefined && known.describe().state !== "failed") return null;
    const here = shelf.ofGroup(uuid);
    const described = await layers.describeGroup(here);
    if (described === null) return "its label cannot be read";
    const missing = described.disks.filter((member) => !here.some((disk) => disk.uuid === member.uuid));
    if (missing.length > 0) {
      const numbers = missing.map(({ number }) => `#${pad(number)}`).join(" ");
      return `group ${described.name} lacks ${numbers}: add them too, or put it together without (group assemble ${described.name})`;
    }
    if (known !== undefined) await this.#takeApart(uuid, known);
    await fileSystems.mountAll(await this.#assemble(uuid, this.#unassembled().get(uuid) ?? [], false));
    return null;
  }

  /** One that has failed, or whose disks lie on the shelf. @throws StorageError ENOENT; EEXIST: it is served */
  async #unservedNamed(name: string): Promise<string> {
    const known = this.parts.groups.find(name);
    if (known === undefined) {
      for (const [uuid, disks] of this.#unassembled())
        if ((await this.parts.layers.describeGroup(disks))?.name === name) return uuid;
      throw new StorageError("ENOENT", `there is no group ${name}`);
    }
    const { uuid, state } = known.describe();
    if (state !== "failed") throw new StorageError("EEXIST", `group ${name} is assembled and ${state}`);
    return uuid;
  }

  /** Put together what lies on the shelf. A group that cannot be is shown as failed; the others go on. */
  async assembleAll(): Promise<void> {
    for (const [uuid, disks] of this.#unassembled()) await this.#assemble(uuid, disks, false);
  }

  /** A failed group is taken apart and tried again: another of its disks may have turned up. */
  async reviveFailed(): Promise<void> {
    const failed = this.parts.groups.entries().filter(([, group]) => group.describe().state === "failed");
    for (const [uuid, group] of failed) await this.#takeApart(uuid, group);
    if (failed.length > 0) await this.parts.shelf.scan({ lenient: true });
  }

  /** Put one group together from the shelf. */
  async assembleOne(uuid: string): Promise<Group> {
    return await this.#assemble(uuid, this.#unassembled().get(uuid) ?? [], false);
  }

  /** Take down what stands on it, write everything, close its disks. */
  async takeDown(uuid: string): Promise<void> {
    const group = this.parts.groups.get(uuid);
    if (group !== undefined) await this.#takeApart(uuid, group);
  }

  async #takeApart(uuid: string, group: Group): Promise<void> {
    const { groups, shelf, fileSystems } = this.parts;
    // It has failed: that not everything can be flushed is known.
    await group.stopTasks().catch((error) => this.#complain(group, error));
    await fileSystems.forget(group);
    await group.close().catch((error) => this.#complain(group, error));
    groups.remove(uuid);
    shelf.releaseAll(uuid);
  }

  #unassembled(): Map<string, LabelledDisk[]> {
    const found = new Map<string, LabelledDisk[]>();
    for (const disk of this.parts.shelf.labelled()) {
      if (disk.groupUuid === undefined || disk.shared === true || this.parts.groups.has(disk.groupUuid)) continue;
      found.set(disk.groupUuid, [...(found.get(disk.groupUuid) ?? []), disk]);
    }
    return found;
  }

  /** @returns the group, or what stands for one that cannot be put together */
  async #assemble(uuid: string, disks: readonly LabelledDisk[], force: boolean): Promise<Group> {
    const { layers, shelf, groups, events } = this.parts;
    let group: Group;
    shelf.take(disks, uuid);
    try {
      group = await layers.assembleGroup(disks, (event) => this.onEvent(uuid, event), force);
    } catch (error) {
      shelf.putBack(disks);
      const failure = operatingError(error);
      if (failure === null) throw error;
      group = new FailedGroup((await layers.describeGroup(disks)) ?? unreadable(uuid), failure.message, failure.code);
    }
    groups.add(uuid, group);
    shelf.putBack(disks.filter((disk) => !isUsed(group, disk)));
    const { name, state, missingDisks } = groupRow(group);
    const severity = { clean: "info", degraded: "warning", failed: "error" } as const;
    events.add({
      severity: severity[state],
      kind: `group-${state}`,
      what: state === "clean" ? `group ${name} is complete` : troubleOf(group),
      detail: { group: name, missing: missingDisks },
    });
    return group;
  }

  #complain(group: Group, error: unknown): void {
    const { name } = group.describe();
    const what = `group ${name} could not be closed cleanly: ${messageOf(error)}`;
    this.parts.events.add({ severity: "warning", kind: "group-close-failed", what, detail: { group: name } });
  }
}

/** Members that missed writes or failed, and disks whose place was given away, are left to who brought them; one that is left out because it is slow is not. */
function isUsed(group: Group, { uuid }: LabelledDisk): boolean {
  const { disks, sources } = group.describe();
  const member = disks.find((disk) => disk.uuid === uuid);
  if (member === undefined) return sources.includes(uuid);
  return (
    member.state === "online" || member.state === "rebuilding" || (member.state === "stale" && member.slow === true)
  );
}

/** What is wrong with a group that is not clean, in a sentence. */
export function troubleOf(group: Group): string {
  const { name, state, disks, lostBlocks, unreadable, tasks } = group.describe();
  if (group instanceof FailedGroup) return `group ${name} is not served: ${group.reason}`;
  const away = disks.filter((disk) => disk.state !== "online");
  const causes = away.map((disk) => `disk #${pad(disk.number)} is ${disk.state}`);
  if (unreadable > 0) causes.push(`${plural(unreadable, "place")} cannot be read now and ${waitsFor(tasks)}`);
  if (lostBlocks > 0) causes.push(`${plural(lostBlocks, "block")} lost: fs check --data names the files`);
  const what = state === "failed" ? "has failed" : away.length > 0 ? "has lost its redundancy" : "is not whole";
  return `group ${name} ${what}${causes.length > 0 ? ": " : ""}${causes.join("; ")}`;
}

/** What is being done about places that cannot be read. */
function waitsFor(tasks: GroupDescription["tasks"]): string {
  const waiting = tasks.find((task) => isUnderWay(task) && task.reason?.startsWith("waits") === true);
  return waiting === undefined ? "will be tried again" : `the ${waiting.kind} ${waiting.reason}`;
}

/** Its labels cannot even be read. */
function unreadable(uuid: string): GroupDescription {
  return {
    ...{ uuid, name: uuid, state: "failed", chunkBytes: 0, rowBytes: 0, rowCount: 0, rowsFree: 0, generation: 0 },
    ...{ nodes: [], ownerEpoch: 0, disks: [], sources: [], lus: [], tasks: [], scrub: NO_SCRUB },
    ...{ lostBlocks: 0, unreadable: 0 },
  };
}
