import { must } from "../lib/assert.js";
import { StorageError } from "../lib/errors.js";
import { BLOCK_BYTES } from "../lib/units.js";
import { type Place, planAssembly } from "./assemble.js";
import type { LabelledDisk, Without } from "./contract.js";
import { newUuid } from "./fields.js";
import { type MemberPlace, RaidGroup } from "./group.js";
import type { GroupEnvironment } from "./group-environment.js";
import { type GroupRecord, type MemberState, NO_SCRUB, newMember } from "./label.js";
import { type Label, readLabel } from "./label-io.js";
import type { Patience } from "./late-disk.js";
import { planShape } from "./layout.js";
import { CHUNK_BYTES_DEFAULT, MEMBERS_MAX, NODES_MAX } from "./limits.js";
import { NO_LINEAGE } from "./lineage.js";
import { checkName } from "./lu-table.js";
import { MovingArray } from "./moving-array.js";
import { Raid5Array } from "./raid5.js";
import {
  anyPending,
  applyRecords,
  forEachPending,
  type JournalScan,
  placesOf,
  type ReplayOptions,
  scanJournal,
  secureRecords,
  Verdicts,
} from "./replay.js";
import { unbuiltOf } from "./roster.js";

export interface NewGroupOptions {
  readonly name: string;
  /** Power of two, 16 KiB to 1 MiB; 64 KiB by default. */
  readonly chunkBytes?: number | undefined;
  /** A multiple of two chunks; by default so that there are at most 4096 rows. */
  readonly rowBytes?: number | undefined;
  /** RAID-5: stripes in a row whose parity is on one member, a power of two; by default 1 MiB of it, which is also the most. 1: as md. */
  readonly parityRun?: number | undefined;
  /** Which nodes may open it; empty: any. */
  readonly nodes?: readonly string[] | undefined;
}

/**
 * Make a group of unused disks and write it on their labels.
 * @throws StorageError EINVAL (names, sizes, count), EEXIST (a disk twice or in a group already), ENOSPC (too small), EIO
 */
export async function createRaidGroup(
  disks: readonly LabelledDisk[],
  options: NewGroupOptions,
  environment: GroupEnvironment,
): Promise<RaidGroup> {
  const labels = await Promise.all(disks.map(unusedLabel));
  checkNewGroup(disks, options);
  const sizeBytes = Math.min(...disks.map(({ device }) => device.sizeBytes));
  const shape = planShape(sizeBytes, disks.length, options.chunkBytes ?? CHUNK_BYTES_DEFAULT, options);
  const members = disks.map(newMember);
  const record: GroupRecord = {
    uuid: newUuid(environment.random),
    name: options.name,
    generation: 0,
    lineage: NO_LINEAGE,
    ownerEpoch: environment.epoch(),
    clean: true,
    shape,
    nodes: [...(options.nodes ?? [])],
    members,
    lus: [],
    scrub: NO_SCRUB,
    lost: [],
  };
  const places = disks.map(({ device }, i): MemberPlace => ({ member: members[i]!, device, state: "online" }));
  const sequence = Math.max(...labels.map((label) => label.sequence));
  const group = new RaidGroup(record, sequence, places, environment);
  await group.format();
  group.assertAlive();
  return group;
}

async function unusedLabel({ device, number }: LabelledDisk): Promise<Label> {
  const label = await readLabel(device);
  if (label === null)
    throw new StorageError("EINVAL", `${device.name} has no label: add it as a disk first`, { number });
  if (label.group !== undefined) {
    throw new StorageError("EEXIST", `disk #${number} is in group "${label.group.name}" already`, { number });
  }
  return label;
}

