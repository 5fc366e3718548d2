import type { BlockDevice } from "../../device/device.js";
import { must } from "../../lib/assert.js";
import { isStorageError, messageOf, StorageError } from "../../lib/errors.js";
import type { Logger } from "../../lib/log.js";
import type { Random } from "../../lib/prng.js";
import type { LabelledDisk } from "../../raid/contract.js";
import { newUuid } from "../../raid/fields.js";
import { type GroupRecord, type LabelMember, NO_SCRUB, NO_SHAPE, newMember } from "../../raid/label.js";
import { type Label, readLabel, writeLabel } from "../../raid/label-io.js";
import { SHARED_MEMBERS_MAX } from "../../raid/limits.js";
import { NO_LINEAGE } from "../../raid/lineage.js";
import { encodePartitionHeader, readHeaderPair } from "./header.js";
import {
  HEADER_PAIR_BYTES,
  NODE_NAMES,
  PARTITION,
  PARTITION_HEADER,
  partitionBytesFor,
  partitionIndex,
  partitionStart,
} from "./layout.js";
import type { SharedMember, SharedMemberState } from "./member.js";
import { PartitionLu, type WriterOptions } from "./partition.js";
import { standingOf } from "./standing.js";

/** By these names the two are told apart. */
export const SHARED_GROUP_NAMES = { primary: "shared", backup: "shared-backup" } as const;
export type SharedRole = keyof typeof SHARED_GROUP_NAMES;

/** The one sentence for a node that the labels of a shared group do not name. */
export function noPath(node: string, group: string): string {
  return `node ${node} has no path to group "${group}"`;
}

export interface SharedGroupEvent {
  readonly kind: "member-lost" | "member-returned";
  readonly group: string;
  readonly disk: number;
  readonly detail: Readonly<Record<string, unknown>>;
}

export interface SharedGroupOptions {
  readonly log: Logger;
  readonly onEvent?: ((event: SharedGroupEvent) => void) | undefined;
}

export interface NewSharedGroup {
  readonly role: SharedRole;
  /** Which nodes may open a partition for writing; by default all eight. None: each gets its path later (`setNodes`). */
  readonly nodes?: readonly string[] | undefined;
  readonly random: Random;
  /** Throws unless this node may change labels that both nodes read: it holds the lease, or is alone. */
  readonly mayChange: () => void;
}

export interface SharedMemberDescription {
  readonly number: number;
  readonly uuid: string;
  readonly path: string;
  readonly sizeBytes: number;
  readonly state: SharedMemberState;
  readonly reason: string | null;
}

export interface SharedGroupDescription {
  readonly uuid: string;
  readonly name: string;
  readonly nodes: readonly string[];
  readonly partitionBytes: number;
  readonly members: readonly SharedMemberDescription[];
}

export interface PartitionDescription {
  readonly node: string;
  /** Who wrote its header last; empty: nobody yet. */
  readonly writer: string;
  /** That one has closed it since. */
  readonly closed: boolean;
  readonly generation: number;
  readonly epoch: number;
  /** Disk numbers of the copies that may be read, and of the others. */
  readonly current: readonly number[];
  readonly behind: readonly number[];
  readonly sizeBytes: number;
}

/**
 * Make a shared group of disks in no group. The partitions are cleared first and the labels written last: a disk is a member, or is not.
 * @param disks  1 to 4, open for nobody but us
 * @throws StorageError EINVAL, EEXIST (a disk twice, or in a group), ENOSPC, EIO; what `mayChange` throws
 */
export async function createSharedGroup(disks: readonly LabelledDisk[], wanted: NewSharedGroup): Promise<GroupRecord> {
  wanted.mayChange();
  const labels = await Promise.all(disks.map(unusedLabel));
  const record = newRecord(disks, wanted);
  const partitionBytes = partitionBytesFor(Math.min(...record.members.map(({ sizeBytes }) => sizeBytes)));
  for (const [slot, { device }] of disks.entries()) {
    await clearPartitions(device, record, slot, partitionBytes);
    await device.flush();
  }
  wanted.mayChange();
  for (const [slot, { device, uuid, number }] of disks.entries()) {
    const sequence = must(labels[slot], "each disk has a label").sequence + 1;
    await writeLabel(device, { uuid, number, sequence, sizeBytes: device.sizeBytes, slot, group: record });
  }
  return record;
}

