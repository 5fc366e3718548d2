import { StorageError } from "../lib/errors.js";
import type { LabelledDisk } from "./contract.js";
import { isAsLeft } from "./former.js";
import type { GroupRecord, LabelMember, MemberState } from "./label.js";
import { type Label, readLabel } from "./label-io.js";
import { lateOne, type Patience } from "./late-disk.js";
import { memberBytesNeeded } from "./layout.js";
import { isBehind, wentApart } from "./lineage.js";

/** A disk that was found, with what its label says of the group. */
export interface FoundDisk {
  readonly disk: LabelledDisk;
  readonly label: Label;
  readonly group: GroupRecord;
}

/** One place of the group: which disk fills it, if any, and whether it can be used. */
export interface Place {
  readonly found: FoundDisk | null;
  readonly state: MemberState;
  readonly reason?: string;
  /** The list calls it online, or rebuilding; it is stale because its own label is older than that. */
  readonly behind?: boolean;
  /** Its disk answers much later than the others: left out until it is well, and its label was not waited for. */
  readonly late?: LabelledDisk;
  /** The disk that had the place before, as it was left. */
  readonly former?: LabelledDisk | undefined;
  /** These say that they are one disk, and nothing tells which has all that was written: none is used, and whatever fills the place is written anew. */
  readonly twins?: readonly FoundDisk[];
}

export interface AssemblyPlan {
  readonly record: GroupRecord;
  /** The highest of all labels that were found. */
  readonly sequence: number;
  readonly places: readonly Place[];
  /** Copies of disks as they were earlier, which are passed over. */
  readonly passedOver: readonly { readonly number: number; readonly path: string; readonly used: string }[];
}

/** How many members a group can lose, whatever the levels of its LUs. */
export const LOSSES_MAX = 1;

/**
 * Decide from the labels alone what the group is and which disks belong to it. Order and paths of the disks do not matter.
 * The newest generation's member list is the truth: who is not online there missed writes and stays out (I-2), whatever its own label says. So does
 * who is online there and has an older label than every member had when something was last written: it was put back as it was at an earlier time.
 * Of two disks with one identity the newer one counts; when neither is newer, neither does.
 * A disk whose label comes much later than those of all others is as good as missing, and not waited for, when the group can do without it.
 * @throws StorageError EINVAL (a disk of another group), EEXIST (the same disk twice, and the group cannot do without it; halves that were both in use),
 * EIO (too few members)
 */
export async function planAssembly(
  disks: readonly LabelledDisk[],
  force: boolean,
  patience: Patience,
): Promise<AssemblyPlan> {
  const reads = disks.map(readFound);
  const late = await lateOne(reads, patience);
  const without = late === null ? null : planWithout(disks[late]!, await Promise.all(reads.toSpliced(late, 1)));
  return without ?? planFrom(found(await Promise.all(reads)), force);
}

function found(reads: readonly (FoundDisk | null)[]): FoundDisk[] {
  return reads.filter((disk) => disk !== null);
}

/**
 * With all members but one, whose label nobody has seen. Of three or more members the others know of every change that its label may tell of: it was on
 * all of them, or nothing depended on it. Of two the other may have been used alone.
 * @returns null: it has to be waited for
 */
function planWithout(late: LabelledDisk, reads: readonly (FoundDisk | null)[]): AssemblyPlan | null {
  try {
    const plan = planFrom(found(reads), false);
    const slot = plan.record.members.findIndex(({ uuid }) => uuid === late.uuid);
    const isMember = late.groupUuid === plan.record.uuid && plan.places[slot]?.state === "missing";
    if (!isMember || plan.places.length <= 2) return null;
    const reason = "its label comes much later than those of the other disks: left out until it is well";
    return { ...plan, places: plan.places.with(slot, { found: null, state: "stale", reason, late }) };
  } catch {
    return null;
  }
}

