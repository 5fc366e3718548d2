import { crc32c } from "../lib/crc32c.js";
import { StorageError } from "../lib/errors.js";
import { allSettledOrThrow } from "../lib/mutex.js";
import { BLOCK_BYTES } from "../lib/units.js";
import type { WriteIntentBitmap } from "./bitmap.js";
import { type Placed, RING_START } from "./journal.js";
import {
  DATA,
  decodeHeader,
  decodeRecord,
  type JournalHeader,
  MOVED,
  PARITY,
  REVOKE,
  type RecordEntry,
  type RecordHead,
} from "./journal-format.js";
import { LAYOUT } from "./layout.js";
import type { Member } from "./member.js";
import { RingReader } from "./ring-reader.js";
import { readTwin } from "./twin-blocks.js";

export interface ReplayOptions {
  readonly groupUuid: string;
  readonly members: readonly Member[];
  readonly ringBytes: number;
  /** In the arena; at least as large as the largest record. */
  readonly buffer: Buffer;
  /** How much of the LU that owns a block of the members is spread anew, in bytes of the LU; Infinity: all of it. */
  readonly movedAt: (memberBlock: number) => number;
  /** Who is away misses what is replayed: it is marked for its return. */
  readonly bitmap: WriteIntentBitmap;
}

/** A record of the chain, found sound on at least one member. */
interface Found {
  readonly seq: number;
  readonly offset: number;
  readonly byteCount: number;
  readonly entries: readonly RecordEntry[];
  readonly ownerEpoch: number;
  /** Who has a sound copy. */
  readonly copies: readonly Member[];
}

/** What the journal of a group holds, before anything is applied. */
export interface JournalScan {
  readonly header: JournalHeader | null;
  readonly records: readonly Found[];
  /** Above every seq that was ever written. */
  readonly nextSeq: number;
  /** Where the next record may stand. */
  readonly nextOffset: number;
  readonly ownerEpoch: number;
}

/** Skipped between lives, so that a leftover of the last one is never taken for a record of this one. */
const SEQ_GAP = 1024;

/**
 * Find the header and the chain of records from the tail: at each step the one that follows the last, on any online member, directly behind it or
 * at the start of the ring.
 * @throws StorageError EIO when no member has a sound header
 */
export async function scanJournal(options: ReplayOptions): Promise<JournalScan> {
  const online = options.members.filter((member) => member.online);
  const headers = (await Promise.all(online.map((member) => readHeaders(options, member)))).flat();
  const rings = online.map((member) => new RingReader(member, options.ringBytes));
  const header = headers.reduce<JournalHeader | null>((a, b) => (a === null || b.sequence > a.sequence ? b : a), null);
  if (header === null)
    throw new StorageError("EIO", "no member has a sound journal header", { group: options.groupUuid });
  const records: Found[] = [];
  let offset = header.tailOffset;
  let isNext: IsNext = (head) => head.seq === header.tailSeq;
  for (;;) {
    const found =
      (await findRecord(options, rings, isNext, offset)) ??
      (offset > 0 ? await findRecord(options, rings, isNext, 0) : null);
    if (found === null) break;
    records.push(found);
    offset = found.offset + found.byteCount;
    isNext = (head) => head.previousSeq === found.seq;
  }
  const lastSeq = records[records.length - 1]?.seq ?? header.tailSeq;
  const ownerEpoch = records.reduce((epoch, record) => Math.max(epoch, record.ownerEpoch), header.ownerEpoch);
  return { header, records, nextSeq: lastSeq + SEQ_GAP, nextOffset: offset % options.ringBytes, ownerEpoch };
}

type IsNext = (head: RecordHead) => boolean;

async function readHeaders(options: ReplayOptions, member: Member): Promise<JournalHeader[]> {
  const blocks = await readTwin(member, LAYOUT.journal);
  return blocks.map((block) => decodeHeader(block, options.groupUuid)).filter((header) => header !== null);
}

/** Of several the one with the highest seq: a lower one was torn in an earlier life (journal-format.ts). */
async function findRecord(
  options: ReplayOptions,
  rings: readonly RingReader[],
  isNext: IsNext,
  offset: number,
): Promise<Found | null> {
  if (offset + BLOCK_BYTES > options.ringBytes) return null;
  const heads = await Promise.all(rings.map((ring) => readHead(options, ring, isNext, offset)));
  const seq = heads.reduce((most, head) => Math.max(most, head?.seq ?? -1), -1);
  const head = heads.find((one) => one?.seq === seq);
  if (head == null) return null;
  const copies = rings.filter((_, i) => heads[i]?.seq === seq).map(({ member }) => member);
  const { entries, ownerEpoch } = head;
  return { seq, offset, byteCount: byteCountOf(head), entries, ownerEpoch, copies };
}

