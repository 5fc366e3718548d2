import { LockProbe, type LockState } from "../device/lock-probe.js";
import type { GroupHost, SeenGroup } from "../ha/contract.js";
import { StorageError } from "../lib/errors.js";
import type { GroupState } from "../raid/contract.js";
import { FailedGroup } from "./failed-group.js";
import type { GroupAdmin } from "./group-admin.js";
import type { SurveyedDisk } from "./layers.js";
import type { CabinetParts } from "./parts.js";

/** The cabinet as the pair's agent handles it: groups change hands through this. */
export class GroupHands implements GroupHost {
  /** Members by group, as they were seen last. */
  readonly #members = new Map<string, readonly string[]>();
  readonly #probes = new Map<string, readonly LockProbe[]>();

  constructor(
    private readonly parts: CabinetParts,
    private readonly admin: GroupAdmin,
  ) {}

  async survey(): Promise<Awaited<ReturnType<GroupHost["survey"]>>> {
    const surveyed = await this.parts.shelf.survey();
    const groups = new Map<string, SeenGroup>();
    for (const { group } of surveyed) {
      // A shared group has no owner, so nobody takes it over; its disks carry heartbeats like all others.
      if (group === null || group.shared) continue;
      const paths = surveyed.filter((other) => other.group?.uuid === group.uuid).map(({ path }) => path);
      const { uuid, name, memberCount } = group;
      const epoch = Math.max(group.ownerEpoch, groups.get(uuid)?.epoch ?? 0);
      groups.set(uuid, { uuid, name, memberCount, paths, epoch, home: group.nodes[0] ?? null });
      this.#members.set(uuid, paths);
    }
    return { groups: [...groups.values()], disks: surveyed.map(boardDisk) };
  }

  lock(group: string): Promise<void> {
    for (const probe of this.#probes.get(group) ?? []) probe.close();
    return this.parts.changes.run(() => this.parts.shelf.openMembers(this.#members.get(group) ?? []));
  }

  open(uuid: string): Promise<void> {
    return this.parts.changes.run(async () => {
      const { fileSystems } = this.parts;
      const group = await this.admin.assembleOne(uuid);
      if (group instanceof FailedGroup) throw new StorageError(group.code, group.reason);
      await fileSystems.mountAll(group);
      const { name } = group.describe();
      if (fileSystems.isUseless(name))
        throw new StorageError("ENOSPC", fileSystems.hindrance(name) ?? `group ${name} cannot be served here`);
    });
  }

  async settle(uuid: string): Promise<void> {
    const group = this.parts.groups.get(uuid);
    if (group !== undefined) await this.parts.fileSystems.settle(group);
  }

  close(uuid: string): Promise<void> {
    return this.parts.changes.run(async () => {
      await this.admin.takeDown(uuid);
      await this.parts.shelf.closeMembers(uuid);
    });
  }

  hasFailed(uuid: string): boolean {
    return this.parts.groups.get(uuid)?.describe().state === "failed";
  }

  stateOf(uuid: string): GroupState | null {
    return this.parts.groups.get(uuid)?.describe().state ?? null;
  }

  hindrance(uuid: string): string | null {
    const name = this.parts.groups.get(uuid)?.describe().name;
    return name === undefined ? null : this.parts.fileSystems.hindrance(name);
  }

  lockState(uuid: string): LockState {
    const paths = this.#members.get(uuid) ?? [];
    let known = this.#probes.get(uuid);
    if (known === undefined || known.some(({ path }, i) => path !== paths[i]) || known.length !== paths.length) {
      for (const probe of known ?? []) probe.close();
      known = paths.map((path) => new LockProbe(path));
      this.#probes.set(uuid, known);
    }
    return lockStateOf(known);
  }

  end(): void {
    for (const probe of [...this.#probes.values()].flat()) probe.close();
    this.#probes.clear();
  }
}

/** Held by the first that is: an owner that has lost a disk holds the others. Unknown when none can be opened. */
function lockStateOf(probes: readonly LockProbe[]): LockState {
  let found: LockState = "unknown";
  for (const probe of probes) {
    const state = probe.state();
    if (state === "held") return "held";
    if (state === "free") found = "free";
  }
  return found;
}

function boardDisk({ path, group }: SurveyedDisk): { path: string; group: string | null } {
  return { path, group: group?.uuid ?? null };
}