function planFrom(found: readonly FoundDisk[], force: boolean): AssemblyPlan {
  if (found.length === 0) throw new StorageError("EIO", "no disk of the group has a readable label");
  refuseShared(found);
  refuseStrangers(found);
  const { kept, older, twins } = apartFromCopies(found);
  const newest = newestOf([...kept, ...twins.flat()], force);
  const places = newest.group.members.map((_, slot) => placeFor(newest.group, slot, kept, twins));
  refuseTooFew(newest.group, places);
  const sequence = found.reduce((most, { label }) => Math.max(most, label.sequence), 0);
  return { record: newest.group, sequence, places, passedOver: older };
}

async function readFound(disk: LabelledDisk): Promise<FoundDisk | null> {
  try {
    const label = await readLabel(disk.device);
    if (label?.group === undefined) return null;
    return { disk, label, group: label.group };
  } catch {
    // Unreadable: as if it had not been found; its place says "missing".
    return null;
  }
}

/** Other nodes write to it at the same time: whoever took it for an ordinary group would destroy it. */
function refuseShared(found: readonly FoundDisk[]): void {
  const shared = found.find(({ group }) => group.shared === true);
  if (shared === undefined) return;
  const { name, uuid } = shared.group;
  throw new StorageError("EINVAL", `group "${name}" is a shared group of several nodes, not a RAID group`, { uuid });
}

function refuseStrangers(found: readonly FoundDisk[]): void {
  const first = found[0]!;
  for (const { disk, group } of found) {
    if (group.uuid === first.group.uuid) continue;
    const text = `${disk.device.name} is a disk of group "${group.name}", not of "${first.group.name}"`;
    throw new StorageError("EINVAL", text, { device: disk.device.name, group: group.uuid });
  }
}

/**
 * A clone of a disk beside the disk itself: the one that has seen more is the disk, the other is what it was once. Where each was used without the other, or where
 * both have the same label (nobody can say which of the two has what was written since), they are twins.
 */
function apartFromCopies(found: readonly FoundDisk[]) {
  const byUuid = new Map<string, FoundDisk[]>();
  for (const one of found) byUuid.set(one.label.uuid, [...(byUuid.get(one.label.uuid) ?? []), one]);
  const kept: FoundDisk[] = [];
  const twins: FoundDisk[][] = [];
  const older: { number: number; path: string; used: string }[] = [];
  for (const copies of byUuid.values()) {
    const [first, ...others] = copies.sort((a, b) => b.label.sequence - a.label.sequence);
    if (others.some((other) => !isEarlier(other, first!))) {
      twins.push(copies);
      continue;
    }
    kept.push(first!);
    const used = first!.disk.device.name;
    for (const { disk, label } of others) older.push({ number: label.number, path: disk.device.name, used });
  }
  return { kept, older, twins };
}

/** Whether `copy` is what `disk` was at an earlier time. */
function isEarlier(copy: FoundDisk, disk: FoundDisk): boolean {
  if (copy.label.sequence >= disk.label.sequence || copy.group.generation > disk.group.generation) return false;
  return !wentApart(disk.group, copy.group);
}

function excludes(by: FoundDisk, other: FoundDisk): boolean {
  return by.group.members.find((member) => member.uuid === other.label.uuid)?.state !== "online";
}

/**
 * The label to believe. Among equals the one whose holder nobody excludes; when two were each used without the other, only a person can say whose
 * writes count, however many generations each has seen since.
 */
function newestOf(found: readonly FoundDisk[], force: boolean): FoundDisk {
  const ordered = [...found].sort(
    (a, b) =>
      b.group.generation - a.group.generation || b.label.sequence - a.label.sequence || a.label.slot - b.label.slot,
  );
  const equals = ordered.filter(({ group }) => group.generation === ordered[0]!.group.generation);
  const newest = equals.find((a) => !equals.some((b) => b !== a && excludes(b, a))) ?? ordered[0]!;
  const rivals = force ? null : findRivals(newest, ordered, equals);
  if (rivals === null) return newest;
  const [a, b] = rivals.map(({ disk }) => disk.device.name);
  const text = `group "${newest.group.name}": ${a} and ${b} were each used without the other since they parted`;
  throw new StorageError("EEXIST", `${text}; remove one, or force the choice of the one written to more`, {
    generation: newest.group.generation,
  });
}

