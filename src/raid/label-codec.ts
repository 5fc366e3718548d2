import { assert } from "../lib/assert.js";
import { MIB } from "../lib/units.js";
import type { ScrubRecord } from "./contract.js";
import {
  checksumHolds,
  getText,
  getU64,
  getUuid,
  isZero,
  NO_UUID,
  putText,
  putU64,
  putUuid,
  sealChecksum,
  tailOfText,
} from "./fields.js";
import type { RowRun } from "./geometry.js";
import {
  type DiskLabel,
  type GroupRecord,
  LABEL,
  type LabelFormer,
  type LabelLu,
  type LabelMember,
  type LastLabel,
  LIFE_ENTRY,
  LU_ENTRY,
  MEMBER_ENTRY,
  type MemberState,
  NO_SCRUB,
  NO_SHAPE,
} from "./label.js";
import type { GroupShape } from "./layout.js";
import { shapeIsSound } from "./layout.js";
import {
  LIVES_MAX,
  LOST_BLOCKS_MAX,
  LUS_MAX,
  MEMBERS_MAX,
  NODES_MAX,
  PATH_BYTES_MAX,
  ROW_RUNS_MAX,
  SHARED_MEMBERS_MAX,
} from "./limits.js";
import { type Life, type Lineage, NO_LINEAGE } from "./lineage.js";
import { LOST_KINDS, type LostBlock } from "./lost-blocks.js";

const MAGIC = "STRPWARD";
/** Of a label without lives, as all were once. */
const VERSION_WITHOUT_LIVES = 1;
const VERSION = 2;
const CLEAN = 1;
const NAME_FIELD = 64;
const SPARE = 2;
const SHARED = 4;
/** Lost blocks are of several kinds. */
const KINDS = 8;
/** How the label of a disk that is being replaced may stand: u64 generation, u64 sequence. */
const LAST_LABEL_BYTES = 16;
const FORMER_LABELS_MAX = (LABEL.reserved - LABEL.formerLabels) / LAST_LABEL_BYTES;
/** A lost block has its kind above its place. */
const KIND_UNIT = 2 ** 49;
/** By number; none is 0. */
const STATES = [
  null,
  "online",
  "missing",
  "stale",
  "failed",
  "rebuilding",
] as const satisfies ReadonlyArray<MemberState | null>;
const SCRUB_REPORTS = 1;
const SCRUB_STATES = ["idle", "running", "paused"] as const satisfies readonly ScrubRecord["state"][];

/** @returns one slot, 65536 bytes */
export function encodeLabel(label: DiskLabel): Buffer {
  const block = Buffer.alloc(LABEL.end);
  block.write(MAGIC, LABEL.magic, "latin1");
  const hasLives = label.group !== undefined && label.group.lineage.lives.length > 0;
  block.writeUInt32LE(hasLives ? VERSION : VERSION_WITHOUT_LIVES, LABEL.version);
  putUuid(block, LABEL.diskUuid, label.uuid);
  block.writeUInt32LE(label.number, LABEL.diskNumber);
  block.writeUInt32LE(label.slot, LABEL.slot);
  putU64(block, LABEL.sequence, label.sequence);
  putU64(block, LABEL.diskBytes, label.sizeBytes);
  if (label.group !== undefined) putGroup(block, label.group);
  else if (label.spare === true) block.writeUInt32LE(SPARE, LABEL.flags);
  sealChecksum(block, LABEL.checksum);
  assert(decodeLabel(block) !== null, "a label that we write is one that we would read");
  return block;
}

function putGroup(block: Buffer, group: GroupRecord): void {
  assert(group.members.length <= MEMBERS_MAX && group.lus.length <= LUS_MAX, "the group fits its label");
  assert(group.nodes.length <= NODES_MAX, "the nodes fit the label");
  putUuid(block, LABEL.groupUuid, group.uuid);
  putU64(block, LABEL.generation, group.generation);
  putU64(block, LABEL.ownerEpoch, group.ownerEpoch);
  block.writeUInt32LE(flagsOf(group), LABEL.flags);
  block.writeUInt32LE(group.shape.chunkBytes, LABEL.chunkBytes);
  putU64(block, LABEL.rowBytes, group.shape.rowBytes);
  block.writeUInt32LE(group.shape.rowCount, LABEL.rowCount);
  putU64(block, LABEL.journalBytes, group.shape.journalBytes);
  putU64(block, LABEL.regionBytes, group.shape.regionBytes);
  block.writeUInt32LE(codeOfParityRun(group.shape.parityRun), LABEL.parityRun);
  putText(block, LABEL.groupName, NAME_FIELD, group.name);
  block.writeUInt32LE(group.nodes.length, LABEL.nodeCount);
  for (const [i, name] of group.nodes.entries()) putText(block, LABEL.nodes + i * NAME_FIELD, NAME_FIELD, name);
  block.writeUInt32LE(group.members.length, LABEL.memberCount);
  for (const [i, member] of group.members.entries()) putMember(block, LABEL.members + i * MEMBER_ENTRY.end, member);
  putLus(block, group.lus);
  putScrub(block, group.scrub);
  putLost(block, group.lost);
  putLineage(block, group);
  putFormer(block, group.members);
}