function checkNewGroup(disks: readonly LabelledDisk[], options: NewGroupOptions): void {
  checkName(options.name);
  if (disks.length < 2 || disks.length > MEMBERS_MAX) {
    throw new StorageError("EINVAL", `a group has 2 to ${MEMBERS_MAX} disks, not ${disks.length}`);
  }
  if (new Set(disks.map((disk) => disk.uuid)).size < disks.length) {
    throw new StorageError("EEXIST", "the same disk is named twice");
  }
  const nodes = options.nodes ?? [];
  if (nodes.length > NODES_MAX) throw new StorageError("EINVAL", `a group names at most ${NODES_MAX} nodes`);
  for (const node of nodes) checkName(node);
}

/**
 * Bring a group up from the disks that carry its label, in any order. After an unclean stop the journal is replayed before this resolves; marked
 * regions are made consistent behind it, or before they are first read (unsettled.ts).
 * @param patience  with a disk that is slower than all others
 * @param environmentFor  with the epoch to own it under, given the newest on the disks
 * @throws StorageError as planAssembly; ESTALE when the disks carry a newer epoch than this node's
 */
export async function assembleRaidGroup(
  disks: readonly LabelledDisk[],
  force: boolean,
  patience: Patience,
  environmentFor: (ownerEpoch: number) => GroupEnvironment,
): Promise<RaidGroup> {
  const plan = await planAssembly(disks, force, patience);
  const environment = environmentFor(plan.record.ownerEpoch);
  if (plan.record.ownerEpoch > environment.epoch()) {
    throw new StorageError("ESTALE", `group "${plan.record.name}" is owned under a newer epoch`, {
      ours: environment.epoch(),
      theirs: plan.record.ownerEpoch,
    });
  }
  const places = plan.places.map((place, slot): MemberPlace => {
    const listed = must(plan.record.members[slot], "a place is a member");
    const state = believedState(place, listed.state, environment.without);
    const unbuiltBytes = state === "rebuilding" ? unbuiltOf(listed, place.found?.group) : listed.unbuiltBytes;
    const member = { ...listed, unbuiltBytes };
    const used = state === "online" || state === "rebuilding";
    const device = used ? must(place.found, "it was found").disk.device : (place.late?.device ?? null);
    return { member, device, state, reason: place.reason, isAside: place.late !== undefined };
  });
  const group = new RaidGroup(plan.record, plan.sequence, places, environment);
  for (const { number, path, used } of plan.passedOver) group.emit("copy-passed-over", { path, used }, number);
  for (const { twins, reason } of plan.places)
    if (twins !== undefined) group.emit("member-failed", { reason, gone: false }, twins[0]?.label.number);
  // A member that is left out meanwhile does not come back before it is there.
  await group.growth.changing.run(() => recover(group, plan.places).catch((error: unknown) => forsake(group, error)));
  group.resumeTasks();
  return group;
}

/** What the labels say, unless a part is switched off. */
function believedState(place: Place, listed: MemberState, without: Without = {}): MemberState {
  if (without.stale === true && place.found !== null) return "online";
  return without.generation === true && place.behind === true ? listed : place.state;
}

function forsake(group: RaidGroup, error: unknown): never {
  group.abandon();
  throw error;
}

async function recover(group: RaidGroup, places: readonly Place[]): Promise<void> {
  const options: ReplayOptions = {
    groupUuid: group.uuid,
    members: group.members,
    ringBytes: group.journal.ringBytes,
    buffer: group.recordBuffer,
    bitmap: group.bitmap,
    movedAt: (memberBlock) => group.movedAt(memberBlock * BLOCK_BYTES),
  };
  const out = group.members.filter((member) => !member.online);
  const [scan] = await Promise.all([scanJournal(options), group.bitmap.load()]);
  for (const member of group.members) {
    if (member.state === "rebuilding") group.membership.recall(member, places[member.slot]?.former?.device ?? null);
  }
  for (const { state, isAside, reason, label } of out) {
    if (state === "stale") group.emit(isAside ? "member-left-out" : "member-stale", { reason }, label.number);
  }
  if (out.length > 0) group.emit("degraded", { lost: out.length });
  if (group.wasClean && scan.records.length === 0) {
    group.journal.resume(must(scan.header, "a scan has a header"));
    return;
  }
  // Before anything is written: whoever is away misses it. Also when there is nothing to replay, because what this life reads as the
  // outcome of the crash must not change when a disk comes back with another.
  await group.writable();
  // A process that was killed leaves writes in a cache below. They were read above as if they were on the disks: now they are.
  await Promise.all(group.members.map((member) => member.flushOlder()));
  group.unsettled.begin(group.bitmap.marked());
  await replay(group, options, scan);
}

