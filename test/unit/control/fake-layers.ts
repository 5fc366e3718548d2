import type {
  ExportSink,
  FileSystemEvent,
  FileSystemLus,
  NewGroup,
  ServedFileSystem,
  StorageLayers,
} from "../../../src/control/layers.js";
import type { ExportRow } from "../../../src/control/types.js";
import type { BlockDevice } from "../../../src/device/device.js";
import type { FileSystem } from "../../../src/fs/vfs.js";
import { StorageError } from "../../../src/lib/errors.js";
import { MIB } from "../../../src/lib/units.js";
import type { LogicalUnit, LuDescription } from "../../../src/lu/lu.js";
import type {
  Group,
  GroupDescription,
  GroupState,
  LabelledDisk,
  ScrubOptions,
  TaskKind,
} from "../../../src/raid/contract.js";
import { NO_SCRUB } from "../../../src/raid/label.js";

const DISK_BYTES = 1024 * MIB;
const ROW_BYTES = 16 * MIB;

/** What outlives the daemon: labels, LU tables, settings. Only administration is played; no byte of data is kept. */
export class FakeWorld {
  readonly labels = new Map<string, { uuid: string; number: number; groupUuid?: string }>();
  readonly groups = new Map<string, { name: string; members: string[]; lus: LuDescription[] }>();
  readonly settings = new Map<string, Map<string, string>>();
  readonly present = new Set<string>();
  readonly foreign = new Map<string, string>();
  readonly heldBy = new Map<string, number>();
  readonly open = new Set<string>();
  readonly published = new Map<string, readonly ExportRow[]>();
  readonly trace: string[] = [];
  raise: (event: FileSystemEvent) => void = () => {};
  failNextFormat = false;
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
  };
}

export function fakeLayers(world: FakeWorld): StorageLayers {
  return {
    openDevice: async (path) => openFake(world, path, true),
    openReadOnly: async (path) => openFake(world, path, false),
    identify: async ({ name }) => world.foreign.get(name) ?? null,
    readLabel: async (device) => labelOf(world, device),
    initDisk: async (device, number) => {
      world.labels.set(device.name, { uuid: world.uuid(), number });
      return labelOf(world, device)!;
    },
    createGroup: async (disks, options) => createFake(world, disks, options),
    assembleGroup: async (disks) => {
      const group = new FakeGroup(world, disks[0]!.groupUuid!, disks);
      if (group.describe().state === "failed") throw new StorageError("EIO", "two of three members are missing");
      return group;
    },
    describeGroup: async (disks) => new FakeGroup(world, disks[0]!.groupUuid!, disks).describe(),
    formatFileSystem: async (name) => {
      if (world.failNextFormat) throw new StorageError("EIO", "made to fail");
      world.settings.set(name, new Map());
    },
    mountFileSystem: async (lus, onEvent) => mountFake(world, lus, onEvent),
  };
}

function openFake(world: FakeWorld, path: string, exclusive: boolean): BlockDevice {
  if (!world.present.has(path)) throw new StorageError("ENXIO", `${path} is not there`);
  const holder = world.heldBy.get(path);
  if (exclusive && holder !== undefined) throw new StorageError("EBUSY", `${path} is in use by process ${holder}`);
  if (exclusive) world.open.add(path);
  const nothing = async () => {};
  return {
    ...{ name: path, sizeBytes: DISK_BYTES, readOnly: !exclusive, alignmentBytes: 1 },
    ...{ read: nothing, readv: nothing, write: nothing, writev: nothing, writeThrough: nothing, flush: nothing },
    close: async () => void (exclusive && world.open.delete(path)),
  };
}

function labelOf(world: FakeWorld, device: BlockDevice): LabelledDisk | null {
  const label = world.labels.get(device.name);
  return label === undefined ? null : { device, ...label };
}

function createFake(world: FakeWorld, disks: readonly LabelledDisk[], { name }: NewGroup): Group {
  const groupUuid = world.uuid();
  for (const disk of disks) {
    world.labels.set(disk.device.name, { uuid: disk.uuid, number: disk.number, groupUuid });
  }
  world.groups.set(groupUuid, { name, members: disks.map(({ device }) => device.name), lus: [] });
  return new FakeGroup(world, groupUuid, disks);
}

/** Degraded with one member missing, failed with two. */
class FakeGroup implements Group {
  constructor(
    private readonly world: FakeWorld,
    private readonly uuid: string,
    private readonly disks: readonly LabelledDisk[],
  ) {}