async function unusedLabel({ device, number }: LabelledDisk): Promise<Label> {
  const label = await readLabel(device);
  if (label === null)
    throw new StorageError("EINVAL", `${device.name} has no label: add it as a disk first`, { number });
  if (label.group === undefined) return label;
  throw new StorageError("EEXIST", `disk #${number} is in group "${label.group.name}" already`, { number });
}

function newRecord(disks: readonly LabelledDisk[], { role, nodes = NODE_NAMES, random }: NewSharedGroup): GroupRecord {
  if (disks.length < 1 || disks.length > SHARED_MEMBERS_MAX) {
    throw new StorageError("EINVAL", `a shared group has 1 to ${SHARED_MEMBERS_MAX} disks, not ${disks.length}`);
  }
  if (new Set(disks.map(({ uuid }) => uuid)).size < disks.length) {
    throw new StorageError("EEXIST", "the same disk is named twice");
  }
  for (const node of nodes) partitionIndex(node);
  const members = disks.map(newMember);
  return {
    ...{ uuid: newUuid(random), name: SHARED_GROUP_NAMES[role], generation: 1, ownerEpoch: 0, clean: false },
    ...{
      shape: NO_SHAPE,
      nodes: [...nodes],
      members,
      lus: [],
      scrub: NO_SCRUB,
      lost: [],
      lineage: NO_LINEAGE,
      shared: true,
    },
  };
}

/** Headers that call every copy current, and nothing at the head of each LU: no page store of an earlier life is found there. */
async function clearPartitions(
  device: BlockDevice,
  { uuid: groupUuid, members }: GroupRecord,
  copy: number,
  partitionBytes: number,
  { withoutItself = false } = {},
): Promise<void> {
  const all = (1 << members.length) - 1;
  const currentCopies = withoutItself ? all - (1 << copy) : all;
  const generation = withoutItself ? 0 : 1;
  for (let partition = 0; partition < NODE_NAMES.length; partition++) {
    const head = Buffer.alloc(PARTITION.lu + HEADER_PAIR_BYTES);
    const header = { groupUuid, partition, copy, sequence: 2, generation, epoch: 0, currentCopies };
    // Nobody has made the copies equal yet.
    encodePartitionHeader({ ...header, closed: false, equal: false, writer: "" }).copy(head, PARTITION.header0);
    await device.write(head, partitionStart(partition, partitionBytes));
  }
}

/** A disk with what its label says of the group. */
interface FoundMember {
  readonly disk: LabelledDisk;
  readonly label: Label;
  readonly record: GroupRecord;
}

/**
 * A group of 1 to 4 disks that several nodes have open at the same time, each member under a shared flock. It holds a partition for every node
 * and nothing else: no journal, no bitmap, no stripe cache, and labels that stay as they are (docs/decisions/0020-shared-lu.md).
 */
export class SharedGroup {
  #record: GroupRecord;
  readonly #members: readonly SharedMember[];
  readonly #options: SharedGroupOptions;
  readonly #open = new Set<PartitionLu>();
  readonly partitionBytes: number;

  private constructor(record: GroupRecord, members: readonly SharedMember[], options: SharedGroupOptions) {
    this.#record = record;
    this.#members = members;
    this.#options = options;
    this.partitionBytes = partitionBytesFor(Math.min(...record.members.map(({ sizeBytes }) => sizeBytes)));
  }