/** Two disks that were each used without the other: as their labels come from different lives, or, when they know of none, as they say. */
function findRivals(newest: FoundDisk, ordered: readonly FoundDisk[], equals: readonly FoundDisk[]) {
  const apart = ordered.find((one) => one !== newest && wentApart(newest.group, one.group));
  if (apart !== undefined) return [newest, apart];
  for (const a of equals) {
    const rival = equals.find((b) => b !== a && excludes(a, b) && excludes(b, a));
    if (rival !== undefined) return [a, rival];
  }
  return null;
}

function placeFor(
  record: GroupRecord,
  slot: number,
  found: readonly FoundDisk[],
  twins: readonly FoundDisk[][],
): Place {
  const member = record.members[slot]!;
  const copies = twins.find(([first]) => first?.label.uuid === member.uuid);
  if (copies !== undefined) {
    const reason = `${twinsText(copies)}, and the other is written anew: group rebuild --disk ${member.number} --force`;
    return { found: null, state: "failed", reason, twins: copies };
  }
  const one = found.find(({ label }) => label.uuid === member.uuid) ?? null;
  if (one === null) {
    return { found: null, state: member.state === "failed" ? "failed" : "missing", reason: "not found" };
  }
  if (one.disk.device.sizeBytes < memberBytesNeeded(record.shape)) {
    // Of a path that is not well: what was failed would stay out when it has its size again.
    const state = member.state === "failed" ? "failed" : "missing";
    return { found: one, state, reason: `the device shrank to ${one.disk.device.sizeBytes} bytes` };
  }
  // A member under rebuild got every write, too, while it was there.
  if (member.state === "online" || member.state === "rebuilding") {
    if (wentApart(record, one.group)) return { found: one, state: "stale", reason: "was used without the others" };
    if (!isPutBack(member, one.group, record))
      return { found: one, state: member.state, former: formerOf(member, found) };
    return { found: one, state: "stale", behind: true, reason: putBackText(one.group, record) };
  }
  if (member.state === "failed") return { found: one, state: "failed", reason: "gave errors earlier" };
  return { found: one, state: "stale", reason: "missed writes while it was away" };
}

/** One that was used since, or of which there are two, is not believed. */
function formerOf({ former }: LabelMember, found: readonly FoundDisk[]): LabelledDisk | undefined {
  if (former === null) return undefined;
  return found.find(({ label }) => label.uuid === former.uuid && isAsLeft(former.labels, label))?.disk;
}

function twinsText(copies: readonly FoundDisk[]): string {
  const names = copies.map(({ disk }) => disk.device.name).join(" and ");
  return `${names} are copies of one disk (#${copies[0]!.label.number}): remove one`;
}

/** Who is to be believed calls the member whole, and its own label is older than that. */
export function isPutBack({ state }: LabelMember, own: GroupRecord, newest: GroupRecord): boolean {
  return (state === "online" || state === "rebuilding") && isBehind(own, newest.lineage.wholeFrom);
}

export function putBackText({ generation }: GroupRecord, newest: GroupRecord): string {
  return `was put back as it was at an earlier time (generation ${generation}, the group has ${newest.generation})`;
}

function refuseTooFew(record: GroupRecord, places: readonly Place[]): void {
  const lost = places.map((place, slot) => ({ place, slot })).filter(({ place }) => place.state !== "online");
  if (lost.length <= LOSSES_MAX) return;
  const twins = places.find((place) => place.twins !== undefined)?.twins;
  if (twins !== undefined) throw new StorageError("EEXIST", twinsText(twins), { group: record.uuid });
  const names = lost.map(({ place, slot }) => `#${record.members[slot]!.number} ${place.state}`).join(", ");
  const text = `group "${record.name}" has ${places.length - lost.length} of ${places.length} members (${names})`;
  throw new StorageError("EIO", `${text}: at most ${LOSSES_MAX} may be lost`, { group: record.uuid });
}
