import {
  noPath,
  SHARED_GROUP_NAMES,
  type SharedGroup,
  type SharedGroupEvent,
  type SharedMemberDescription,
  type SharedRole,
} from "../ha/shared/group.js";
import type { MirrorEvent, MirroredNodeRecords } from "../ha/shared/mirrored-records.js";
import type { NodeRecordsView } from "../ha/shared/read-records.js";
import { compareAge } from "../ha/shared/record-tables.js";
import type { NodeRecord } from "../ha/shared/records.js";
import { AssertionError } from "../lib/assert.js";
import type { CancelTimer } from "../lib/clock.js";
import { messageOf, operatingError, StorageError } from "../lib/errors.js";
import { LIMITS } from "../limits.js";
import type { LabelledDisk } from "../raid/contract.js";
import { unusedDisk } from "./disk-choice.js";
import { pad } from "./disk-shelf.js";
import type { CabinetParts } from "./parts.js";
import type { DiskRow, NodeRecordsReport, RecordRow, SharedGroupRow } from "./types.js";

export interface SharedAdminOptions {
  /** This node: a shared group whose labels do not name it is not opened. */
  readonly node: string;
  /** Throws unless this node may change labels that both nodes read. By default it may. */
  readonly mayChange?: (() => void) | undefined;
  /** There is a partner, who may make a shared group: look for one. */
  readonly lookOut?: boolean | undefined;
}

export interface CreateShared {
  /** Numbers of disks that are in no group. */
  readonly disks: readonly number[];
  /** The shared LU's backup instead of itself. */
  readonly backup: boolean;
  /** Which nodes may open it; all by default. */
  readonly nodes?: readonly string[] | undefined;
}

/** A shared group, and the nodes whose partitions on it are meant. */
export interface SharedPlace {
  readonly role: SharedRole;
  readonly nodes: readonly string[];
}

export interface RecordsRequest {
  /** Whose partition. */
  readonly node: string;
  /** Who writes it: the node itself, or the one that has taken it over. */
  readonly writer: string;
  /** By default the highest that the partition's headers show: for a node that is alone. Refused then while another node has the partition. */
  readonly epoch?: number | undefined;
  /** Under the next epoch, whoever has the partition: its node is dead, and writes no more should it be wrong about that. */
  readonly take?: boolean | undefined;
  /** Asked before each write; throws ESTALE when the lease is lost. */
  readonly guard?: (() => void) | undefined;
  readonly onRefused?: ((what: string) => void) | undefined;
}

/** A member that failed is tried again after this, and after twice as long each time that it fails once more. */
const RETRY_MS = LIMITS.sharedTendMs;
const RETRY_MS_MAX = 600_000;

interface Retry {
  readonly notBeforeMs: number;
  readonly delayMs: number;
}

const NO_ERRORS = { read: 0, write: 0, checksum: 0, repaired: 0 };

/**
 * The shared group and its backup: made, found again by their labels, looked after. Their disks are opened under a shared lock, because the
 * partner has them open too; nobody but `ha/shared/` reads or writes them.
 */
export class SharedAdmin {
  readonly #groups = new Map<SharedRole, SharedGroup>();
  readonly #retries = new Map<number, Retry>();
  readonly #strangers = new Set<string>();
  /** Shared groups that this node has no path to, by UUID, with the sentence that says so. */
  readonly #closed = new Map<string, string>();
  readonly #lastSaid = new Map<string, string>();
  readonly #mayChange: () => void;
  #cancel: CancelTimer | null = null;

  constructor(
    private readonly parts: CabinetParts,
    private readonly options: SharedAdminOptions,
  ) {
    this.#mayChange = options.mayChange ?? (() => {});
  }

  group(role: SharedRole): SharedGroup | undefined {
    return this.#groups.get(role);
  }

  /** Open the shared groups whose disks lie on the shelf, and give open ones their members back. Called while changes are locked. */
  async adopt(): Promise<void> {
    const found = new Map<string, LabelledDisk[]>();
    for (const disk of this.parts.shelf.labelled()) {
      if (disk.shared !== true || disk.groupUuid === undefined) continue;
      found.set(disk.groupUuid, [...(found.get(disk.groupUuid) ?? []), disk]);
    }
    for (const [uuid, disks] of found) {
      const open = this.#all().find((group) => group.uuid === uuid);
      if (open === undefined) await this.#open(uuid, disks);
      else for (const disk of disks) await this.#return(open, disk);
    }
    this.#arm();
  }