  /**
   * @param disks  those that were found with this group's UUID, in any order, open for reading and writing under a shared lock. The group closes
   *   them; those that it does not use (`unused`) stay the caller's
   * @throws StorageError EINVAL (not a shared group), EEXIST (a disk twice), EIO (no label can be read); all devices stay the caller's then
   */
  static async open(
    disks: readonly LabelledDisk[],
    options: SharedGroupOptions,
  ): Promise<{ group: SharedGroup; unused: readonly LabelledDisk[] }> {
    const found = (await Promise.all(disks.map(readMember))).filter((one) => one !== null);
    const newest = found.toSorted(
      (a, b) => b.record.generation - a.record.generation || b.label.sequence - a.label.sequence,
    )[0];
    if (newest === undefined) throw new StorageError("EIO", "no disk of the shared group has a readable label");
    refuseMixture(found);
    const { record } = newest;
    const members = record.members.map((label, slot): SharedMember => {
      const device = found.find(({ disk }) => disk.uuid === label.uuid)?.disk.device ?? null;
      if (device === null) return { slot, label, device, state: "missing", reason: "not found" };
      if (device.sizeBytes >= label.sizeBytes) return { slot, label, device, state: "online", reason: null };
      return { slot, label, device: null, state: "failed", reason: `the device shrank to ${device.sizeBytes} bytes` };
    });
    const group = new SharedGroup(record, members, options);
    return { group, unused: disks.filter(({ device }) => !members.some((member) => member.device === device)) };
  }

  get uuid(): string {
    return this.#record.uuid;
  }

  get name(): string {
    return this.#record.name;
  }

  /** Some member is there. */
  get reachable(): boolean {
    return this.#members.some(({ device }) => device !== null);
  }

