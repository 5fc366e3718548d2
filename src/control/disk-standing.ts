import type { DiskDescription, LabelledDisk } from "../raid/contract.js";
import type { DescribedGroup, GroupRoster } from "./group-roster.js";

/**
 * What a disk on the shelf is to the groups.
 * loose: in no group. member: its place waits for it. copy: another device with the same label is in use. replaced: another disk has its place.
 * unassembled: its group is not served.
 */
export type DiskStanding =
  | { readonly kind: "loose" }
  | (DescribedGroup & { readonly kind: "member" | "copy"; readonly member: DiskDescription })
  | (DescribedGroup & { readonly kind: "replaced" })
  | { readonly kind: "unassembled"; readonly groupName: string };

export function standingOf(disk: LabelledDisk, groups: GroupRoster): DiskStanding {
  if (disk.groupUuid === undefined) return { kind: "loose" };
  const group = groups.get(disk.groupUuid);
  const described = group?.describe();
  if (group === undefined || described === undefined || described.state === "failed") {
    return { kind: "unassembled", groupName: described?.name ?? disk.groupName ?? disk.groupUuid };
  }
  const member = described.disks.find(({ uuid }) => uuid === disk.uuid);
  if (member === undefined) return { kind: "replaced", group, described };
  const inUse = member.state === "online" || member.state === "rebuilding";
  return { kind: inUse ? "copy" : "member", group, described, member };
}
