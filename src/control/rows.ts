import type { BlockDevice } from "../device/device.js";
import type { LuDescription } from "../lu/lu.js";
import type { DiskDescription, DiskErrors, Group, LabelledDisk } from "../raid/contract.js";
import { copyText } from "./disk-returner.js";
import type { DiskShelf } from "./disk-shelf.js";
import { type DiskStanding, standingOf } from "./disk-standing.js";
import type { GroupRoster } from "./group-roster.js";
import type { DiskRow, GroupRow, LuRow } from "./types.js";

/** The tables of the management API, made from what the groups describe. */

const NO_ERRORS: DiskErrors = { read: 0, write: 0, checksum: 0, repaired: 0 };

export function groupRow(group: Group): GroupRow {
  const described = group.describe();
  const rowRawBytes = described.rowBytes * described.disks.length;
  return {
    name: described.name,
    uuid: described.uuid,
    state: described.state,
    disks: described.disks.map(({ number }) => number),
    missingDisks: described.disks.filter(({ state }) => state !== "online").map(({ number }) => number),
    lostBlocks: described.lostBlocks,
    unreadable: described.unreadable,
    chunkBytes: described.chunkBytes,
    rawBytes: described.rowCount * rowRawBytes,
    rawFreeBytes: described.rowsFree * rowRawBytes,
    generation: described.generation,
    nodes: described.nodes,
    counters: described.state === "failed" ? null : group.counters(),
    scrub: described.scrub,
    tasks: described.tasks,
  };
}

export function luRows(group: Group): LuRow[] {
  return group.describe().lus.map((lu) => luRow(group, lu));
}

/** Also of an LU that has just been deleted. */
export function luRow(group: Group, { number, name, width, sizeBytes, level }: LuDescription): LuRow {
  const { name: groupName, disks } = group.describe();
  const numbers = disks.slice(0, width).map((disk) => disk.number);
  return { number, name, group: groupName, disks: numbers, sizeBytes, level };
}

export interface DiskSources {
  readonly shelf: DiskShelf;
  readonly groups: GroupRoster;
  /** Why a disk on the shelf was not taken back by its group. */
  readonly refusalOf: (disk: LabelledDisk) => string | undefined;
}

/** Members of groups, then disks in no group, by number; unlabelled ones last. */
export function diskRows(sources: DiskSources): DiskRow[] {
  const rows = [
    ...memberRows(sources),
    ...looseRows(sources),
    ...partnerRows(sources),
    ...unlabelledRows(sources.shelf),
  ];
  return rows.sort((a, b) => (a.number ?? Number.MAX_VALUE) - (b.number ?? Number.MAX_VALUE));
}

function memberRows({ groups, shelf, refusalOf }: DiskSources): DiskRow[] {
  return groups.all().flatMap((group) => {
    const { uuid, disks, lus, name } = group.describe();
    const refusals = new Map(shelf.ofGroup(uuid).map((disk) => [disk.uuid, refusalOf(disk)]));
    return disks.map((disk, slot) => {
      const levels = [...new Set(lus.filter(({ width }) => slot < width).map(({ level }) => level))].sort();
      const isUsed = disk.state === "online" || disk.state === "rebuilding";
      return memberRow(disk, name, levels, isUsed ? undefined : refusals.get(disk.uuid));
    });
  });
}

function memberRow(
  disk: DiskDescription,
  group: string,
  levels: readonly (1 | 5)[],
  refusal: string | undefined,
): DiskRow {
  const { number, path, sizeBytes, state, errors = NO_ERRORS, slow = false } = disk;
  return { number, path, sizeBytes, levels, state, group, reason: refusal ?? disk.reason ?? null, errors, slow };
}

/** Those whose row is not a member's: in no group, or with a label that counts no more. */
function looseRows({ shelf, groups }: DiskSources): DiskRow[] {
  return shelf.labelled().flatMap((disk) => {
    const standing = standingOf(disk, groups);
    if (standing.kind === "member" || (standing.kind === "unassembled" && isListed(disk, groups))) return [];
    const { number, device } = disk;
    const [state, reason] = looseState(disk, standing);
    return [{ ...bareRow(device, number), state, reason }];
  });
}

/** What the partner has taken; a group that has come here since lists its members itself. */
function partnerRows({ shelf, groups }: DiskSources): DiskRow[] {
  return shelf.elsewhere().flatMap(({ number, path, sizeBytes, group }) => {
    if (group !== null && groups.has(group.uuid)) return [];
    const row = { number, path, sizeBytes, levels: [], state: "partner" as const, group: group?.name ?? null };
    return [{ ...row, reason: null, errors: NO_ERRORS, slow: false }];
  });
}

function isListed({ uuid, groupUuid }: LabelledDisk, groups: GroupRoster): boolean {
  const group = groupUuid === undefined ? undefined : groups.get(groupUuid);
  return group?.describe().disks.some((member) => member.uuid === uuid) ?? false;
}

function looseState(disk: LabelledDisk, standing: DiskStanding): [DiskRow["state"], string | null] {
  switch (standing.kind) {
    case "loose":
      return [disk.spare === true ? "spare" : "unused", null];
    case "copy":
    case "member":
      return ["stale", copyText(disk, standing.member)];
    case "replaced":
      return ["stale", `its place in group ${standing.described.name} was given to another disk`];
    case "unassembled":
      return ["stale", `its group ${standing.groupName} is not assembled`];
  }
}

function unlabelledRows(shelf: DiskShelf): DiskRow[] {
  return shelf
    .unlabelled()
    .map((device) => ({ ...bareRow(device, null), state: "unlabelled" as const, reason: "never added: disk add" }));
}

function bareRow({ name, sizeBytes }: BlockDevice, number: number | null) {
  return { number, path: name, sizeBytes, levels: [], group: null, errors: NO_ERRORS, slow: false };
}