  get #record() {
    return this.world.groups.get(this.uuid)!;
  }

  describe(): GroupDescription {
    const { name, members, lus } = this.#record;
    const missing = members.length - this.disks.length;
    const state: GroupState = missing === 0 ? "clean" : missing === 1 ? "degraded" : "failed";
    const usedRows = lus.reduce((sum, { sizeBytes }) => sum + sizeBytes / ROW_BYTES, 0);
    const rowCount = 60;
    return {
      ...{
        uuid: this.uuid,
        name,
        state,
        chunkBytes: 65536,
        rowBytes: ROW_BYTES,
        rowCount,
        nodes: [],
        lus,
        generation: 1,
      },
      rowsFree: rowCount - usedRows,
      scrub: NO_SCRUB,
      tasks: [],
      disks: members.map((path) => {
        const { uuid, number } = this.world.labels.get(path)!;
        const online = this.disks.some(({ device }) => device.name === path);
        return {
          number,
          uuid,
          path,
          sizeBytes: DISK_BYTES,
          state: online ? ("online" as const) : ("missing" as const),
        };
      }),
    };
  }

  counters() {
    return {
      ...{ fullStripeWrites: 7, partialStripeWrites: 0, journalRecords: 0 },
      degradedReads: 0,
      healedBlocks: 0,
      flushes: 0,
      bitmapWrites: 0,
    };
  }

  async createLu(name: string, level: 1 | 5, size: number | "max"): Promise<LuDescription> {
    const { lus } = this.#record;
    if (lus.some((lu) => lu.name === name)) throw new StorageError("EEXIST", `LU ${name} exists already`);
    const rowsFree = this.describe().rowsFree;
    const rows = size === "max" ? rowsFree : Math.ceil(size / ROW_BYTES);
    if (rows > rowsFree || rows === 0) throw new StorageError("ENOSPC", `only ${rowsFree} rows are free`);
    const lu = {
      number: lus.length + 1,
      uuid: this.world.uuid(),
      name,
      level,
      width: this.#record.members.length,
      sizeBytes: rows * ROW_BYTES,
      groupUuid: this.uuid,
    };
    lus.push(lu);
    return lu;
  }

  async deleteLu(number: number): Promise<void> {
    const { lus } = this.#record;
    lus.splice(
      lus.findIndex((lu) => lu.number === number),
      1,
    );
  }

  async #recorded(what: string, ...values: readonly unknown[]): Promise<void> {
    this.world.trace.push([what, ...values].join(" "));
  }

  async resizeLu(number: number, size: number | "max"): Promise<LuDescription> {
    const { lus } = this.#record;
    const at = lus.findIndex((lu) => lu.number === number);
    const sizeBytes = size === "max" ? lus[at]!.sizeBytes + this.describe().rowsFree * ROW_BYTES : size;
    lus[at] = { ...lus[at]!, sizeBytes };
    return lus[at]!;
  }

  failDisk = (number: number) => this.#recorded("fail", number);
  replaceDisk = (number: number, disk: LabelledDisk) => this.#recorded("replace", number, disk.number);
  returnDisk = (disk: LabelledDisk, force = false) => this.#recorded("return", disk.number, force);
  growDisk = (disk: LabelledDisk) => this.#recorded("grow", disk.number);
  scrub = ({ heal }: ScrubOptions) => this.#recorded("scrub", heal);
  scheduleScrub = (seconds: number) => this.#recorded("schedule", seconds);
  pauseTask = (kind: TaskKind) => this.#recorded("pause", kind);
  resumeTask = (kind: TaskKind) => this.#recorded("resume", kind);
  cancelTask = (kind: TaskKind) => this.#recorded("cancel", kind);

  openLu(number: number): LogicalUnit {
    const description = this.#record.lus.find((lu) => lu.number === number)!;
    const nothing = async () => {};
    async function* none() {}
    return {
      ...{ description, sizeBytes: description.sizeBytes, stripeBytes: 65536 },
      ...{ read: nothing, readv: nothing, write: nothing, writev: nothing, writeThrough: nothing, flush: nothing },
      ...{ readAlternatives: none, heal: nothing, close: nothing },
    };
  }

  async close(): Promise<void> {
    this.world.trace.push(`close group ${this.#record.name}`);
    for (const { device } of this.disks) await device.close();
  }
}

function mountFake(
  world: FakeWorld,
  { dataLu }: FileSystemLus,
  onEvent: (e: FileSystemEvent) => void,
): ServedFileSystem {
  const name = dataLu.description.name;
  const settings = world.settings.get(name);
  if (settings === undefined) throw new StorageError("EIO", "no file system is on the LU");
  world.raise = onEvent;
  const space = { totalBytes: 100, freeBytes: 50, availableBytes: 50, totalFiles: 10, freeFiles: 5 };
  return {
    // Administration looks at the name and the space only.
    fileSystem: { name, id: 1, space: () => space } as unknown as FileSystem,
    getSetting: (key) => settings.get(key) ?? null,
    setSetting: async (key, value) => void settings.set(key, value),
    check: async () => ({ clean: true, problems: [], counts: { files: 3 } }),
    listFiles: (after) => ({
      files: [{ name: after ?? "a", headAddress: 4096, sizeBytes: 1, uid: 0, updated: "2026-01-01T00:00:00.000Z" }],
      next: after === null ? "b" : null,
    }),
    inspectors: () => new Map(),
    grow: async () => void world.trace.push(`grow file system ${name}`),
    statistics: () => ({ dirtyBytes: 12 }),
    close: async () => void world.trace.push(`close file system ${name}`),
  };
}
