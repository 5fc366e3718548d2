import { isStorageError, messageOf, StorageError } from "../lib/errors.js";
import { Mutex } from "../lib/mutex.js";
import { LIMITS } from "../limits.js";
import type { LuDescription } from "../lu/lu.js";
import type { Group, GroupEvent, LabelledDisk } from "../raid/contract.js";
import { NO_SCRUB } from "../raid/label.js";
import { DiskShelf, pad } from "./disk-shelf.js";
import type { EventLog } from "./event-log.js";
import { FailedGroup } from "./failed-group.js";
import { FileSystemKeeper } from "./file-system-keeper.js";
import type { ExportSink, StorageLayers } from "./layers.js";
import { diskRows, groupRow, luRows } from "./rows.js";
import type { DiskRow, GroupRow, LuRow } from "./types.js";

export interface CabinetOptions {
  readonly node: string;
  readonly layers: StorageLayers;
  readonly events: EventLog;
  readonly exports: ExportSink;
  readonly diskPatterns: readonly string[];
  readonly knownDisksFile: string;
}

export interface CreateGroup {
  readonly name: string;
  /** Numbers of disks that are in no group. */
  readonly disks: readonly number[];
  readonly chunkBytes?: number | undefined;
  readonly rowBytes?: number | undefined;
}

export interface CreateLu {
  readonly name: string;
  readonly group?: string | undefined;
  readonly level: 1 | 5;
  readonly sizeBytes: number | "max";
}

/**
 * What stands in this node's cabinet: disks, groups, LUs and file systems, and the operations on them. Start-up and the
 * management API both go through here. Operations that change something run one after another.
 */
export class Cabinet {
  readonly #shelf: DiskShelf;
  readonly #groups = new Map<string, Group>();
  readonly #changing = new Mutex();
  readonly fileSystems: FileSystemKeeper;
  #closed = false;