function putFormer(block: Buffer, members: readonly LabelMember[]): void {
  const [one, more] = members.filter(({ former }) => former !== null);
  if (one === undefined || one.former === null) return;
  const { number, uuid, labels } = one.former;
  assert(more === undefined && one.state === "rebuilding", "one member at a time is rebuilt in the place of another");
  assert(labels.length >= 1 && labels.length <= FORMER_LABELS_MAX, "it is known how the label stood");
  block.writeUInt32LE(number, LABEL.formerNumber);
  putUuid(block, LABEL.formerUuid, uuid);
  for (const [i, { generation, sequence }] of labels.entries()) {
    putU64(block, LABEL.formerLabels + i * LAST_LABEL_BYTES, generation);
    putU64(block, LABEL.formerLabels + i * LAST_LABEL_BYTES + 8, sequence);
  }
}

/** @returns the members, the one that is being rebuilt with the disk whose place it has; null for nonsense */
function withFormer(block: Buffer, members: readonly LabelMember[]): LabelMember[] | null {
  if (isZero(block, LABEL.formerNumber, LABEL.reserved)) return [...members];
  const former = getFormer(block);
  const rebuilding = members.filter(({ state }) => state === "rebuilding");
  if (former === null || rebuilding.length !== 1 || members.some(({ uuid }) => uuid === former.uuid)) return null;
  return members.map((member) => (member === rebuilding[0] ? { ...member, former } : member));
}

function getFormer(block: Buffer): LabelFormer | null {
  const uuid = getUuid(block, LABEL.formerUuid);
  const labels: LastLabel[] = [];
  for (let at = LABEL.formerLabels; at < LABEL.reserved; at += LAST_LABEL_BYTES) {
    // A label that was written has a sequence.
    if (labels.length > 0 && isZero(block, at, LABEL.reserved)) break;
    const label = { generation: getU64(block, at), sequence: getU64(block, at + 8) };
    if (Number.isNaN(label.generation) || !(label.sequence > 0)) return null;
    labels.push(label);
  }
  return uuid === NO_UUID ? null : { uuid, number: block.readUInt32LE(LABEL.formerNumber), labels };
}

function putLineage(block: Buffer, { lineage: { wholeFrom, lives }, members }: GroupRecord): void {
  assert(lives.length <= LIVES_MAX, "the lives fit the label");
  putU64(block, LABEL.wholeFrom, wholeFrom);
  block.writeUInt32LE(lives.length, LABEL.lifeCount);
  for (const [i, { generation, id }] of lives.entries()) {
    const at = LABEL.lives + i * LIFE_ENTRY.end;
    putU64(block, at + LIFE_ENTRY.generation, generation);
    putUuid(block, at + LIFE_ENTRY.id, id);
  }
  for (const [i, { partedFrom }] of members.entries()) putU64(block, LABEL.parted + i * 8, partedFrom);
}

/** @param generation  of the label. @returns null for nonsense */
function getLineage(block: Buffer, generation: number): Lineage | null {
  if (block.readUInt32LE(LABEL.version) === VERSION_WITHOUT_LIVES) {
    const known = isZero(block, LABEL.wholeFrom, LABEL.reserved) && isZero(block, LABEL.parted, LABEL.tail);
    return known ? NO_LINEAGE : null;
  }
  const wholeFrom = getU64(block, LABEL.wholeFrom);
  const count = block.readUInt32LE(LABEL.lifeCount);
  if (Number.isNaN(wholeFrom) || (generation > 0 && wholeFrom > generation)) return null;
  if (count === 0 || count > LIVES_MAX || !isZero(block, LABEL.lives + count * LIFE_ENTRY.end, LABEL.tail)) return null;
  const lives: Life[] = [];
  for (let i = 0; i < count; i++) {
    const at = LABEL.lives + i * LIFE_ENTRY.end;
    const life = { generation: getU64(block, at + LIFE_ENTRY.generation), id: getUuid(block, at + LIFE_ENTRY.id) };
    if (!(life.generation > (lives[i - 1]?.generation ?? -1)) || life.id === NO_UUID) return null;
    lives.push(life);
  }
  return { wholeFrom, lives };
}