/** null: no sound record that is next. Damage shows in the checksum; an unreadable place is as good as damaged: the other copy answers. */
async function readHead(
  options: ReplayOptions,
  ring: RingReader,
  isNext: IsNext,
  offset: number,
): Promise<RecordHead | null> {
  const block = await ring.read(BLOCK_BYTES, offset);
  const head = block === null ? null : decodeRecord(block, options.groupUuid);
  if (head === null || !isNext(head)) return null;
  const byteCount = byteCountOf(head);
  if (byteCount > options.buffer.length || offset + byteCount > options.ringBytes) return null;
  const payload = await ring.read(byteCount - BLOCK_BYTES, offset + BLOCK_BYTES);
  return payload !== null && crc32c(payload) === head.payloadChecksum ? head : null;
}

function byteCountOf({ payloadBlocks }: RecordHead): number {
  return (1 + payloadBlocks) * BLOCK_BYTES;
}

/** Read a record again; its image is in the buffer then. @throws StorageError EIO when none of its copies is there any more */
async function load({ buffer, groupUuid }: ReplayOptions, { seq, offset, byteCount, copies }: Found): Promise<void> {
  const image = buffer.subarray(0, byteCount);
  for (const member of quickestFirst(copies)) {
    const read = await member.fetch(byteCount, RING_START + offset).catch(() => null);
    if (read === null) continue;
    read.copy(image);
    const head = decodeRecord(image.subarray(0, BLOCK_BYTES), groupUuid);
    if (head?.seq === seq && crc32c(image.subarray(BLOCK_BYTES)) === head.payloadChecksum) return;
  }
  throw new StorageError("EIO", "a journal record became unreadable during replay", { seq });
}

function quickestFirst(members: readonly Member[]): Member[] {
  return [...members].sort((a, b) => a.times.read.meanMs - b.times.read.meanMs);
}

interface Revoked {
  readonly upToSeq: number;
  readonly from: number;
  readonly to: number;
}

function revokesOf(record: Found): Revoked[] {
  return record.entries
    .filter((entry) => entry.kind === REVOKE)
    .map((entry) => ({ upToSeq: entry.upToSeq, from: entry.memberBlock, to: entry.memberBlock + entry.blockCount }));
}

/** What the records of a scan say of blocks on the members. */
export class Verdicts {
  readonly #revoked: readonly Revoked[];
  /** By block of the members: data of records up to this one has its parity in the journal. */
  readonly #coveredUpTo = new Map<number, number>();

  constructor(records: readonly Found[]) {
    this.#revoked = records.flatMap((record) => revokesOf(record));
    for (const { entries } of records) for (const entry of entries) if (entry.kind === PARITY) this.#cover(entry);
  }

  #cover({ memberBlock, blockCount, upToSeq }: RecordEntry): void {
    for (let block = memberBlock; block < memberBlock + blockCount; block++) {
      this.#coveredUpTo.set(block, Math.max(upToSeq, this.#coveredUpTo.get(block) ?? 0));
    }
  }

  /** By block of the members: as far as data of its column has parity in the journal. */
  get coveredUpTo(): ReadonlyMap<number, number> {
    return this.#coveredUpTo;
  }

  /** Revokes cover whole bands and entries stay inside one, so an entry is revoked whole or not at all. */
  isRevoked(seq: number, entry: RecordEntry): boolean {
    for (const { upToSeq, from, to } of this.#revoked) {
      if (seq <= upToSeq && from <= entry.memberBlock && entry.memberBlock < to) return true;
    }
    return false;
  }

  /** Data without its parity: the block is not in place, and must not be put there before the parity is in the journal. */
  isPending(seq: number, memberBlock: number): boolean {
    return seq > (this.#coveredUpTo.get(memberBlock) ?? 0);
  }
}

/**
 * Write everything that the records hold to its place, in order, and flush it; but for what was revoked, and for data that has no parity in the
 * journal yet. Doing
 * it twice does no harm.
 * @returns blocks written
 */
export async function applyRecords(options: ReplayOptions, scan: JournalScan, verdicts: Verdicts): Promise<number> {
  let blocks = 0;
  for (const record of scan.records) {
    if (!record.entries.some((entry) => entry.kind !== REVOKE)) continue;
    await load(options, record);
    blocks += await applyRecord(options, record, verdicts);
  }
  await Promise.all(options.members.map((member) => member.flush(false)));
  return blocks;
}

/** Writes of one record go side by side, but for those of a block that it has twice. */
async function applyRecord(options: ReplayOptions, record: Found, verdicts: Verdicts): Promise<number> {
  let blocks = 0;
  const writing = new Map<string, Promise<void>>();
  for (const { entry, payload } of payloadsOf(options, record)) {
    if (verdicts.isRevoked(record.seq, entry)) continue;
    // The label did not follow: what it says of this place is still whole there.
    if (entry.kind === MOVED && options.movedAt(entry.memberBlock) < entry.upToSeq) continue;
    for (const run of settledRuns(record.seq, entry, verdicts)) {
      const from = (run.first - entry.memberBlock) * BLOCK_BYTES;
      const part = payload.subarray(from, from + run.count * BLOCK_BYTES);
      const places = Array.from({ length: run.count }, (_, i) => `${entry.member}:${run.first + i}`);
      if (places.some((place) => writing.has(place))) {
        await allSettledOrThrow([...writing.values()]);
        writing.clear();
      }
      const written = writeMarked(options, entry.member, run.first * BLOCK_BYTES, part);
      for (const place of places) writing.set(place, written);
      blocks += run.count;
    }
  }
  await allSettledOrThrow([...writing.values()]);
  return blocks;
}

