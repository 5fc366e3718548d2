import type {
  ExportSink,
  FileSystemEvent,
  FileSystemLus,
  NewGroup,
  ServedFileSystem,
  StorageLayers,
  SurveyedDisk,
} from "../../../src/control/layers.js";
import type { ExportRow } from "../../../src/control/types.js";
import type { BlockDevice } from "../../../src/device/device.js";
import type { FileSystem } from "../../../src/fs/vfs.js";
import { StorageError } from "../../../src/lib/errors.js";
import { MIB } from "../../../src/lib/units.js";
import type { BlockInspector, Group, GroupEvent, LabelledDisk } from "../../../src/raid/contract.js";
import { NO_SCRUB } from "../../../src/raid/label.js";
import { HandClock } from "../../support/hand-clock.js";
import { memoryLocks } from "../../support/memory-locks.js";
import { FakeGroup, type FakeRecord } from "./fake-group.js";

const DISK_BYTES = 1024 * MIB;
export const ROW_BYTES = 16 * MIB;
export const ROW_COUNT = 60;

/** What outlives the daemon: labels, LU tables, settings. Only administration is played; no byte of data is kept. */
export class FakeWorld {
  readonly labels = new Map<string, { uuid: string; number: number; groupUuid?: string; spare?: boolean }>();
  readonly groups = new Map<string, FakeRecord>();
  /** Of paths that differ from the usual size. */
  readonly sizes = new Map<string, number>();
  /** What a group refuses, by the line it would leave in the trace: `replace 3 7`. */
  readonly refuse = new Map<string, StorageError>();
  /** Groups of which two halves were used apart. */
  readonly split = new Set<string>();
  /** The group objects of this life, by name. */
  readonly live = new Map<string, FakeGroup>();
  readonly clock = new HandClock();
  readonly locks = memoryLocks(
    () => {},
    async () => {},
  );
  readonly settings = new Map<string, Map<string, string>>();
  readonly present = new Set<string>();
  readonly foreign = new Map<string, string>();
  readonly heldBy = new Map<string, number>();
  /** Disks whose labels are not read before this. */
  readonly slow = new Map<string, Promise<void>>();
  readonly open = new Set<string>();
  /** Groups on disks that two nodes see are this node's. */
  isOurs = true;
  readonly published = new Map<string, readonly ExportRow[]>();
  readonly trace: string[] = [];
  unserved: readonly string[] = [];
  /** No file system can be mounted: there is no room for its copy. */
  noRoom = false;
  /** Nothing can be written on what file systems stand on. */
  onlyReadable = false;
  /** File systems that have stopped: they answer EIO to everything. */
  readonly stopped = new Set<string>();
  raise: (event: FileSystemEvent) => void = () => {};
  failNextFormat = false;
  /** How often a device was opened. */
  opened = 0;
  #serial = 0;

  constructor(count: number) {
    for (let i = 1; i <= count; i++) this.present.add(`/disks/d${i}`);
  }

  uuid(): string {
    return `uuid-${++this.#serial}`;
  }

  readonly exports: ExportSink = {
    publish: (fs, rules) => void this.published.set(fs.name, rules),
    withdraw: (fs) => void this.published.delete(fs.name),
    setUnserved: (names) => {
      this.unserved = names;
    },
  };
}

function surveyFake(world: FakeWorld, path: string): SurveyedDisk | null {
  const label = world.labels.get(path);
  if (label === undefined || !world.present.has(path) || world.sizes.get(path) === SHRUNK_BYTES) return null;
  const { number, groupUuid } = label;
  const group =
    groupUuid === undefined
      ? null
      : { uuid: groupUuid, name: groupUuid, nodes: [], memberCount: 2, ownerEpoch: 1, shared: false };
  return { path, number, sizeBytes: 1, group };
}

export function fakeLayers(world: FakeWorld): StorageLayers {
  return {
    exists: (path) => world.present.has(path),
    openDevice: async (path) => openFake(world, path, true),
    openShared: async (path) => openFake(world, path, false),
    openReadOnly: async (path) => openFake(world, path, false),
    // Bytes count there: played by shared-world.ts.
    shared: { create: unplayed, open: unplayed, openRecords: unplayed, readRecords: unplayed },
    sizeOf: async (path) => (world.present.has(path) ? (world.sizes.get(path) ?? DISK_BYTES) : null),
    surveyDisk: async (path) => surveyFake(world, path),
    identify: async ({ name }) => world.foreign.get(name) ?? null,
    readLabel: async (device) => {
      await world.slow.get(device.name);
      return labelOf(world, device);
    },
    initDisk: async (device, { number, spare, force }) => {
      const old = world.labels.get(device.name);
      if (old?.groupUuid !== undefined && !force) throw new StorageError("EEXIST", "is a disk of a group");
      world.labels.set(device.name, { uuid: world.uuid(), number, ...(spare ? { spare } : {}) });
      return labelOf(world, device)!;
    },
    wipeDisk: async (device) => void world.labels.delete(device.name),
    createGroup: async (disks, options) => createFake(world, disks, options),
    assembleGroup: async (disks, onEvent, force) => assembleFake(world, disks, onEvent, force),
    describeGroup: async (disks) => new FakeGroup(world, disks[0]!.groupUuid!, disks).describe(),
    formatFileSystem: async (name) => {
      if (world.failNextFormat) throw new StorageError("EIO", "made to fail");
      world.settings.set(name, new Map());
    },
    mountFileSystem: async (lus, onEvent, readOnly) => mountFake(world, lus, onEvent, readOnly),
  };
}