async function replay(group: RaidGroup, options: ReplayOptions, scan: JournalScan): Promise<void> {
  const verdicts = new Verdicts(scan.records);
  let blocks = await applyRecords(options, scan, verdicts);
  group.assertAlive();
  if (anyPending(scan, verdicts)) blocks += await takeUpPending(group, options, scan, verdicts);
  else await group.journal.restart(scan.nextSeq, scan.nextOffset, scan.header);
  if (scan.records.length > 0) group.emit("replayed", { records: scan.records.length, blocks });
}

/**
 * Data whose parity is not in the journal goes the way that it would have gone without the crash: into slots, and from there to its place, when it is
 * its turn. The records stay until that is done, also those that are in place already: what is written over them as a whole must revoke them.
 * @returns blocks
 */
async function takeUpPending(
  group: RaidGroup,
  options: ReplayOptions,
  scan: JournalScan,
  verdicts: Verdicts,
): Promise<number> {
  const { journal, cache } = group;
  await secureRecords(options, scan);
  const { places, end } = placesOf(options, scan);
  await journal.continue(places, scan.nextSeq, end, must(scan.header, "a scan has a header"));
  // The journal has its own use for the buffer of the scan from here on.
  const own = { ...options, buffer: Buffer.allocUnsafe(options.buffer.length) };
  let blocks = 0;
  await forEachPending(own, scan, verdicts, ({ seq, member, memberBlock, data }) => {
    const place = arrayAt(group, memberBlock * BLOCK_BYTES);
    if (place === null) return null;
    blocks++;
    return cache.restore(seq, () => place.array.restore(member, place.inLu, data, seq));
  });
  cache.restored();
  if (group.lus.lus.some((lu) => lu.moving !== undefined)) {
    // Rows that nobody owns at the moment may have records, too, and nobody who would revoke them.
    await cache.drain();
    await cache.checkpoint();
  } else noteRecords(group, scan, verdicts);
  return blocks;
}

/** Every array knows what the journal has of its bands. */
function noteRecords(group: RaidGroup, { records }: JournalScan, verdicts: Verdicts): void {
  const noted = (memberBlock: number, blockCount: number, seq: number): void => {
    const place = arrayAt(group, memberBlock * BLOCK_BYTES);
    place?.array.noteRecord(place.inLu, place.inLu + blockCount * BLOCK_BYTES, seq);
  };
  group.unsettled.journaled = {
    upToSeq: verdicts.coveredUpTo,
    noted: (memberBlock, seq) => noted(memberBlock, 1, seq),
  };
  for (const { seq, entries } of records) {
    for (const { memberBlock, blockCount } of entries) noted(memberBlock, blockCount, seq);
  }
}

/** Whose rows a byte of the members is in; null: nobody's who would read it. */
function arrayAt(group: RaidGroup, memberByte: number): { array: Raid5Array; inLu: number } | null {
  for (const { number } of group.lus.lus) {
    const [part] = group.rowMap(number).overlaps(memberByte, memberByte + BLOCK_BYTES);
    if (part === undefined) continue;
    const array = group.array(number);
    if (array instanceof Raid5Array) return { array, inLu: part.from };
    const [rows] = array instanceof MovingArray ? array.rowsOf(part.from, part.to) : [];
    return rows === undefined ? null : { array: rows.array, inLu: part.from };
  }
  return null;
}