function* payloadsOf({ buffer }: ReplayOptions, record: Found): Iterable<{ entry: RecordEntry; payload: Buffer }> {
  let at = BLOCK_BYTES;
  for (const entry of record.entries) {
    if (entry.kind === REVOKE) continue;
    const payload = buffer.subarray(at, at + entry.blockCount * BLOCK_BYTES);
    at += payload.length;
    yield { entry, payload };
  }
}

interface BlockRun {
  readonly first: number;
  readonly count: number;
}

/** The parts of an entry that may be written to their place as they are. */
function settledRuns(seq: number, { kind, memberBlock, blockCount }: RecordEntry, verdicts: Verdicts): BlockRun[] {
  if (kind !== DATA) return [{ first: memberBlock, count: blockCount }];
  const runs: BlockRun[] = [];
  let count = 0;
  for (let block = memberBlock; block <= memberBlock + blockCount; block++) {
    const settled = block < memberBlock + blockCount && !verdicts.isPending(seq, block);
    if (settled) count++;
    else if (count > 0) {
      runs.push({ first: block - count, count });
      count = 0;
    }
  }
  return runs;
}

/** A block of data that is in the journal and not in place. */
export interface PendingBlock {
  readonly seq: number;
  readonly member: number;
  readonly memberBlock: number;
  readonly data: Buffer;
}

/**
 * Every block whose parity is not in the journal, in the order in which they were written.
 * @param visit  `data` is good until it resolves, or, when it has returned null, until it returns
 */
export async function forEachPending(
  options: ReplayOptions,
  scan: JournalScan,
  verdicts: Verdicts,
  visit: (block: PendingBlock) => Promise<void> | null,
): Promise<void> {
  for (const record of scan.records) {
    if (!hasPending(record, verdicts)) continue;
    await load(options, record);
    for (const { entry, payload } of payloadsOf(options, record)) {
      if (entry.kind !== DATA || verdicts.isRevoked(record.seq, entry)) continue;
      for (let i = 0; i < entry.blockCount; i++) {
        const memberBlock = entry.memberBlock + i;
        if (!verdicts.isPending(record.seq, memberBlock)) continue;
        const data = payload.subarray(i * BLOCK_BYTES, (i + 1) * BLOCK_BYTES);
        const visited = visit({ seq: record.seq, member: entry.member, memberBlock, data });
        if (visited !== null) await visited;
      }
    }
  }
}

function hasPending({ seq, entries }: Found, verdicts: Verdicts): boolean {
  return entries.some((entry) => {
    if (entry.kind !== DATA || verdicts.isRevoked(seq, entry)) return false;
    for (let block = entry.memberBlock; block < entry.memberBlock + entry.blockCount; block++) {
      if (verdicts.isPending(seq, block)) return true;
    }
    return false;
  });
}

export function anyPending(scan: JournalScan, verdicts: Verdicts): boolean {
  return scan.records.some((record) => hasPending(record, verdicts));
}

/**
 * Two copies of every record, as far as there are members: a torn last one may have one, and what is built on it must not be lost with that one
 * member.
 */
export async function secureRecords(options: ReplayOptions, scan: JournalScan): Promise<void> {
  for (const record of scan.records) {
    if (record.copies.filter((member) => member.online).length >= 2) continue;
    const other = options.members.find((member) => member.online && !record.copies.includes(member));
    if (other === undefined) continue;
    await load(options, record);
    await other.writeThrough([options.buffer.subarray(0, record.byteCount)], RING_START + record.offset);
  }
}

/** Where the records stand, in bytes that rise over the end of the ring, and where the next one may stand. */
export function placesOf(options: ReplayOptions, scan: JournalScan): { places: Placed[]; end: number } {
  const places: Placed[] = [];
  let lap = 0;
  let end = scan.header?.tailOffset ?? 0;
  for (const { seq, offset, byteCount } of scan.records) {
    if (lap + offset < end) lap += options.ringBytes;
    places.push({ seq, at: lap + offset });
    end = lap + offset + byteCount;
  }
  return { places, end };
}

async function writeMarked(
  { members, bitmap }: ReplayOptions,
  slot: number,
  from: number,
  payload: Buffer,
): Promise<void> {
  const write = async (): Promise<void> => members[slot]?.writev([payload], from, false);
  if (members.every((member) => member.online)) return write();
  const marked = bitmap.enter(from, from + payload.length);
  try {
    if (marked !== null) await marked;
    await write();
  } finally {
    bitmap.leave(from, from + payload.length);
  }
}