  describe(): SharedGroupDescription {
    const { uuid, name, nodes } = this.#record;
    const members = this.#members.map(({ label, device, state, reason }) => ({
      ...{ number: label.number, uuid: label.uuid, path: device?.name ?? label.path, sizeBytes: label.sizeBytes },
      ...{ state, reason },
    }));
    return { uuid, name, nodes, partitionBytes: this.partitionBytes, members };
  }

  /** The disks as they are open here, by slot; null: not there. For what lies outside of the partitions: the reserved area with heartbeat and lease. */
  devices(): readonly (BlockDevice | null)[] {
    return this.#members.map(({ device }) => device);
  }

  /** All eight, as their headers say at this moment. Reads only. */
  partitions(): Promise<PartitionDescription[]> {
    return Promise.all(NODE_NAMES.map((node, index) => this.#describePartition(node, index)));
  }

  /** As `partitions`, of one node. */
  partition(node: string): Promise<PartitionDescription> {
    return this.#describePartition(node, partitionIndex(node));
  }

  /**
   * The partition of a node, to write: at most once at a time in this process.
   * @param options  who writes, and under which epoch
   * @throws StorageError EACCES (a node without a path), EBUSY, and as PartitionLu.claim
   */
  async openForWriting(node: string, options: WriterOptions): Promise<PartitionLu> {
    const { nodes, name } = this.#record;
    for (const one of [node, options.writer]) {
      if (!nodes.includes(one)) throw new StorageError("EACCES", noPath(one, name), { node: one });
    }
    if ([...this.#open].some((lu) => lu.node === node && lu.writable)) {
      throw new StorageError("EBUSY", `the partition of ${node} in group "${name}" is open for writing already`);
    }
    return this.#opened(this.#partition(partitionIndex(node)), (lu) => lu.claim(options));
  }

  /** The partition of a node, to look at while its owner writes it: nothing is ever written. */
  openForReading(node: string): Promise<PartitionLu> {
    return this.#opened(this.#partition(partitionIndex(node)), (lu) => lu.refresh());
  }

  /**
   * A member that was away is there again, under whatever path. The group owns its device from here on.
   * @throws StorageError EINVAL (not a member, shrunk), EBUSY (it is in use)
   */
  async returnMember(disk: LabelledDisk): Promise<void> {
    const found = await readMember(disk);
    const member = this.#members.find(({ label }) => label.uuid === disk.uuid);
    if (found === null || found.record.uuid !== this.uuid || member === undefined) {
      throw new StorageError("EINVAL", `${disk.device.name} is not a member of group "${this.name}"`);
    }
    if (disk.device.sizeBytes < member.label.sizeBytes) {
      throw new StorageError("EINVAL", `${disk.device.name} has shrunk to ${disk.device.sizeBytes} bytes`);
    }
    if (member.device !== null) {
      throw new StorageError("EBUSY", `${disk.device.name} and ${member.device.name} are copies of one disk`);
    }
    Object.assign(member, { device: disk.device, state: "online", reason: null });
    this.#emit("member-returned", member, { path: disk.device.name });
    for (const lu of this.#open) await lu.memberBack(member.slot);
  }

  /**
   * Ask the members whether they are there, so that one that was pulled out while nobody used it is noticed, and go on with copies that
   * could not be brought up to date. Call it every few seconds.
   */
  async tend(): Promise<void> {
    await Promise.all(this.#members.map((member) => this.#probe(member)));
    await this.#followLabels();
    for (const lu of this.#open) await lu.tend();
  }

  /**
   * Which nodes may write, on every label. The other node learns it when it tends the group.
   * @param mayChange  as at creation
   * @throws StorageError EIO; what `mayChange` throws
   */
  async setNodes(nodes: readonly string[], mayChange: () => void): Promise<void> {
    for (const node of nodes) partitionIndex(node);
    if (this.devices().includes(null)) {
      throw new StorageError("EIO", `group "${this.name}" lacks a member: bring it back first`);
    }
    await this.#writeLabels({ ...this.#record, nodes: [...nodes], generation: this.#record.generation + 1 }, mayChange);
  }

  /**
   * A disk in no group takes the place of a member that is not online. Nothing of any partition is on it yet, and its copies say so: they are brought up to
   * date when the disk is handed over (`returnMember`), opened anew under a shared lock.
   * @param disk  open for nobody but us; it stays the caller's
   * @throws StorageError ENOENT, EBUSY (the member is online), ENOSPC (too small), EEXIST, EIO (no other member is there); what `mayChange` throws
   */
  async replaceMember(number: number, disk: LabelledDisk, mayChange: () => void): Promise<void> {
    mayChange();
    const member = this.#members.find(({ label }) => label.number === number);
    if (member === undefined) throw new StorageError("ENOENT", `disk #${number} is not in group "${this.name}"`);
    if (member.device !== null) throw new StorageError("EBUSY", `disk #${number} is online in group "${this.name}"`);
    if (!this.reachable) throw new StorageError("EIO", `group "${this.name}" has no other member to copy from`);
    const { sequence } = await unusedLabel(disk);
    const sizeBytes = disk.device.sizeBytes;
    const least = Math.min(...this.#members.map(({ label }) => label.sizeBytes));
    if (sizeBytes < least) throw new StorageError("ENOSPC", `${disk.device.name} is smaller than the members`);
    const { slot } = member;
    const fresh: LabelMember = { ...newMember(disk), sizeBytes: least };
    const members = this.#record.members.map((label, i) => (i === slot ? fresh : label));
    const record = { ...this.#record, members, generation: this.#record.generation + 1 };
    await clearPartitions(disk.device, record, slot, this.partitionBytes, { withoutItself: true });
    await disk.device.flush();
    mayChange();
    await writeLabel(disk.device, { ...disk, sizeBytes, sequence: sequence + 1, slot, group: record });
    await this.#writeLabels(record, mayChange);
  }

  /** Partitions, then devices; each tried, the first error thrown at the end. */
  async close(): Promise<void> {
    const closed = await Promise.allSettled([...this.#open].map((lu) => lu.close()));
    const devices = this.#members.flatMap(({ device }) => (device === null ? [] : [device]));
    for (const member of this.#members) member.device = null;
    const released = await Promise.allSettled(devices.map((device) => device.close()));
    for (const result of [...closed, ...released]) if (result.status === "rejected") throw result.reason;
  }

  /** On every member that is there; those that are not know it by the generation when they return. */
  async #writeLabels(record: GroupRecord, mayChange: () => void): Promise<void> {
    for (const { slot, device, label } of this.#members) {
      if (device === null || record.members[slot]?.uuid !== label.uuid) continue;
      mayChange();
      const known = await readLabel(device);
      if (known === null) throw new StorageError("EIO", `${device.name} has lost its label`, { device: device.name });
      const { uuid, number, sizeBytes, sequence } = known;
      await writeLabel(device, { uuid, number, sizeBytes, slot, sequence: sequence + 1, group: record });
    }
    this.#follow(record);
  }

  /** The other node may have changed the labels. */
  async #followLabels(): Promise<void> {
    for (const device of this.devices()) {
      const label = device === null ? null : await readLabel(device).catch(() => null);
      if (label?.group?.uuid === this.uuid && label.group.generation > this.#record.generation)
        this.#follow(label.group);
    }
  }

  #follow(record: GroupRecord): void {
    this.#record = record;
    for (const member of this.#members) {
      const label = must(record.members[member.slot], "members are replaced, never removed");
      if (label.uuid === member.label.uuid) continue;
      this.#lose(member, new StorageError("ENXIO", "another disk has its place"));
      Object.assign(member, { label, state: "missing", reason: "not found" });
    }
  }

  #partition(index: number): PartitionLu {
    return new PartitionLu({
      ...{ groupUuid: this.uuid, groupName: this.name, index, partitionBytes: this.partitionBytes },
      ...{ members: this.#members, log: this.#options.log },
      onMemberError: (member, error) => this.#lose(member, error),
      onClosed: (lu) => void this.#open.delete(lu),
    });
  }

  async #opened(lu: PartitionLu, begin: (lu: PartitionLu) => Promise<void>): Promise<PartitionLu> {
    this.#open.add(lu);
    try {
      await begin(lu);
      return lu;
    } catch (error) {
      this.#open.delete(lu);
      throw error;
    }
  }

  /** Once for each member: the device is let go, and every partition goes on without its copy. */
  #lose(member: SharedMember, error: unknown): void {
    const { device } = member;
    if (device === null) return;
    const gone = isStorageError(error, "ENXIO");
    Object.assign(member, { device: null, state: gone ? "missing" : "failed", reason: messageOf(error) });
    device.close().catch((cause: unknown) => {
      this.#options.log.warn({ device: device.name, error: messageOf(cause) }, "a lost member was not closed cleanly");
    });
    this.#emit("member-lost", member, { path: device.name, reason: messageOf(error), gone });
    for (const lu of this.#open) void lu.memberLost(member.slot);
  }

  async #probe(member: SharedMember): Promise<void> {
    const { device } = member;
    if (device === null) return;
    await device.read(Buffer.alloc(PARTITION_HEADER.end), partitionStart(0, this.partitionBytes)).catch((error) => {
      if (isStorageError(error, "ENXIO") && member.device === device) this.#lose(member, error);
    });
  }

  async #describePartition(node: string, partition: number): Promise<PartitionDescription> {
    const start = partitionStart(partition, this.partitionBytes);
    const headers = await Promise.all(
      this.#members.map(({ device, slot }) =>
        device === null
          ? null
          : readHeaderPair(device, start, { groupUuid: this.uuid, partition, copy: slot }).catch(() => null),
      ),
    );
    const { newest, current, generation, epoch } = standingOf(headers);
    const numberOf = (slot: number) => must(this.#members[slot], "a copy has a member").label.number;
    const behind = this.#members.map(({ slot }) => slot).filter((slot) => !current.includes(slot));
    return {
      ...{
        node,
        writer: newest?.writer ?? "",
        closed: newest?.closed ?? false,
        generation,
        epoch,
        sizeBytes: this.partitionBytes - PARTITION.lu,
      },
      ...{ current: current.map(numberOf), behind: behind.map(numberOf) },
    };
  }

  #emit(kind: SharedGroupEvent["kind"], { label }: SharedMember, detail: Readonly<Record<string, unknown>>): void {
    this.#options.onEvent?.({ kind, group: this.name, disk: label.number, detail });
  }
}

async function readMember(disk: LabelledDisk): Promise<FoundMember | null> {
  const label = await readLabel(disk.device).catch((error: unknown) => {
    if (isStorageError(error)) return null;
    throw error;
  });
  return label?.group === undefined ? null : { disk, label, record: label.group };
}

function refuseMixture(found: readonly FoundMember[]): void {
  const first = must(found[0], "some disk was found");
  for (const { disk, record } of found) {
    if (record.shared !== true) {
      throw new StorageError("EINVAL", `group "${record.name}" is a RAID group, not a shared group`, {
        uuid: record.uuid,
      });
    }
    if (record.uuid === first.record.uuid) continue;
    throw new StorageError("EINVAL", `${disk.device.name} is a disk of another shared group`, { uuid: record.uuid });
  }
  if (new Set(found.map(({ label }) => label.uuid)).size === found.length) return;
  throw new StorageError("EEXIST", `two disks of group "${first.record.name}" are copies of one disk: remove one`);
}
