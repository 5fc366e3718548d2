import { mkdtempSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { MemoryDevice, type Operation } from "../../src/device/memory-device.js";
import type { Keep } from "../../src/device/memory-media.js";
import { createSharedGroup, SharedGroup, type SharedGroupEvent, type SharedRole } from "../../src/ha/shared/group.js";
import { partitionBytesFor, partitionStart } from "../../src/ha/shared/layout.js";
import type { PartitionLu, WriterOptions } from "../../src/ha/shared/partition.js";
import { SILENT } from "../../src/lib/log.js";
import { type Random, SeededRandom } from "../../src/lib/prng.js";
import { MIB } from "../../src/lib/units.js";
import type { LabelledDisk } from "../../src/raid/contract.js";
import { initDisk, labelledDisk, readLabel } from "../../src/raid/label-io.js";

export interface SharedRigOptions {
  readonly members?: number;
  readonly seed?: number;
  readonly role?: SharedRole;
  readonly diskBytes?: number;
}

/** Disks in memory that are one shared group, and as many views of it as nodes would have. */
export class SharedRig {
  readonly random: Random;
  devices: MemoryDevice[] = [];
  readonly events: SharedGroupEvent[] = [];
  /** Called before each device operation; may throw. */
  before: ((operation: Operation, disk: number, position: number) => void | Promise<void>) | null = null;
  readonly #options: SharedRigOptions;

  constructor(options: SharedRigOptions = {}) {
    this.#options = options;
    this.random = new SeededRandom(options.seed ?? 1);
  }

  get partitionBytes(): number {
    return partitionBytesFor(this.#options.diskBytes ?? 32 * MIB);
  }

  async create(): Promise<void> {
    const disks: LabelledDisk[] = [];
    for (let i = 0; i < (this.#options.members ?? 2); i++) {
      const device = new MemoryDevice({
        ...{ name: `disk${i + 1}`, sizeBytes: this.#options.diskBytes ?? 32 * MIB, random: this.random },
        before: (operation, position) => this.before?.(operation, i, position),
      });
      this.devices.push(device);
      disks.push(await initDisk(device, { number: i + 1, random: this.random }));
    }
    const role = this.#options.role ?? "primary";
    await createSharedGroup(disks, { role, random: this.random, mayChange: () => {} });
  }

  /** What one node would see of it: handles of its own on the same disks. @param slots  the disks that are there */
  async open(slots: readonly number[] = this.devices.map((_, i) => i)): Promise<SharedGroup> {
    const disks: LabelledDisk[] = [];
    for (const slot of slots) disks.push(await this.disk(slot));
    const { group } = await SharedGroup.open(disks, { log: SILENT, onEvent: (event) => this.events.push(event) });
    return group;
  }

  async disk(slot: number): Promise<LabelledDisk> {
    const device = handleOn(this.devices[slot]!);
    return labelledDisk(device, (await readLabel(device))!);
  }

  async writer(group: SharedGroup, options: Partial<WriterOptions> & { node?: string } = {}): Promise<PartitionLu> {
    const { node = "chn1", ...rest } = options;
    return group.openForWriting(node, { writer: node, epoch: 1, ...rest });
  }

  /** The power fails everywhere and returns: who had a handle has it no more. */
  crash(keep: Keep): void {
    for (const device of this.devices) device.crash({ keep });
    this.devices = this.devices.map((device) => device.reopen());
  }

  /** One copy of a partition as it is on the disk, headers left out. */
  async raw(slot: number, partition: number, byteCount: number): Promise<Buffer> {
    const bytes = Buffer.alloc(byteCount);
    await this.devices[slot]!.read(bytes, partitionStart(partition, this.partitionBytes) + 65536);
    return bytes;
  }
}

/** Closing it leaves the disk open for the others. */
function handleOn(device: MemoryDevice): MemoryDevice {
  let closed = false;
  const close = async (): Promise<void> => {
    closed = true;
  };
  return new Proxy(device, {
    get(target, key) {
      if (key === "close") return close;
      const value = Reflect.get(target, key, target) as unknown;
      if (typeof value !== "function") return value;
      return (...args: unknown[]) => {
        if (closed) return Promise.reject(new Error("a closed handle is used"));
        return (value as (...args: unknown[]) => unknown).apply(target, args);
      };
    },
  });
}

const folders: string[] = [];
process.once("exit", () => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

/** A folder that is removed at the very end: what a test leaves running stops after its own hooks. */
export function scratchFolder(): string {
  const folder = mkdtempSync(path.join(os.tmpdir(), "stripeward-shared-"));
  folders.push(folder);
  return folder;
}