  /** Make the shared group, or its backup, of disks in no group. */
  create(wanted: CreateShared): Promise<SharedGroupRow> {
    return this.parts.changes.run(async () => {
      const { layers, shelf, events } = this.parts;
      const role = wanted.backup ? "backup" : "primary";
      const name = SHARED_GROUP_NAMES[role];
      if (this.#groups.has(role)) throw new StorageError("EEXIST", `there is a group ${name} already`);
      const { node } = this.options;
      if (wanted.nodes?.includes(node) === false)
        throw new StorageError(
          "EINVAL",
          `node ${node} cannot make group ${name} without a path to it: name ${node}, too`,
        );
      const disks = wanted.disks.map((number) => unusedDisk(this.parts, number));
      if (new Set(disks).size !== disks.length) throw new StorageError("EINVAL", "a disk is named twice");
      await layers.shared.create(disks, { role, nodes: wanted.nodes, mayChange: this.#mayChange });
      for (const disk of disks) await shelf.reopen(disk);
      await this.adopt();
      const group = this.#groups.get(role);
      if (group === undefined)
        throw new StorageError("EIO", `group ${name} was made, but its disks cannot be opened again`);
      const numbers = disks.map(({ number }) => `#${pad(number)}`).join(" ");
      const what = `group ${name} created on disks ${numbers}`;
      events.add({ severity: "info", kind: "shared-group-created", what, detail: { group: name } });
      return this.#row(role, group);
    });
  }

  /** An unused disk takes the place of a member that is not online, and is brought up to date in the background. */
  replace(number: number, other: number): Promise<SharedGroupRow> {
    return this.parts.changes.run(async () => {
      const found = [...this.#groups].find(([, group]) =>
        group.describe().members.some((one) => one.number === number),
      );
      if (found === undefined) throw new StorageError("ENOENT", `disk #${pad(number)} is in no shared group`);
      const [role, group] = found;
      const disk = unusedDisk(this.parts, other);
      await group.replaceMember(number, disk, this.#mayChange);
      await this.parts.shelf.reopen(disk);
      await this.adopt();
      const what = `group ${group.name}: disk #${pad(other)} takes the place of disk #${pad(number)}`;
      this.parts.events.add({
        severity: "info",
        kind: "shared-member-replaced",
        what,
        detail: { group: group.name, disk: other },
      });
      return this.#row(role, group);
    });
  }

  /** The shared group first. @throws StorageError EACCES when this node has no path to what is there */
  async rows(): Promise<SharedGroupRow[]> {
    this.#refuseClosed();
    const found = [...this.#groups].toSorted(([a], [b]) => Number(a === "backup") - Number(b === "backup"));
    return Promise.all(found.map(([role, group]) => this.#row(role, group)));
  }

  /**
   * What a node has written about itself, from the shared group or its backup, whichever is newer.
   * @throws StorageError ENOENT: there is no shared group, or nothing of the node on it; EIO
   */
  async records(node: string): Promise<NodeRecordsReport> {
    this.#refuseClosed();
    if (this.#groups.size === 0) throw new StorageError("ENOENT", "there is no shared group: make one (shared create)");
    const views: { group: string; view: NodeRecordsView }[] = [];
    const errors: unknown[] = [];
    for (const group of this.#all()) {
      const view = await this.#view(group, node).catch((error: unknown) => void errors.push(error));
      if (view != null) views.push({ group: group.name, view });
    }
    const [newest] = views.toSorted((a, b) => compareAge(b.view.age, a.view.age));
    if (newest !== undefined) return reportOf(newest.group, newest.view);
    if (errors.length > 0) throw errors[0];
    throw new StorageError("ENOENT", `node ${node} has not written anything about itself yet`);
  }

  /**
   * The records of a node, to write, on the shared group and its backup.
   * @returns null while there is no shared group
   * @throws as MirroredNodeRecords.open; StorageError EACCES
   */
  async openRecords(request: RecordsRequest): Promise<MirroredNodeRecords | null> {
    const groups = this.#all();
    if (groups.length === 0) return null;
    const { node, writer, guard, onRefused } = request;
    const epoch = request.epoch ?? (await this.#epochShown(groups, request));
    return this.parts.layers.shared.openRecords({
      ...{ node, epoch, onRefused },
      places: groups.map((group) => ({
        name: group.name,
        open: (force) => group.openForWriting(node, { writer, epoch, guard, force }),
      })),
      onEvent: (event) => this.#mirrorEvent(node, event),
    });
  }

  /** @throws StorageError EACCES when another node has the partition: who has no epoch of its own must not take it back from there */
  async #epochShown(groups: readonly SharedGroup[], { node, writer, take }: RecordsRequest): Promise<number> {
    const shown = await Promise.all(groups.map((group) => group.partition(node)));
    if (take === true) return Math.max(...shown.map(({ epoch }) => epoch)) + 1;
    const other = shown.find((one) => one.writer !== "" && one.writer !== writer && !one.closed);
    if (other === undefined) return Math.max(...shown.map(({ epoch }) => epoch));
    throw new StorageError("EACCES", `the partition of ${node} is held by ${other.writer}`, {
      node,
      writer: other.writer,
    });
  }

  has(disk: number): boolean {
    return this.#members().some(({ number }) => number === disk);
  }

  /** The disk table with the members of the shared groups in it, by number. */
  withMembers(rows: readonly DiskRow[]): DiskRow[] {
    const members = this.#all().flatMap((group) =>
      group.describe().members.map((member) => memberRow(member, group.name)),
    );
    if (members.length === 0) return [...rows];
    const others = rows.filter((row) => row.number === null || !this.has(row.number));
    return [...others, ...members].sort((a, b) => (a.number ?? Number.MAX_VALUE) - (b.number ?? Number.MAX_VALUE));
  }

  /** One sentence each. */
  warnings(): string[] {
    const away = this.#all().flatMap((group) =>
      group
        .describe()
        .members.filter(({ state }) => state !== "online")
        .map(
          ({ number, state, reason }) =>
            `group ${group.name}: disk #${pad(number)} is ${state}${reason ? `: ${reason}` : ""}`,
        ),
    );
    return [...away, ...this.#closed.values()];
  }

  /**
   * Claim the partitions of these nodes, each in its node's name, on every disk of the group. One that has an owner already stays as it is.
   * @throws StorageError ENOENT (no such group), EACCES (a node without a path), EIO
   */
  claimPartitions({ role, nodes }: SharedPlace): Promise<SharedGroupRow> {
    return this.parts.changes.run(async () => {
      const group = this.#named(role);
      for (const node of nodes) {
        const { writer, epoch } = await group.partition(node);
        if (writer !== "") continue;
        const partition = await group.openForWriting(node, { writer: node, epoch });
        await partition.close();
      }
      return this.#row(role, group);
    });
  }

  /**
   * Make the page store of each of these nodes on its partition. One that is there stays as it is.
   * @throws as `claimPartitions`; StorageError EBUSY when a node that runs has its partition open
   */
  makeStores({ role, nodes }: SharedPlace): Promise<SharedGroupRow> {
    return this.parts.changes.run(async () => {
      const group = this.#named(role);
      for (const node of nodes) {
        if ((await this.#view(group, node)) !== null) continue;
        const { epoch } = await group.partition(node);
        const open = (force: boolean) => group.openForWriting(node, { writer: node, epoch, force });
        const records = await this.parts.layers.shared.openRecords({
          ...{ node, epoch, places: [{ name: group.name, open }] },
        });
        // A commit with nothing in it: its tables are durable afterwards.
        await records.durable();
        await records.close();
      }
      return this.#row(role, group);
    });
  }

  #refuseClosed(): void {
    const [what] = this.#closed.values();
    if (this.#groups.size === 0 && what !== undefined) throw new StorageError("EACCES", what);
  }

  #named(role: SharedRole): SharedGroup {
    const group = this.#groups.get(role);
    if (group !== undefined) return group;
    const closed = [...this.#closed.values()].find((what) => what.endsWith(`"${SHARED_GROUP_NAMES[role]}"`));
    if (closed !== undefined) throw new StorageError("EACCES", closed);
    throw new StorageError("ENOENT", `there is no group ${SHARED_GROUP_NAMES[role]} here`);
  }

  /** Ask all members whether they are there, and look for those that are not. Never rejects. */
  async tend(): Promise<void> {
    try {
      for (const group of this.#all()) await group.tend();
      const whole = this.#members().every(({ state }) => state === "online");
      if (whole && !(await this.#partnerMadeOne())) return;
      await this.parts.changes.runUnlessEnded(async () => {
        await this.parts.shelf.scan({ lenient: true });
        await this.adopt();
      });
    } catch (error) {
      if (error instanceof AssertionError) throw error;
      const what = `the search for disks of the shared groups failed: ${messageOf(error)}`;
      this.parts.events.add({ severity: "warning", kind: "disk-scan-failed", what });
    }
  }

  async #partnerMadeOne(): Promise<boolean> {
    if (this.options.lookOut !== true || this.#groups.size === Object.keys(SHARED_GROUP_NAMES).length) return false;
    const open = new Set(this.#all().map(({ uuid }) => uuid));
    const found = await this.parts.shelf.survey();
    return found.some(({ group }) => group?.shared === true && !open.has(group.uuid));
  }

  stop(): void {
    this.#cancel?.();
    this.#cancel = null;
  }

  /** Every group is tried; the first error is thrown at the end. */
  async close(): Promise<void> {
    this.stop();
    const groups = this.#all();
    this.#groups.clear();
    const results = await Promise.allSettled(groups.map((group) => group.close()));
    for (const result of results) if (result.status === "rejected") throw result.reason;
  }

  #all(): SharedGroup[] {
    return (["primary", "backup"] as const).flatMap((role) => this.#groups.get(role) ?? []);
  }

  #members(): SharedMemberDescription[] {
    return this.#all().flatMap((group) => group.describe().members);
  }

  /** Only while there is something to look after, or to be found. */
  #arm(): void {
    if (this.#cancel !== null || (this.#groups.size === 0 && this.options.lookOut !== true)) return;
    this.#cancel = this.parts.clock.after(LIMITS.sharedTendMs, () => {
      this.#cancel = null;
      void this.tend().finally(() => {
        if (!this.parts.changes.ended) this.#arm();
      });
    });
  }

  async #open(uuid: string, disks: readonly LabelledDisk[]): Promise<void> {
    const { layers, shelf } = this.parts;
    try {
      await this.#refuseWithoutPath(uuid, disks);
      const { group, unused } = await layers.shared.open(disks, (event) => this.#event(uuid, event));
      const role = (Object.keys(SHARED_GROUP_NAMES) as SharedRole[]).find(
        (one) => SHARED_GROUP_NAMES[one] === group.name,
      );
      if (role === undefined || this.#groups.has(role)) {
        throw new StorageError("EEXIST", `there is another group ${group.name} here`);
      }
      shelf.take(
        disks.filter((disk) => !unused.includes(disk)),
        uuid,
      );
      this.#groups.set(role, group);
      this.#report(group);
    } catch (error) {
      if (operatingError(error) === null) throw error;
      this.#complain(uuid, `shared group ${uuid} is not used: ${messageOf(error)}`);
    }
  }

  /**
   * The labels name the nodes that may open the group. Looked at before anything is opened; the newest label decides when a partition is written.
   * @throws StorageError EACCES
   */
  async #refuseWithoutPath(uuid: string, disks: readonly LabelledDisk[]): Promise<void> {
    const surveyed = await Promise.all(disks.map(({ device }) => this.parts.layers.surveyDisk(device.name)));
    const groups = surveyed.flatMap((disk) => (disk?.group?.uuid === uuid ? [disk.group] : []));
    this.#closed.delete(uuid);
    const [one] = groups;
    if (one === undefined || groups.some(({ nodes }) => nodes.includes(this.options.node))) return;
    const what = noPath(this.options.node, one.name);
    this.#closed.set(uuid, what);
    throw new StorageError("EACCES", what, { node: this.options.node });
  }

  #report(group: SharedGroup): void {
    const { name, members } = group.describe();
    const away = members.filter(({ state }) => state !== "online").map(({ number }) => `#${pad(number)}`);
    const what = away.length === 0 ? `group ${name} is complete` : `group ${name} lacks disk ${away.join(" ")}`;
    const severity = away.length === 0 ? "info" : "warning";
    this.parts.events.add({ severity, kind: "shared-group-open", what, detail: { group: name } });
  }

  async #return(group: SharedGroup, disk: LabelledDisk): Promise<void> {
    const retry = this.#retries.get(disk.number);
    if (retry !== undefined && this.parts.clock.monotonicMs() < retry.notBeforeMs) return;
    try {
      await this.parts.shelf.handOver(disk, group.uuid, () => group.returnMember(disk));
    } catch (error) {
      if (operatingError(error) === null) throw error;
      this.#complain(disk.uuid, `group ${group.name}: ${disk.device.name} is not taken back: ${messageOf(error)}`);
    }
  }

  #event(uuid: string, { kind, group, disk, detail }: SharedGroupEvent): void {
    const { shelf, events } = this.parts;
    const about = { group, disk, ...detail };
    if (kind === "member-returned") {
      const what = `group ${group}: disk #${pad(disk)} is back, its copies are being brought up to date`;
      events.add({ severity: "info", kind: "shared-member-returned", what, detail: about });
      return;
    }
    shelf.release(uuid, disk);
    // One that was pulled out may come back at once; one that gives errors has to wait, longer each time.
    const nowMs = this.parts.clock.monotonicMs();
    const before = this.#retries.get(disk)?.delayMs ?? RETRY_MS / 2;
    const delayMs = detail.gone === true ? 0 : Math.min(2 * before, RETRY_MS_MAX);
    this.#retries.set(disk, { notBeforeMs: nowMs + delayMs, delayMs: Math.max(delayMs, RETRY_MS / 2) });
    const what = `group ${group}: disk #${pad(disk)} is lost: ${detail.reason}`;
    events.add({ severity: "error", kind: "shared-member-lost", what, detail: about });
  }

  #mirrorEvent(node: string, { kind, place, reason }: MirrorEvent): void {
    const lost = kind === "lost";
    // Who opens the records again and again says the same again and again.
    if (this.#lastSaid.get(`${node} ${place}`) === `${kind} ${reason}`) return;
    this.#lastSaid.set(`${node} ${place}`, `${kind} ${reason}`);
    const what = lost
      ? `the records of node ${node} go on without group ${place}: ${reason}`
      : `the records of node ${node} are complete on group ${place} again`;
    const severity = lost ? "error" : "info";
    this.parts.events.add({ severity, kind: `shared-records-${kind}`, what, detail: { node, group: place } });
  }

  /** Once for each. */
  #complain(about: string, what: string): void {
    if (this.#strangers.has(`${about} ${what}`)) return;
    this.#strangers.add(`${about} ${what}`);
    this.parts.events.add({ severity: "warning", kind: "shared-group-unusable", what });
  }

  async #view(group: SharedGroup, node: string): Promise<NodeRecordsView | null> {
    const partition = await group.openForReading(node);
    try {
      return await this.parts.layers.shared.readRecords(partition);
    } finally {
      await partition.close();
    }
  }

  async #row(role: SharedRole, group: SharedGroup): Promise<SharedGroupRow> {
    const { name, uuid, nodes, members } = group.describe();
    const rows = members.map(({ uuid: _, ...row }) => row);
    return { name, role, uuid, nodes, members: rows, partitions: await group.partitions() };
  }
}

function memberRow({ number, path, sizeBytes, state, reason }: SharedMemberDescription, group: string): DiskRow {
  return { number, path, sizeBytes, levels: [1], state, group, reason, errors: NO_ERRORS, slow: false };
}

function reportOf(group: string, { node, age, records, unknown }: NodeRecordsView): NodeRecordsReport {
  const { client, user, service, daemon } = records;
  return {
    ...{ node, group, epoch: age.epoch, sequence: age.sequence },
    client: client.map(recordRow),
    user: user.map(recordRow),
    service: service.map(recordRow),
    daemon: daemon.map(recordRow),
    unknown: unknown.length,
  };
}

function recordRow({ key, value, updatedMs }: NodeRecord): RecordRow {
  return { key, value, updated: new Date(updatedMs).toISOString() };
}