/** Labels of before there were runs have zero here, and parity that moves with every stripe: so has such a group's label to this day. */
function codeOfParityRun(parityRun: number): number {
  return parityRun === 1 ? 0 : parityRun;
}

function flagsOf({ shared, clean, lost }: GroupRecord): number {
  if (shared === true) return SHARED;
  return (clean ? CLEAN : 0) | (lost.some(({ kind }) => kind !== undefined) ? KINDS : 0);
}

function putLost(block: Buffer, lost: readonly LostBlock[]): void {
  assert(lost.length <= LOST_BLOCKS_MAX, "the lost blocks fit the label");
  block.writeUInt32LE(lost.length, LABEL.lostCount);
  lost.forEach(({ lu, block: at, kind = "lost" }, i) => {
    const place = at * LUS_MAX + lu - 1;
    assert(place < KIND_UNIT, "the place leaves room for the kind");
    putU64(block, LABEL.lost + i * 8, LOST_KINDS.indexOf(kind) * KIND_UNIT + place);
  });
}

function getLost(block: Buffer): LostBlock[] | null {
  const count = block.readUInt32LE(LABEL.lostCount);
  if (count > LOST_BLOCKS_MAX || !isZero(block, LABEL.lost + count * 8, LABEL.parted)) return null;
  const lost: LostBlock[] = [];
  for (let i = 0; i < count; i++) {
    const entry = getU64(block, LABEL.lost + i * 8);
    const kind = LOST_KINDS[Math.floor(entry / KIND_UNIT)];
    if (kind === undefined) return null;
    const place = entry % KIND_UNIT;
    const known = { lu: (place % LUS_MAX) + 1, block: Math.floor(place / LUS_MAX) };
    lost.push(kind === "lost" ? known : { ...known, kind });
  }
  return lost;
}

function putScrub(block: Buffer, scrub: ScrubRecord): void {
  block.writeUInt32LE(scrub.everySeconds, LABEL.scrubEverySeconds);
  block.writeUInt32LE(SCRUB_STATES.indexOf(scrub.state), LABEL.scrubState);
  putU64(block, LABEL.scrubAt, scrub.atBytes);
  putU64(block, LABEL.scrubStartedMs, scrub.startedMs);
  putU64(block, LABEL.scrubFinishedMs, scrub.finishedMs);
  block.writeUInt32LE(scrub.found, LABEL.scrubFound);
  block.writeUInt32LE(scrub.healed, LABEL.scrubHealed);
  block.writeUInt32LE(scrub.heal ? 0 : SCRUB_REPORTS, LABEL.scrubFlags);
}

function putMember(block: Buffer, at: number, member: LabelMember): void {
  putUuid(block, at + MEMBER_ENTRY.uuid, member.uuid);
  block.writeUInt32LE(member.number, at + MEMBER_ENTRY.number);
  block.writeUInt32LE(STATES.indexOf(member.state), at + MEMBER_ENTRY.state);
  putU64(block, at + MEMBER_ENTRY.sizeBytes, member.sizeBytes);
  putU64(block, at + MEMBER_ENTRY.unbuiltBytes, member.unbuiltBytes);
  const path = tailOfText(member.path, PATH_BYTES_MAX);
  putText(block, at + MEMBER_ENTRY.path, MEMBER_ENTRY.end - MEMBER_ENTRY.path, path);
}

