import type { BlockDevice } from "../device/device.js";
import { openFileDevice } from "../device/file-device.js";
import { refuseForeign } from "../device/identify.js";
import { createSharedGroup, SHARED_GROUP_NAMES, SharedGroup, type SharedRole } from "../ha/shared/group.js";
import { StorageError } from "../lib/errors.js";
import type { Logger } from "../lib/log.js";
import type { Random } from "../lib/prng.js";
import type { LabelledDisk } from "../raid/contract.js";
import { initDisk, type Label, labelledDisk, readLabel } from "../raid/label-io.js";

/** What the terminal does on the disks by itself, with the same code as a node. */
export interface TerminalDisks {
  readonly log: Logger;
  readonly random: Random;
  readonly directIo: boolean;
  /** Stands in for openFileDevice in tests. */
  readonly open?: typeof openFileDevice;
}

/** Shared groups as the labels say, by path; null: no label, or in no group. */
export interface FoundGroup {
  readonly name: string;
  readonly uuid: string;
  readonly nodes: readonly string[];
  readonly memberCount: number;
}

/**
 * Make the shared group of a role of these disks, without a path for any node. What an interrupted attempt has left (labels without a group) is gone
 * on with; a group that is whole stays as it is.
 * @param firstNumber  number of the first disk; the others follow
 * @returns what was done, for people
 * @throws StorageError EBUSY (in use), EEXIST (other data, another group), ENOSPC, ENXIO, EIO
 */
export async function initialiseGroup(
  terminal: TerminalDisks,
  role: SharedRole,
  places: readonly string[],
  firstNumber: number,
): Promise<string> {
  const name = SHARED_GROUP_NAMES[role];
  if (await isWhole(terminal, name, places)) return `group ${name} was there already`;
  return withDisks(terminal, places, "read-write-exclusive", async (devices) => {
    const labels: (Label | null)[] = [];
    // In their order, so that of several that are refused it is always the first that is named.
    for (const device of devices) labels.push(await usableLabel(device, name));
    await undoPart(devices, labels);
    const disks: LabelledDisk[] = [];
    for (const [i, device] of devices.entries()) {
      disks.push(await initDisk(device, { number: firstNumber + i, force: true, random: terminal.random }));
    }
    await createSharedGroup(disks, { role, nodes: [], random: terminal.random, mayChange: () => {} });
    const numbers = disks.map(({ number }) => `#${String(number).padStart(3, "0")}`).join(" ");
    return `group ${name} made of disks ${numbers}`;
  });
}

/** Before anything is written: a disk must be free, or ours from an attempt before. */
async function usableLabel(device: BlockDevice, name: string): Promise<Label | null> {
  const label = await readLabel(device);
  if (label === null) {
    await refuseForeign(device);
    return null;
  }
  const { group } = label;
  if (group === undefined || (group.shared === true && group.name === name && group.nodes.length === 0)) return label;
  throw new StorageError("EEXIST", `disk ${device.name} belongs to group "${group.name}" already`, {
    device: device.name,
  });
}

/** Labels of a group are written one after another: some disks may name the group, and the others not yet. No node has a path to it, so nothing is lost. */
async function undoPart(devices: readonly BlockDevice[], labels: readonly (Label | null)[]): Promise<void> {
  const ours = new Set(devices.map(({ name }) => name));
  for (const label of labels) {
    const stranger = label?.group?.members.find(({ path }) => !ours.has(path));
    if (stranger === undefined) continue;
    throw new StorageError(
      "EEXIST",
      `group "${label?.group?.name}" has disk ${stranger.path}, which the plan does not name for it`,
    );
  }
}

async function isWhole(terminal: TerminalDisks, name: string, places: readonly string[]): Promise<boolean> {
  const groups = await surveyDisks(terminal, places);
  const first = groups[0];
  if (first == null || first.name !== name || first.memberCount !== places.length) return false;
  return groups.every((group) => group?.uuid === first.uuid);
}

/** What the labels say of each disk, read without a lock. @throws StorageError ENXIO, EACCES, EIO */
export function surveyDisks(terminal: TerminalDisks, places: readonly string[]): Promise<(FoundGroup | null)[]> {
  return withDisks(terminal, places, "read-only", (devices) =>
    Promise.all(
      devices.map(async (device) => {
        const group = (await readLabel(device))?.group;
        if (group === undefined) return null;
        return { name: group.name, uuid: group.uuid, nodes: group.nodes, memberCount: group.members.length };
      }),
    ),
  );
}

/**
 * Write on every label of the group which nodes may open it. Those that are named already stay.
 * @throws StorageError EBUSY (a node runs and has the disks open), ENOENT (not a shared group), EIO
 */
export async function definePaths(
  terminal: TerminalDisks,
  role: SharedRole,
  places: readonly string[],
  nodes: readonly string[],
): Promise<string> {
  const name = SHARED_GROUP_NAMES[role];
  const found = await surveyDisks(terminal, places);
  const stranger = places.find((_, i) => found[i]?.name !== name);
  if (stranger !== undefined) throw new StorageError("ENOENT", `disk ${stranger} is not in group "${name}"`);
  const wanted = [...new Set([...(found[0]?.nodes ?? []), ...nodes])].sort();
  const whose = `for ${nodes.join(" and ")}`;
  if (found.every((group) => group?.nodes.join() === wanted.join())) return `the path to ${name} was defined ${whose}`;
  await withDisks(terminal, places, "read-write-exclusive", async (devices) => {
    const labels = await Promise.all(devices.map((device) => readLabel(device)));
    const disks = devices.flatMap((device, i) => {
      const label = labels[i];
      return label == null ? [] : [labelledDisk(device, label)];
    });
    const { group } = await SharedGroup.open(disks, { log: terminal.log });
    await group.setNodes(wanted, () => {});
    await group.close();
  });
  return `path to ${name} defined ${whose}`;
}

/** @throws StorageError EACCES naming the node and the group to which it has no path */
export async function refuseWithoutPath(
  terminal: TerminalDisks,
  node: string,
  groups: Readonly<Record<SharedRole, readonly string[]>>,
): Promise<void> {
  for (const role of ["primary", "backup"] as const) {
    const found = await surveyDisks(terminal, groups[role]);
    if (found.every((group) => group?.nodes.includes(node))) continue;
    throw new StorageError(
      "EACCES",
      `node ${node} has no path to group "${SHARED_GROUP_NAMES[role]}": define it first`,
      { node },
    );
  }
}

async function withDisks<T>(
  { log, directIo, open = openFileDevice }: TerminalDisks,
  places: readonly string[],
  mode: "read-only" | "read-write-exclusive",
  action: (devices: readonly BlockDevice[]) => Promise<T>,
): Promise<T> {
  const devices: BlockDevice[] = [];
  try {
    for (const place of places)
      devices.push(await open(place, { mode, log, ...(mode === "read-only" ? {} : { direct: directIo }) }));
    return await action(devices);
  } finally {
    await Promise.all(devices.map((device) => device.close()));
  }
}
