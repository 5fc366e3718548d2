import path from "node:path";
import type { TestContext } from "node:test";
import { Cabinet } from "../../../src/control/cabinet.js";
import type { DiskSharing } from "../../../src/control/disk-shelf.js";
import { EventLog } from "../../../src/control/event-log.js";
import type { StorageLayers } from "../../../src/control/layers.js";
import type { BlockDevice } from "../../../src/device/device.js";
import { MemoryDevice } from "../../../src/device/memory-device.js";
import { createSharedGroup, SharedGroup } from "../../../src/ha/shared/group.js";
import { MirroredNodeRecords } from "../../../src/ha/shared/mirrored-records.js";
import { readNodeRecords } from "../../../src/ha/shared/read-records.js";
import { SystemClock } from "../../../src/lib/clock.js";
import { StorageError } from "../../../src/lib/errors.js";
import { SILENT } from "../../../src/lib/log.js";
import { SeededRandom } from "../../../src/lib/prng.js";
import { MIB } from "../../../src/lib/units.js";
import { initDisk, labelledDisk, readLabel } from "../../../src/raid/label-io.js";
import { scratchFolder } from "../../support/shared-rig.js";
import { FakeWorld, fakeLayers } from "./fake-layers.js";

type Lock = "exclusive" | "shared";

/** Disks whose bytes count: real labels and shared groups on disks in memory, with locks as flock(2) gives them. The rest is played. */
export class SharedWorld {
  readonly fake: FakeWorld;
  readonly devices = new Map<string, MemoryDevice>();
  readonly locks = new Map<string, Lock[]>();
  readonly folder: string;
  readonly random = new SeededRandom(11);

  constructor(count: number) {
    this.folder = scratchFolder();
    this.fake = new FakeWorld(count);
    for (const name of this.fake.present) {
      this.devices.set(name, new MemoryDevice({ name, sizeBytes: 32 * MIB, random: this.random }));
    }
  }

  layers(): StorageLayers {
    const { random } = this;
    const common = { clock: new SystemClock(), log: SILENT, scratchDir: this.folder };
    return {
      ...fakeLayers(this.fake),
      openDevice: async (place) => this.#open(place, "exclusive"),
      openShared: async (place) => this.#open(place, "shared"),
      openReadOnly: async (place) => this.#open(place, null),
      // Disks keep their size here.
      sizeOf: async () => null,
      surveyDisk: async (place) => {
        const label = await readLabel(this.#open(place, null)).catch(() => null);
        if (label === null) return null;
        const { number, sizeBytes, group } = label;
        if (group === undefined) return { path: place, number, sizeBytes, group: null };
        const { uuid, name, nodes, members, ownerEpoch, shared = false } = group;
        const surveyed = { uuid, name, nodes, memberCount: members.length, ownerEpoch, shared };
        return { path: place, number, sizeBytes, group: surveyed };
      },
      readLabel: async (device) => {
        const label = await readLabel(device);
        return label === null ? null : labelledDisk(device, label);
      },
      initDisk: (device, label) => initDisk(device, { ...label, random }),
      shared: {
        create: async (disks, wanted) => void (await createSharedGroup(disks, { ...wanted, random })),
        open: (disks, onEvent) => SharedGroup.open(disks, { log: SILENT, onEvent }),
        openRecords: (options) => MirroredNodeRecords.open({ ...options, ...common, random }),
        readRecords: (partition) => readNodeRecords(partition, common),
      },
    };
  }

  /** One node's view of the disks. */
  async cabinet(
    t: TestContext,
    mayChangeShared?: () => void,
    sharing?: DiskSharing,
  ): Promise<{ cabinet: Cabinet; events: EventLog }> {
    const events = new EventLog(this.fake.clock, SILENT);
    const cabinet = new Cabinet({
      ...{ node: "chn1", layers: this.layers(), clock: this.fake.clock, events, exports: this.fake.exports },
      ...{ diskPatterns: [...this.fake.present], knownDisksFile: path.join(this.folder, "known.json") },
      ...{ care: { spareDelaySeconds: 30, diskScanSeconds: 10 }, mayChangeShared, sharing },
    });
    t.after(() => cabinet.close());
    await cabinet.open();
    return { cabinet, events };
  }

  async labelAll(cabinet: Cabinet): Promise<void> {
    for (const place of this.fake.present) await cabinet.diskAdmin.add({ path: place });
  }

  /** A handle of its own: closing it leaves the disk as it is for the others. */
  #open(place: string, lock: Lock | null): BlockDevice {
    const device = this.devices.get(place);
    if (device === undefined || !this.fake.present.has(place)) throw new StorageError("ENXIO", `${place} is not there`);
    const held = this.locks.get(place) ?? [];
    if (lock === "exclusive" && held.length > 0)
      throw new StorageError("EBUSY", `disk ${place} is in use by process 1`, { pid: 1 });
    if (lock === "shared" && held.includes("exclusive")) throw new StorageError("EBUSY", `disk ${place} is in use`);
    if (lock !== null) this.locks.set(place, [...held, lock]);
    let open = true;
    const close = async () => {
      if (!open || lock === null) return;
      open = false;
      const now = [...(this.locks.get(place) ?? [])];
      now.splice(now.indexOf(lock), 1);
      this.locks.set(place, now);
    };
    return new Proxy(device, {
      get: (target, key) => {
        if (key === "close") return close;
        const value = Reflect.get(target, key, target) as unknown;
        return typeof value === "function" ? (value as (...args: unknown[]) => unknown).bind(target) : value;
      },
    });
  }
}