function putLus(block: Buffer, lus: readonly LabelLu[]): void {
  let run = 0;
  lus.forEach((lu, i) => {
    const at = LABEL.lus + i * LU_ENTRY.end;
    block.writeUInt32LE(lu.number, at + LU_ENTRY.number);
    block.writeUInt32LE(lu.level, at + LU_ENTRY.level);
    putUuid(block, at + LU_ENTRY.uuid, lu.uuid);
    putU64(block, at + LU_ENTRY.sizeBytes, lu.sizeBytes);
    block.writeUInt32LE(run, at + LU_ENTRY.firstRun);
    block.writeUInt32LE(lu.runs.length, at + LU_ENTRY.runCount);
    putText(block, at + LU_ENTRY.name, NAME_FIELD, lu.name);
    block.writeUInt32LE(lu.width, at + LU_ENTRY.width);
    block.writeUInt32LE(lu.moving?.newWidth ?? 0, at + LU_ENTRY.newWidth);
    putU64(block, at + LU_ENTRY.movedBytes, lu.moving?.movedBytes ?? 0);
    for (const { first, count } of lu.runs) {
      assert(run < ROW_RUNS_MAX, "the row runs fit the label");
      block.writeUInt32LE(first, LABEL.runs + run * 8);
      block.writeUInt32LE(count, LABEL.runs + run * 8 + 4);
      run++;
    }
  });
  block.writeUInt32LE(lus.length, LABEL.luCount);
  block.writeUInt32LE(run, LABEL.runCount);
}

/** Does it begin like one of our labels, sound or not? */
export function hasLabelMagic(block: Buffer): boolean {
  return block.toString("latin1", LABEL.magic, LABEL.magic + 8) === MAGIC;
}

/** @returns null unless every field, every reserved byte and the checksum hold */
export function decodeLabel(block: Buffer): DiskLabel | null {
  if (block.length !== LABEL.end || !hasLabelMagic(block)) return null;
  const version = block.readUInt32LE(LABEL.version);
  if ((version !== VERSION && version !== VERSION_WITHOUT_LIVES) || !checksumHolds(block, LABEL.checksum)) return null;
  const sequence = getU64(block, LABEL.sequence);
  const sizeBytes = getU64(block, LABEL.diskBytes);
  const disk = {
    uuid: getUuid(block, LABEL.diskUuid),
    number: block.readUInt32LE(LABEL.diskNumber),
    slot: block.readUInt32LE(LABEL.slot),
    sequence,
    sizeBytes,
  };
  if (disk.uuid === NO_UUID || Number.isNaN(sequence) || !(sizeBytes >= MIB)) return null;
  if (getUuid(block, LABEL.groupUuid) === NO_UUID) return decodeUnused(block, disk);
  const group = getGroup(block);
  if (group === null || group.members[disk.slot]?.uuid !== disk.uuid) return null;
  return { ...disk, group };
}

function decodeUnused(block: Buffer, disk: DiskLabel): DiskLabel | null {
  const flags = block.readUInt32LE(LABEL.flags);
  const empty = isZero(block, LABEL.generation, LABEL.diskBytes) && isZero(block, LABEL.chunkBytes, LABEL.end);
  if (!empty || disk.slot !== 0 || (flags !== 0 && flags !== SPARE)) return null;
  return flags === SPARE ? { ...disk, spare: true } : disk;
}

function getGroup(block: Buffer): GroupRecord | null {
  if (!isZero(block, LABEL.reserved, LABEL.nodes)) return null;
  const flags = block.readUInt32LE(LABEL.flags);
  if (!isZero(block, LABEL.tail, LABEL.end) || ((flags & ~(CLEAN | KINDS)) !== 0 && flags !== SHARED)) return null;
  if (flags === SHARED) return getSharedGroup(block);
  const shape: GroupShape = {
    chunkBytes: block.readUInt32LE(LABEL.chunkBytes),
    rowBytes: getU64(block, LABEL.rowBytes),
    rowCount: block.readUInt32LE(LABEL.rowCount),
    journalBytes: getU64(block, LABEL.journalBytes),
    regionBytes: getU64(block, LABEL.regionBytes),
    parityRun: block.readUInt32LE(LABEL.parityRun) || 1,
  };
  const name = getText(block, LABEL.groupName, NAME_FIELD);
  const generation = getU64(block, LABEL.generation);
  const ownerEpoch = getU64(block, LABEL.ownerEpoch);
  const [nodes, listed, scrub, lost] = [getNodes(block), getMembers(block), getScrub(block), getLost(block)];
  const members = listed === null ? null : withFormer(block, listed);
  const lineage = getLineage(block, generation);
  if (!name || Number.isNaN(generation) || Number.isNaN(ownerEpoch)) return null;
  if (nodes === null || members === null || scrub === null || lost === null || lineage === null) return null;
  const lus = getLus(block, shape.rowCount, members.length);
  if (lus === null || lost.some(({ kind }) => kind !== undefined) !== ((flags & KINDS) !== 0)) return null;
  if (members.some(({ unbuiltBytes }) => unbuiltBytes > shape.rowBytes * shape.rowCount)) return null;
  if (!members.every((member) => shapeIsSound(shape, member.sizeBytes))) return null;
  return {
    uuid: getUuid(block, LABEL.groupUuid),
    name,
    generation,
    lineage,
    ownerEpoch,
    clean: (flags & CLEAN) !== 0,
    shape,
    nodes,
    members,
    lus,
    scrub,
    lost,
  };
}