  constructor(private readonly options: CabinetOptions) {
    const { layers, events } = options;
    this.#shelf = new DiskShelf({
      layers,
      events,
      patterns: options.diskPatterns,
      knownDisksFile: options.knownDisksFile,
    });
    this.fileSystems = new FileSystemKeeper({
      layers,
      events,
      exports: options.exports,
      changing: this.#changing,
      group: (name) => this.#groupNamed(name),
    });
  }

  /** As `open`, looking in other places from now on. */
  reload(diskPatterns: readonly string[]): Promise<void> {
    this.#shelf.patterns = diskPatterns;
    return this.open();
  }

  /** Find disks, put groups together, mount file systems. What is there already stays as it is. */
  open(): Promise<void> {
    return this.#changing.run(async () => {
      this.#assertOpen();
      await this.#shelf.scan();
      await this.#reviveFailedGroups();
      for (const [uuid, disks] of this.#byGroup()) await this.#assemble(uuid, disks);
      for (const group of this.#groups.values()) await this.fileSystems.mountAll(group);
    });
  }

  /** File systems, then groups, then disks. Everything is tried; the first error is thrown at the end. Idempotent. */
  close(): Promise<void> {
    return this.#changing.run(async () => {
      if (this.#closed) return;
      this.#closed = true;
      const errors: unknown[] = [];
      const attempt = (action: Promise<unknown>) => action.catch((error) => errors.push(error));
      await attempt(this.fileSystems.close());
      for (const group of this.#groups.values()) await attempt(group.close());
      await attempt(this.#shelf.close());
      if (errors.length > 0) throw errors[0];
    });
  }

  disks(): DiskRow[] {
    return diskRows([...this.#groups.values()], this.#shelf);
  }

  groups(): GroupRow[] {
    return [...this.#groups.values()].map(groupRow);
  }

  lus(): LuRow[] {
    return [...this.#groups.values()].flatMap(luRows);
  }

  /** What an administrator should know, one sentence each. */
  warnings(): string[] {
    const found: string[] = [];
    for (const group of this.groups()) {
      if (group.state !== "clean") found.push(this.#describeTrouble(group));
    }
    for (const [place, reason] of this.#shelf.complaints()) found.push(`no disk at ${place}: ${reason}`);
    for (const { name, state, reason } of this.fileSystems.rows()) {
      if (state === "failed") found.push(`file system ${name} is not served: ${reason}`);
    }
    return found;
  }

  addDisk(place: string, force: boolean): Promise<DiskRow> {
    return this.#changing.run(async () => {
      this.#assertOpen();
      const disk = await this.#shelf.add(place, this.#freeNumber(), force);
      this.options.events.add({
        severity: "info",
        kind: "disk-added",
        what: `disk #${pad(disk.number)} added: ${disk.device.name}`,
        detail: { disk: disk.number, path: disk.device.name },
      });
      return this.#diskRow(disk.number);
    });
  }

  createGroup(wanted: CreateGroup): Promise<GroupRow> {
    return this.#changing.run(async () => {
      this.#assertOpen();
      if (this.#find(wanted.name) !== undefined)
        throw new StorageError("EEXIST", `group ${wanted.name} exists already`);
      const disks = wanted.disks.map((number) => this.#unusedDisk(number));
      if (new Set(disks).size !== disks.length) throw new StorageError("EINVAL", "a disk is named twice");
      const group = await this.options.layers.createGroup(disks, { ...wanted, onEvent: this.#groupEvent });
      this.#shelf.take(disks);
      this.#groups.set(group.describe().uuid, group);
      const numbers = disks.map(({ number }) => `#${pad(number)}`).join(" ");
      this.options.events.add({
        severity: "info",
        kind: "group-created",
        what: `group ${wanted.name} created on disks ${numbers}`,
        detail: { group: wanted.name },
      });
      return groupRow(group);
    });
  }

  createLu(wanted: CreateLu): Promise<LuRow> {
    return this.#changing.run(async () => {
      this.#assertOpen();
      const group = this.#groupNamed(wanted.group);
      const lu = await group.createLu(wanted.name, wanted.level, wanted.sizeBytes);
      this.options.events.add({
        severity: "info",
        kind: "lu-created",
        what: `LU ${wanted.name} created, RAID-${wanted.level}`,
        detail: { lu: lu.number, group: group.describe().name },
      });
      return this.#luRow(group, lu);
    });
  }

  /** EBUSY while a file system is on it. */
  deleteLu(groupName: string | undefined, nameOrNumber: string): Promise<LuRow> {
    return this.#changing.run(async () => {
      this.#assertOpen();
      const group = this.#groupNamed(groupName);
      const lu = findLu(group, nameOrNumber);
      const user = this.fileSystems.userOf(group.describe().name, lu.name);
      if (user !== undefined) throw new StorageError("EBUSY", `LU ${lu.name} carries file system ${user}`);
      const row = this.#luRow(group, lu);
      await group.deleteLu(lu.number);
      this.options.events.add({
        severity: "info",
        kind: "lu-deleted",
        what: `LU ${lu.name} deleted`,
        detail: { lu: lu.number, group: row.group },
      });
      return row;
    });
  }

  #assertOpen(): void {
    if (this.#closed) throw new StorageError("EBUSY", "the daemon is shutting down");
  }

  #luRow(group: Group, lu: LuDescription): LuRow {
    const row = luRows(group).find(({ number }) => number === lu.number);
    if (row === undefined) throw new StorageError("EIO", `LU ${lu.name} has vanished from its group`);
    return row;
  }

  #diskRow(number: number): DiskRow {
    const row = this.disks().find((disk) => disk.number === number);
    if (row === undefined) throw new StorageError("ENOENT", `there is no disk #${pad(number)}`);
    return row;
  }

  #freeNumber(): number {
    const used = new Set(this.disks().map(({ number }) => number));
    for (let number = 1; number <= LIMITS.diskNumberMax; number++) if (!used.has(number)) return number;
    throw new StorageError("ENOSPC", `all disk numbers to #${LIMITS.diskNumberMax} are used`);
  }

  #unusedDisk(number: number): LabelledDisk {
    const row = this.#diskRow(number);
    if (row.group !== null) throw new StorageError("EBUSY", `disk #${pad(number)} is in group ${row.group}`);
    const disk = this.#shelf.labelled().find((candidate) => candidate.number === number);
    if (disk === undefined || disk.groupUuid !== undefined) {
      throw new StorageError("EBUSY", `disk #${pad(number)} belongs to a group that could not be assembled`);
    }
    return disk;
  }

  #find(name: string): Group | undefined {
    return [...this.#groups.values()].find((group) => group.describe().name === name);
  }

  /** Without a name: the only group. */
  #groupNamed(name: string | undefined): Group {
    if (name !== undefined) {
      const group = this.#find(name);
      if (group === undefined) throw new StorageError("ENOENT", `there is no group ${name}`);
      return group;
    }
    const [only, second] = this.#groups.values();
    if (only === undefined) throw new StorageError("ENOENT", "there is no group yet: create one first");
    if (second !== undefined) throw new StorageError("EINVAL", "there are several groups: say which (--group)");
    return only;
  }

  #byGroup(): Map<string, LabelledDisk[]> {
    const found = new Map<string, LabelledDisk[]>();
    for (const disk of this.#shelf.labelled()) {
      if (disk.groupUuid === undefined || this.#groups.has(disk.groupUuid)) continue;
      found.set(disk.groupUuid, [...(found.get(disk.groupUuid) ?? []), disk]);
    }
    return found;
  }

  /** A group that cannot be put together is shown as failed; the others go on. */
  async #assemble(uuid: string, disks: readonly LabelledDisk[]): Promise<void> {
    let group: Group;
    try {
      group = await this.options.layers.assembleGroup(disks, this.#groupEvent);
      this.#shelf.take(disks);
    } catch (error) {
      if (!isStorageError(error)) throw error;
      group = await this.#failedGroup(uuid, disks, messageOf(error));
    }
    this.#groups.set(uuid, group);
    this.#reportAssembled(groupRow(group));
  }

  async #failedGroup(uuid: string, disks: readonly LabelledDisk[], reason: string): Promise<Group> {
    const described = await this.options.layers.describeGroup(disks);
    const unknown = {
      ...{ chunkBytes: 0, rowBytes: 0, rowCount: 0, rowsFree: 0, generation: 0 },
      ...{ nodes: [], disks: [], lus: [], tasks: [], scrub: NO_SCRUB },
    };
    return new FailedGroup(described ?? { uuid, name: uuid, state: "failed", ...unknown }, reason);
  }

  #describeTrouble({ name, uuid, state }: GroupRow): string {
    const group = this.#groups.get(uuid);
    if (group instanceof FailedGroup) return `group ${name} is not served: ${group.reason}`;
    const away = this.disks().filter((disk) => disk.group === name && disk.state !== "online");
    const cause = away.map((disk) => `disk #${pad(disk.number ?? 0)} is ${disk.state}`).join(", ");
    return `group ${name} ${state === "failed" ? "has failed" : "has lost its redundancy"}${cause && ": "}${cause}`;
  }

  #reportAssembled(group: GroupRow): void {
    const severity = { clean: "info", degraded: "warning", failed: "error" } as const;
    this.options.events.add({
      severity: severity[group.state],
      kind: `group-${group.state}`,
      what: group.state === "clean" ? `group ${group.name} is complete` : this.#describeTrouble(group),
      detail: { group: group.name, missing: group.missingDisks },
    });
  }

  /** A failed group is taken apart and tried again: another of its disks may have turned up. */
  async #reviveFailedGroups(): Promise<void> {
    for (const [uuid, group] of this.#groups) {
      const { state, disks } = group.describe();
      if (state !== "failed") continue;
      await this.fileSystems.forget(group);
      // It has failed: that not everything can be flushed is known.
      await group.close().catch((error) => this.#complain(group, error));
      this.#groups.delete(uuid);
      this.#shelf.giveBack(disks.map((disk) => disk.uuid));
    }
    await this.#shelf.scan();
  }

  #complain(group: Group, error: unknown): void {
    const { name } = group.describe();
    const what = `group ${name} could not be closed cleanly: ${messageOf(error)}`;
    this.options.events.add({ severity: "warning", kind: "group-close-failed", what, detail: { group: name } });
  }

  readonly #groupEvent = (event: GroupEvent): void => {
    // While it is being assembled; its state is reported as a whole afterwards.
    if (event.kind === "degraded" && this.#find(event.group) === undefined) return;
    const grave = event.kind === "failed" || event.kind === "member-failed";
    const disk = event.disk === undefined ? "" : ` (disk #${pad(event.disk)})`;
    this.options.events.add({
      severity: grave ? "error" : event.kind === "degraded" ? "warning" : "info",
      kind: `group-${event.kind}`,
      what: `group ${event.group}: ${EVENT_TEXTS[event.kind]}${disk}`,
      detail: { group: event.group, ...(event.disk === undefined ? {} : { disk: event.disk }), ...event.detail },
    });
  };
}

