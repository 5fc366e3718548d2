import type { Clock } from "../lib/clock.js";
import { messageOf } from "../lib/errors.js";
import { SLOW_DISKS, type SlowDiskSettings } from "../raid/aside-watch.js";
import type { GroupEvent, LabelledDisk } from "../raid/contract.js";
import { ChangeLock } from "./change-lock.js";
import { DiskAdmin } from "./disk-admin.js";
import { DiskReturner } from "./disk-returner.js";
import { type DiskSharing, DiskShelf } from "./disk-shelf.js";
import type { EventLog } from "./event-log.js";
import { FileSystemKeeper } from "./file-system-keeper.js";
import { GroupAdmin, troubleOf } from "./group-admin.js";
import { groupEvent } from "./group-events.js";
import { GroupHands } from "./group-hands.js";
import { GroupRoster } from "./group-roster.js";
import type { ExportSink, StorageLayers } from "./layers.js";
import { LockAdmin } from "./lock-admin.js";
import { LuAdmin } from "./lu-admin.js";
import type { CabinetParts, CareSettings } from "./parts.js";
import { diskRows, groupRow, luRows } from "./rows.js";
import { ScrubScheduler } from "./scrub-scheduler.js";
import { SharedAdmin } from "./shared-admin.js";
import { SpareKeeper } from "./spare-keeper.js";
import { StateFiles } from "./state-files.js";
import { TaskAdmin } from "./task-admin.js";
import type { DiskRow, GroupRow, LuRow } from "./types.js";

export interface CabinetOptions {
  readonly node: string;
  readonly layers: StorageLayers;
  readonly clock: Clock;
  readonly events: EventLog;
  readonly exports: ExportSink;
  readonly diskPatterns: readonly string[];
  readonly knownDisksFile: string;
  /** By default its own. */
  readonly stateFiles?: StateFiles | undefined;
  readonly care: CareSettings;
  /** Default: SLOW_DISKS. */
  readonly slowDisks?: SlowDiskSettings | undefined;
  /** Throws unless this node may change what two nodes share: labels of shared groups. By default it is alone, and may. */
  readonly mayChangeShared?: (() => void) | undefined;
  /** Two nodes look at the same disks. */
  readonly sharing?: DiskSharing | undefined;
  /** Nodes that new groups are for, the one that serves them in normal work first. */
  readonly nodes?: readonly string[] | undefined;
  /** A group was made here. */
  readonly onGroupCreated?: ((uuid: string) => Promise<void>) | undefined;
  /** A group has lost more disks than it can bear, or cannot be served by this node (`why`); called before anything that waits for it gets its error. */
  readonly onGroupLost?: ((uuid: string, why?: string) => void) | undefined;
}

/** After these a spare may be wanted, or free again. */
const SPARE_EVENTS: ReadonlySet<GroupEvent["kind"]> = new Set([
  "member-failed",
  "member-released",
  "member-replaced",
  "degraded",
  "task-ended",
  "complete",
]);

/**
 * What stands in this node's cabinet: disks, groups, LUs and file systems, and the operations on them. Start-up and the
 * management API both go through here. Operations that change something run one after another.
 */
export class Cabinet {
  readonly #parts: CabinetParts;
  readonly #returner: DiskReturner;
  readonly #spares: SpareKeeper;
  readonly #scrubs: ScrubScheduler;
  readonly fileSystems: FileSystemKeeper;
  readonly diskAdmin: DiskAdmin;
  readonly groupAdmin: GroupAdmin;
  readonly lockAdmin: LockAdmin;
  readonly luAdmin: LuAdmin;
  readonly taskAdmin: TaskAdmin;
  readonly shared: SharedAdmin;
  readonly groupHands: GroupHands;
  readonly #onGroupLost: (uuid: string, why?: string) => void;
  #care: CareSettings;