function unplayed(): Promise<never> {
  return Promise.reject(new StorageError("ENOTSUP", "shared groups are not played here"));
}

/** No label can be read on so little. */
export const SHRUNK_BYTES = 4096;

function openFake(world: FakeWorld, path: string, exclusive: boolean): BlockDevice {
  world.opened++;
  if (!world.present.has(path)) throw new StorageError("ENXIO", `${path} is not there`);
  const holder = world.heldBy.get(path);
  if (exclusive && holder !== undefined) throw new StorageError("EBUSY", `${path} is in use by process ${holder}`);
  if (exclusive) world.open.add(path);
  const nothing = async () => {};
  return {
    ...{ name: path, sizeBytes: world.sizes.get(path) ?? DISK_BYTES, readOnly: !exclusive, alignmentBytes: 1 },
    ...{ read: nothing, readv: nothing, write: nothing, writev: nothing, writeThrough: nothing, flush: nothing },
    close: async () => void (exclusive && world.open.delete(path)),
  };
}

function labelOf(world: FakeWorld, device: BlockDevice): LabelledDisk | null {
  const label = world.labels.get(device.name);
  const groupName = world.groups.get(label?.groupUuid ?? "")?.name;
  return label === undefined || device.sizeBytes <= SHRUNK_BYTES
    ? null
    : { device, ...label, ...(groupName === undefined ? {} : { groupName }) };
}

function createFake(world: FakeWorld, disks: readonly LabelledDisk[], { name, onEvent }: NewGroup): Group {
  const groupUuid = world.uuid();
  const members = disks.map(({ uuid, number, device }) => {
    world.labels.set(device.name, { uuid, number, groupUuid });
    return { uuid, number, path: device.name, sizeBytes: device.sizeBytes, state: "online" as const };
  });
  world.groups.set(groupUuid, { name, members, lus: [], scrub: NO_SCRUB });
  return new FakeGroup(world, groupUuid, disks, onEvent);
}

function assembleFake(
  world: FakeWorld,
  disks: readonly LabelledDisk[],
  onEvent: (event: GroupEvent) => void,
  force: boolean,
): Group {
  const uuid = disks[0]!.groupUuid!;
  const twin = disks.find((disk, i) => disks.slice(0, i).some((other) => other.uuid === disk.uuid));
  const first = disks.find((disk) => disk.uuid === twin?.uuid);
  if (twin !== undefined) {
    throw new StorageError(
      "EEXIST",
      `${first!.device.name} and ${twin.device.name} are copies of one disk: remove one`,
    );
  }
  if (world.split.has(uuid) && !force) {
    throw new StorageError("EEXIST", "/disks/d1 and /disks/d2 were each used without the other since they parted");
  }
  const group = new FakeGroup(world, uuid, disks, onEvent);
  const { state } = group.describe();
  if (state === "failed") throw new StorageError("EIO", "two of three members are missing");
  if (state === "degraded") group.emit("degraded", { lost: 1 });
  return group;
}

function mountFake(
  world: FakeWorld,
  { dataLu }: FileSystemLus,
  onEvent: (e: FileSystemEvent) => void,
  readOnly: boolean,
): ServedFileSystem {
  const name = dataLu.description.name;
  const settings = world.settings.get(name);
  if (settings === undefined) throw new StorageError("EIO", "no file system is on the LU");
  if (world.onlyReadable && !readOnly) throw new StorageError("EIO", "the log cannot be written");
  if (world.noRoom) throw new StorageError("ENOSPC", "there is no room for the copy", { scratch: true });
  world.raise = onEvent;
  const space = { totalBytes: 100, freeBytes: 50, availableBytes: 50, totalFiles: 10, freeFiles: 5 };
  const alive = <T>(value: () => T): T => {
    if (world.stopped.has(name)) throw new StorageError("EIO", "the file system has stopped");
    return value();
  };
  return {
    // Administration looks at the name, the space and the locks only.
    fileSystem: { name, id: 1, space: () => alive(() => space), locks: world.locks } as unknown as FileSystem,
    readOnly,
    nameOf: async (ino) => alive(() => `/name of ${ino}`),
    getSetting: (key) => alive(() => settings.get(key) ?? null),
    setSetting: async (key, value) => void alive(() => settings.set(key, value)),
    check: async () => alive(() => ({ clean: true, problems: [], counts: { files: 3 } })),
    listFiles: (after) =>
      alive(() => ({
        files: [{ name: after ?? "a", headAddress: 4096, sizeBytes: 1, uid: 0, updated: "2026-01-01T00:00:00.000Z" }],
        next: after === null ? "b" : null,
      })),
    statistics: () => alive(() => ({ dirtyBytes: 12 })),
    settle: async () => alive(() => void world.trace.push(`settle file system ${name}`)),
    grow: async () => alive(() => void world.trace.push(`grow file system ${name}`)),
    snapshot: () => Promise.reject(new StorageError("ENOTSUP", "no snapshots of nothing")),
    restorer: () => {
      throw new StorageError("ENOTSUP", "nothing is restored into nothing");
    },
    isEmpty: () => true,
    // Administration only passes it on.
    inspectors: () =>
      new Map([
        [
          dataLu.description.number,
          { name, close: () => void world.trace.push("close inspector") } as unknown as BlockInspector,
        ],
      ]),
    close: async () => void world.trace.push(`close file system ${name}`),
  };
}