/** What speaks of rows and LUs is zero. */
function getSharedGroup(block: Buffer): GroupRecord | null {
  const areas = [
    [LABEL.chunkBytes, LABEL.memberCount],
    [LABEL.luCount, LABEL.nodeCount],
    [LABEL.parityRun, LABEL.groupName],
    [LABEL.scrubEverySeconds, LABEL.nodes],
    [LABEL.lus, LABEL.tail],
  ] as const;
  if (block.readUInt32LE(LABEL.version) !== VERSION_WITHOUT_LIVES) return null;
  if (!areas.every(([from, to]) => isZero(block, from, to))) return null;
  const name = getText(block, LABEL.groupName, NAME_FIELD);
  const generation = getU64(block, LABEL.generation);
  const ownerEpoch = getU64(block, LABEL.ownerEpoch);
  const nodes = getNodes(block);
  const members = getMembers(block, 1);
  if (!name || Number.isNaN(generation) || Number.isNaN(ownerEpoch) || nodes === null || members === null) return null;
  if (members.length > SHARED_MEMBERS_MAX || members.some(({ state }) => state !== "online")) return null;
  const uuid = getUuid(block, LABEL.groupUuid);
  const nothing = { clean: false, shape: NO_SHAPE, lus: [], scrub: NO_SCRUB, lost: [], lineage: NO_LINEAGE };
  return { uuid, name, generation, ownerEpoch, ...nothing, nodes, members, shared: true };
}

function getScrub(block: Buffer): ScrubRecord | null {
  const state = SCRUB_STATES[block.readUInt32LE(LABEL.scrubState)];
  const flags = block.readUInt32LE(LABEL.scrubFlags);
  const scrub = {
    everySeconds: block.readUInt32LE(LABEL.scrubEverySeconds),
    atBytes: getU64(block, LABEL.scrubAt),
    startedMs: getU64(block, LABEL.scrubStartedMs),
    finishedMs: getU64(block, LABEL.scrubFinishedMs),
    found: block.readUInt32LE(LABEL.scrubFound),
    healed: block.readUInt32LE(LABEL.scrubHealed),
  };
  if (state === undefined || flags > SCRUB_REPORTS || Object.values(scrub).some(Number.isNaN)) return null;
  return { ...scrub, state, heal: flags === 0 };
}

function getNodes(block: Buffer): string[] | null {
  const count = block.readUInt32LE(LABEL.nodeCount);
  if (count > NODES_MAX || !isZero(block, LABEL.nodes + count * NAME_FIELD, LABEL.members)) return null;
  const nodes: string[] = [];
  for (let i = 0; i < count; i++) {
    const name = getText(block, LABEL.nodes + i * NAME_FIELD, NAME_FIELD);
    if (!name) return null;
    nodes.push(name);
  }
  return nodes;
}

function getMembers(block: Buffer, countMin = 2): LabelMember[] | null {
  const count = block.readUInt32LE(LABEL.memberCount);
  if (count < countMin || count > MEMBERS_MAX) return null;
  if (!isZero(block, LABEL.members + count * MEMBER_ENTRY.end, LABEL.lus)) return null;
  if (!isZero(block, LABEL.parted + count * 8, LABEL.lives)) return null;
  const members: LabelMember[] = [];
  for (let i = 0; i < count; i++) {
    const member = getMember(block, LABEL.members + i * MEMBER_ENTRY.end, LABEL.parted + i * 8);
    if (member === null) return null;
    members.push(member);
  }
  return new Set(members.map((member) => member.uuid)).size === count ? members : null;
}

