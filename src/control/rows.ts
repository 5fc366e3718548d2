import type { DiskDescription, Group } from "../raid/contract.js";
import type { DiskShelf } from "./disk-shelf.js";
import type { DiskRow, GroupRow, LuRow } from "./types.js";

/** The tables of the management API, made from what the groups describe. */

export function groupRow(group: Group): GroupRow {
  const described = group.describe();
  const rowRawBytes = described.rowBytes * described.disks.length;
  return {
    name: described.name,
    uuid: described.uuid,
    state: described.state,
    disks: described.disks.map(({ number }) => number),
    missingDisks: described.disks.filter(({ state }) => state !== "online").map(({ number }) => number),
    chunkBytes: described.chunkBytes,
    rawBytes: described.rowCount * rowRawBytes,
    rawFreeBytes: described.rowsFree * rowRawBytes,
    generation: described.generation,
    nodes: described.nodes,
    counters: described.state === "failed" ? null : group.counters(),
  };
}

export function luRows(group: Group): LuRow[] {
  const { name, disks, lus } = group.describe();
  return lus.map((lu) => ({
    number: lu.number,
    name: lu.name,
    group: name,
    disks: disks.map(({ number }) => number),
    sizeBytes: lu.sizeBytes,
    level: lu.level,
  }));
}

/** Members of groups, then disks in no group, by number; unlabelled ones last. */
export function diskRows(groups: readonly Group[], shelf: DiskShelf): DiskRow[] {
  const rows = [...groups.flatMap(memberRows), ...looseRows(groups, shelf), ...unlabelledRows(shelf)];
  return rows.sort((a, b) => (a.number ?? Number.MAX_VALUE) - (b.number ?? Number.MAX_VALUE));
}

function memberRows(group: Group): DiskRow[] {
  const { disks, lus, name } = group.describe();
  const levels = [...new Set(lus.map(({ level }) => level))].sort();
  return disks.map((disk) => memberRow(disk, name, levels));
}

function memberRow(disk: DiskDescription, group: string, levels: readonly (1 | 5)[]): DiskRow {
  return {
    number: disk.number,
    path: disk.path,
    sizeBytes: disk.sizeBytes,
    levels,
    state: disk.state,
    group,
    reason: disk.reason ?? null,
  };
}

/** A loose disk that names a group was away while the group went on, or its group cannot be assembled. */
function looseRows(groups: readonly Group[], shelf: DiskShelf): DiskRow[] {
  const members = new Set(groups.flatMap((group) => group.describe().disks.map(({ uuid }) => uuid)));
  return shelf
    .labelled()
    .filter(({ uuid }) => !members.has(uuid))
    .map(({ device, number, groupUuid }) => ({
      number,
      path: device.name,
      sizeBytes: device.sizeBytes,
      levels: [],
      state: groupUuid === undefined ? ("unused" as const) : ("stale" as const),
      group: null,
      reason: groupUuid === undefined ? null : `its group ${groupUuid} is not assembled`,
    }));
}

function unlabelledRows(shelf: DiskShelf): DiskRow[] {
  return shelf.unlabelled().map((device) => ({
    number: null,
    path: device.name,
    sizeBytes: device.sizeBytes,
    levels: [],
    state: "unlabelled" as const,
    group: null,
    reason: "never added: disk add",
  }));
}