const EVENT_TEXTS: Readonly<Record<GroupEvent["kind"], string>> = {
  "member-failed": "a disk is no longer used",
  "member-released": "a disk was let go",
  "member-slow": "a disk answers much later than the others and is read only when there is no other way",
  "member-well": "a disk answers in time again",
  "member-returned": "a disk is back and what it missed is being written on it",
  "member-replaced": "a disk takes the place of another and is being rebuilt",
  "read-error": "a disk could not read a place",
  complete: "redundancy is whole again",
  "scrub-fault": "a scrub found a place that is wrong",
  "lost-blocks": "blocks could not be proven and are lost",
  "task-started": "work in the background began",
  "task-ended": "work in the background ended",
  degraded: "redundancy is lost",
  failed: "too many disks are lost, nothing more is served",
  replayed: "its journal was replayed after an unclean stop",
  resynced: "parity and copies were made consistent after an unclean stop",
  healed: "a bad block was rewritten",
};

function findLu(group: Group, nameOrNumber: string): LuDescription {
  const { lus, name } = group.describe();
  const found = lus.find((lu) => lu.name === nameOrNumber || String(lu.number) === nameOrNumber.replace(/^#/, ""));
  if (found === undefined) throw new StorageError("ENOENT", `there is no LU ${nameOrNumber} in group ${name}`);
  return found;
}