  constructor(options: CabinetOptions) {
    const { layers, events, clock, exports, diskPatterns: patterns, knownDisksFile } = options;
    this.#care = options.care;
    this.#onGroupLost = options.onGroupLost ?? (() => {});
    const groups = new GroupRoster();
    const changes = new ChangeLock();
    const group = (name: string | undefined) => groups.named(name);
    const onHindered = (name: string, why: string) => {
      const uuid = groups.find(name)?.describe().uuid;
      if (uuid !== undefined) this.#onGroupLost(uuid, why);
    };
    this.fileSystems = new FileSystemKeeper({ layers, events, exports, changing: changes, group, clock, onHindered });
    const stateFiles = options.stateFiles ?? new StateFiles(clock, events);
    const { sharing, slowDisks: settings = SLOW_DISKS } = options;
    const patience = { clock, settings };
    const shelf = new DiskShelf({ layers, events, patterns, knownDisksFile, stateFiles, patience, sharing });
    this.#parts = { layers, clock, events, shelf, groups, changes, fileSystems: this.fileSystems };
    const care = () => this.#care;
    this.#returner = new DiskReturner(this.#parts, { care, revive: () => this.#regroup() });
    this.#spares = new SpareKeeper(this.#parts, care);
    this.#scrubs = new ScrubScheduler(this.#parts);
    this.diskAdmin = new DiskAdmin(
      this.#parts,
      () => this.disks(),
      (insisted) => this.#diskChanged(insisted),
      (disk) => this.#diskTakenIn(disk),
    );
    const { nodes, onGroupCreated } = options;
    this.groupAdmin = new GroupAdmin(this.#parts, (uuid, event) => this.#groupEvent(uuid, event), {
      nodes,
      onGroupCreated,
    });
    this.groupHands = new GroupHands(this.#parts, this.groupAdmin);
    this.lockAdmin = new LockAdmin({ node: options.node, ...this.#parts });
    this.luAdmin = new LuAdmin(this.#parts);
    this.taskAdmin = new TaskAdmin(this.#parts);
    this.shared = new SharedAdmin(this.#parts, {
      node: options.node,
      mayChange: options.mayChangeShared,
      lookOut: options.sharing !== undefined,
    });
  }

  /** As `open`, with other places to look and other waits from now on. */
  reload(diskPatterns: readonly string[], care: CareSettings): Promise<void> {
    this.#parts.shelf.patterns = diskPatterns;
    this.#care = care;
    return this.open();
  }

  /** Find disks, put groups together, mount file systems. What is there already stays as it is. */
  async open(): Promise<void> {
    await this.#parts.changes.run(async () => {
      await this.#parts.shelf.scan();
      this.#returner.forgetRefusals();
      await this.shared.adopt();
      await this.#regroup();
      await this.#returner.returnAll();
      await this.#spares.reviewLocked();
      this.#returner.arm();
      this.#scrubs.arm();
    });
    await this.#scrubs.review();
  }

  /** File systems, then groups, then disks. Everything is tried; the first error is thrown at the end. Idempotent. */
  close(): Promise<void> {
    return this.#parts.changes.end(async () => {
      for (const keeper of [this.#returner, this.#spares, this.#scrubs, this.shared]) keeper.stop();
      this.groupHands.end();
      const errors: unknown[] = [];
      const attempt = (action: Promise<unknown>) => action.catch((error) => errors.push(error));
      const groups = this.#parts.groups.all();
      // A scrub asks the file systems about their blocks: it ends before they do.
      for (const group of groups) await attempt(group.stopTasks());
      await attempt(this.fileSystems.close());
      for (const group of groups) await attempt(group.close());
      await attempt(this.shared.close());
      await attempt(this.#parts.shelf.close());
      if (errors.length > 0) throw errors[0];
    });
  }

  /** A disk has been pulled out, or put back. */
  async diskMoved(number: number): Promise<void> {
    await this.#returner.diskMoved(number);
    if (this.shared.has(number)) await this.shared.tend();
  }

  disks(): DiskRow[] {
    const { shelf, groups } = this.#parts;
    const rows = diskRows({ shelf, groups, refusalOf: (disk) => this.#returner.refusalOf(disk) });
    return this.shared.withMembers(rows);
  }

  groups(): GroupRow[] {
    return this.#parts.groups.all().map(groupRow);
  }

  lus(): LuRow[] {
    return this.#parts.groups.all().flatMap(luRows);
  }

  /** What an administrator should know, one sentence each. */
  warnings(): string[] {
    const { groups, shelf } = this.#parts;
    const found = groups
      .all()
      .filter((group) => group.describe().state !== "clean")
      .map(troubleOf);
    found.push(...this.shared.warnings());
    for (const [place, reason] of shelf.complaints()) found.push(`no disk at ${place}: ${reason}`);
    for (const { name, state, reason } of this.fileSystems.rows()) {
      if (state === "failed") found.push(`file system ${name} is not served: ${reason}`);
      else if (reason !== null) found.push(`file system ${name}: ${reason}`);
    }
    return found;
  }

  /** Groups that are not served are tried again, new ones put together, their file systems mounted. */
  async #regroup(): Promise<void> {
    await this.groupAdmin.reviveFailed();
    await this.groupAdmin.assembleAll();
    for (const group of this.#parts.groups.all()) await this.fileSystems.mountAll(group);
  }

  async #diskChanged(insisted: boolean): Promise<void> {
    if (insisted) await this.#regroup();
    await this.#spares.reviewLocked();
  }

  async #diskTakenIn({ shared, groupUuid }: LabelledDisk): Promise<string | null> {
    if (shared === true) await this.shared.adopt();
    if (shared === true || groupUuid === undefined) return null;
    const lacking = await this.groupAdmin.assembleWhole(groupUuid);
    await this.#returner.returnAll();
    await this.#spares.reviewLocked();
    return lacking;
  }

  #groupEvent(uuid: string, event: GroupEvent): void {
    const { groups, shelf, events, changes } = this.#parts;
    // While it is being assembled; its state is reported as a whole afterwards.
    if (event.kind === "degraded" && !groups.has(uuid)) return;
    events.add(groupEvent(event));
    if (event.kind === "member-released" && event.disk !== undefined) shelf.release(uuid, event.disk);
    if (changes.ended || !groups.has(uuid)) return;
    if (event.kind === "failed") this.#onGroupLost(uuid);
    if (SPARE_EVENTS.has(event.kind)) void this.#spares.review();
    if (event.kind === "task-ended" && event.detail.kind === "grow") void this.#useGrowth(event.group);
    if (event.kind === "task-ended" || event.kind === "complete") void this.#scrubs.review();
  }

  /** LUs that were spread over one more disk are larger now. */
  async #useGrowth(name: string): Promise<void> {
    for (const { name: lu } of this.#parts.groups.named(name).describe().lus) {
      await this.fileSystems.grow(name, lu).catch((error: unknown) => {
        const what = `the file system on LU ${lu} does not use what it grew by: ${messageOf(error)}`;
        this.#parts.events.add({ severity: "warning", kind: "file-system-not-grown", what, detail: { group: name } });
      });
    }
  }
}
