import type { BlockDevice } from "../device/device.js";
import { isStorageError, StorageError } from "../lib/errors.js";
import type { Random } from "../lib/prng.js";
import { formatSize } from "../lib/size.js";
import type { LabelledDisk } from "./contract.js";
import { getU64, newUuid } from "./fields.js";
import { type DiskLabel, LABEL } from "./label.js";
import { decodeLabel, encodeLabel, hasLabelMagic } from "./label-codec.js";
import { LABEL_END_BYTES, LAYOUT } from "./layout.js";
import { DISK_BYTES_MIN } from "./limits.js";

/** The best label of a disk, and what is wrong with the others. */
export interface Label extends DiskLabel {
  /** The end of the disk that holds no readable label; it is written again with the next change. */
  readonly badEnd?: "start" | "end";
}

function endStart(device: BlockDevice): number {
  return device.sizeBytes - LABEL_END_BYTES;
}

/** Both slots of one end; null when the device cannot read them. */
async function readEnd(device: BlockDevice, at: number): Promise<Buffer | null> {
  const slots = Buffer.alloc(LABEL_END_BYTES);
  try {
    await device.read(slots, at);
    return slots;
  } catch (error) {
    if (isStorageError(error, "ENXIO")) throw error;
    return null;
  }
}

function bestOf(slots: Buffer | null): DiskLabel | null {
  if (slots === null) return null;
  const [first, second] = [slots.subarray(0, LABEL.end), slots.subarray(LABEL.end)];
  // A label is long: the older one is looked at only when the newer is not sound.
  const [probable, other] = claimedSequence(second) > claimedSequence(first) ? [second, first] : [first, second];
  return decodeLabel(probable) ?? decodeLabel(other);
}

/** Nothing of it is proven. */
function claimedSequence(slot: Buffer): number {
  return getU64(slot, LABEL.sequence) || 0;
}

function newer(a: DiskLabel | null, b: DiskLabel | null): DiskLabel | null {
  if (a === null || b === null) return a ?? b;
  return b.sequence > a.sequence ? b : a;
}

/**
 * The newest sound label of the four slots; null when the disk carries none.
 * @throws StorageError EIO when slots of ours are there but none is sound, or neither end can be read; ENXIO when the device is gone
 */
export async function readLabel(device: BlockDevice): Promise<Label | null> {
  if (device.sizeBytes < DISK_BYTES_MIN) return null;
  const [start, end] = await Promise.all([readEnd(device, LAYOUT.labelSlot0), readEnd(device, endStart(device))]);
  const atStart = bestOf(start);
  const same = start !== null && end !== null && start.equals(end);
  const atEnd = same ? atStart : bestOf(end);
  const best = newer(atStart, atEnd);
  if (best !== null) {
    if (atStart === null) return { ...best, badEnd: "start" };
    return atEnd === null ? { ...best, badEnd: "end" } : best;
  }
  if (start === null && end === null)
    throw new StorageError("EIO", `${device.name}: no label can be read`, { device: device.name });
  if (carriesMagic(start) || carriesMagic(end)) {
    throw new StorageError("EIO", `${device.name}: carries labels, but all are damaged`, { device: device.name });
  }
  return null;
}

function carriesMagic(slots: Buffer | null): boolean {
  return slots !== null && (hasLabelMagic(slots) || hasLabelMagic(slots.subarray(LABEL.end)));
}

/** Write a label into its slot (sequence mod 2) at both ends, durably. The other slot stays whole whatever happens meanwhile. */
export async function writeLabel(device: BlockDevice, label: DiskLabel): Promise<void> {
  const slot = encodeLabel(label);
  const inEnd = (label.sequence % 2) * LABEL.end;
  await device.writeThrough([slot], LAYOUT.labelSlot0 + inEnd);
  await device.writeThrough([slot], endStart(device) + inEnd);
}

export interface InitOptions {
  /** Shown as #001; chosen by the caller, who knows which are taken. */
  readonly number: number;
  /** Take the disk although it is labelled as a member of a group. */
  readonly force?: boolean;
  /** To be taken by itself when a member of a group is lost. */
  readonly spare?: boolean | undefined;
  /** Where the UUID comes from. */
  readonly random?: Random;
}

async function refuseMember(device: BlockDevice): Promise<void> {
  const old = await readLabel(device).catch((error: unknown) => {
    if (isStorageError(error, "EIO")) return null;
    throw error;
  });
  if (old?.group === undefined) return;
  throw new StorageError("EEXIST", `${device.name}: is disk #${old.number} of group "${old.group.name}"`, {
    device: device.name,
    group: old.group.uuid,
  });
}

/** Randomness for people's use: the system's. Tests and the simulator pass their own. */
const SYSTEM_RANDOM: Pick<Random, "fill"> = {
  fill: (target) => void crypto.getRandomValues(target),
};

/**
 * Label a disk as ours and unused; whatever lay in the label areas, the reserved area, the bitmap and the journal's head is gone.
 * The caller has made sure that it carries nobody else's data.
 * @throws StorageError ENOSPC when it is too small; EEXIST when it belongs to a group and `force` is not given; EROFS
 */
export async function initDisk(device: BlockDevice, options: InitOptions): Promise<LabelledDisk> {
  if (device.sizeBytes < DISK_BYTES_MIN) {
    const least = formatSize(DISK_BYTES_MIN);
    throw new StorageError("ENOSPC", `${device.name}: ${formatSize(device.sizeBytes)} is too small, ${least} at least`);
  }
  if (options.force !== true) await refuseMember(device);
  await clearAreas(device);
  const uuid = newUuid((options.random ?? SYSTEM_RANDOM) as Random);
  const label: DiskLabel = {
    ...{ uuid, number: options.number, sequence: 1, sizeBytes: device.sizeBytes, slot: 0 },
    ...(options.spare === true ? { spare: true } : {}),
  };
  await writeLabel(device, label);
  return labelledDisk(device, label);
}

async function clearAreas(device: BlockDevice): Promise<void> {
  await device.write(Buffer.alloc(LAYOUT.journal), 0);
  await device.write(Buffer.alloc(LABEL_END_BYTES), endStart(device));
  await device.flush();
}

/** Take our labels off a disk: afterwards `readLabel` finds nothing. What lies between is left as it is. */
export async function wipeDisk(device: BlockDevice): Promise<void> {
  await clearAreas(device);
}

/** What `assembleGroup` and `createGroup` take, from a device and its label. */
export function labelledDisk(device: BlockDevice, label: DiskLabel): LabelledDisk {
  const disk = { device, uuid: label.uuid, number: label.number };
  if (label.group !== undefined) {
    const { uuid: groupUuid, name: groupName, shared } = label.group;
    return { ...disk, groupUuid, groupName, ...(shared === true ? { shared } : {}) };
  }
  return label.spare === true ? { ...disk, spare: true } : disk;
}