function getMember(block: Buffer, at: number, partedAt: number): LabelMember | null {
  const state = STATES[block.readUInt32LE(at + MEMBER_ENTRY.state)];
  const path = getText(block, at + MEMBER_ENTRY.path, MEMBER_ENTRY.end - MEMBER_ENTRY.path);
  const sizeBytes = getU64(block, at + MEMBER_ENTRY.sizeBytes);
  const uuid = getUuid(block, at + MEMBER_ENTRY.uuid);
  if (state === undefined || state === null || path === null || Number.isNaN(sizeBytes)) return null;
  const unbuiltBytes = getU64(block, at + MEMBER_ENTRY.unbuiltBytes);
  const partedFrom = getU64(block, partedAt);
  if (uuid === NO_UUID || Number.isNaN(unbuiltBytes) || (state === "online" && unbuiltBytes > 0)) return null;
  if (Number.isNaN(partedFrom) || (state === "online" && partedFrom > 0)) return null;
  const number = block.readUInt32LE(at + MEMBER_ENTRY.number);
  return { uuid, number, state, sizeBytes, unbuiltBytes, partedFrom, former: null, path };
}

function getLus(block: Buffer, rowCount: number, memberCount: number): LabelLu[] | null {
  const count = block.readUInt32LE(LABEL.luCount);
  const runCount = block.readUInt32LE(LABEL.runCount);
  if (count > LUS_MAX || runCount > ROW_RUNS_MAX) return null;
  if (!isZero(block, LABEL.lus + count * LU_ENTRY.end, LABEL.runs)) return null;
  if (!isZero(block, LABEL.runs + runCount * 8, LABEL.lost)) return null;
  const lus: LabelLu[] = [];
  let nextRun = 0;
  for (let i = 0; i < count; i++) {
    const at = LABEL.lus + i * LU_ENTRY.end;
    const lu = getLu(block, at, nextRun, runCount, memberCount);
    if (lu === null) return null;
    nextRun += lu.runs.length;
    lus.push(lu);
  }
  return nextRun === runCount && rowsAreDisjoint(lus, rowCount) ? lus : null;
}

function getLu(block: Buffer, at: number, firstRun: number, runsInUse: number, memberCount: number): LabelLu | null {
  const level = block.readUInt32LE(at + LU_ENTRY.level);
  const name = getText(block, at + LU_ENTRY.name, NAME_FIELD);
  const sizeBytes = getU64(block, at + LU_ENTRY.sizeBytes);
  const runCount = block.readUInt32LE(at + LU_ENTRY.runCount);
  if ((level !== 1 && level !== 5) || !name || !(sizeBytes > 0)) return null;
  if (!isZero(block, at + LU_ENTRY.reserved, at + LU_ENTRY.end)) return null;
  if (block.readUInt32LE(at + LU_ENTRY.firstRun) !== firstRun || firstRun + runCount > runsInUse || runCount === 0)
    return null;
  const runs: RowRun[] = [];
  for (let i = firstRun; i < firstRun + runCount; i++) {
    const entry = LABEL.runs + i * 8;
    runs.push({ first: block.readUInt32LE(entry), count: block.readUInt32LE(entry + 4) });
  }
  const number = block.readUInt32LE(at + LU_ENTRY.number);
  const width = block.readUInt32LE(at + LU_ENTRY.width) || memberCount;
  const moving = getMoving(block, at, width, memberCount);
  if (width < (level === 5 ? 3 : 2) || width > memberCount || moving === null) return null;
  const uuid = getUuid(block, at + LU_ENTRY.uuid);
  return { number, level, uuid, name, sizeBytes, width, runs, ...(moving === undefined ? {} : { moving }) };
}

/** @returns undefined when the LU is not being spread anew, null for nonsense */
function getMoving(block: Buffer, at: number, width: number, memberCount: number): LabelLu["moving"] | null {
  const newWidth = block.readUInt32LE(at + LU_ENTRY.newWidth);
  const movedBytes = getU64(block, at + LU_ENTRY.movedBytes);
  if (newWidth === 0) return movedBytes === 0 ? undefined : null;
  if (newWidth <= width || newWidth > memberCount || Number.isNaN(movedBytes)) return null;
  const stripeBytes = (newWidth - 1) * block.readUInt32LE(LABEL.chunkBytes);
  if (movedBytes % stripeBytes !== 0) return null;
  return { newWidth, movedBytes };
}

function rowsAreDisjoint(lus: readonly LabelLu[], rowCount: number): boolean {
  const runs = lus.flatMap((lu) => lu.runs).sort((a, b) => a.first - b.first);
  let next = 0;
  for (const run of runs) {
    if (run.count === 0 || run.first < next) return false;
    next = run.first + run.count;
  }
  return next <= rowCount;
}
