import { crc32c } from "../lib/crc32c.js";
import { StorageError } from "../lib/errors.js";
import { BLOCK_BYTES } from "../lib/units.js";
import type { WriteIntentBitmap } from "./bitmap.js";
import { RING_START } from "./journal.js";
import { decodeHeader, decodeRecord, type JournalHeader, MOVED, REVOKE, type RecordEntry } from "./journal-format.js";
import { LAYOUT } from "./layout.js";
import type { Member } from "./member.js";

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
 * Find the header and the chain of records from the tail: at each step the next seq, on any online member, directly behind the last
 * record or at the start of the ring.
 * @throws StorageError EIO when no member has a sound header
 */
export async function scanJournal(options: ReplayOptions): Promise<JournalScan> {
  const headers: JournalHeader[] = [];
  for (const member of options.members) headers.push(...(await readHeaders(options, member)));
  const header = headers.reduce<JournalHeader | null>((a, b) => (a === null || b.sequence > a.sequence ? b : a), null);
  if (header === null)
    throw new StorageError("EIO", "no member has a sound journal header", { group: options.groupUuid });
  const records: Found[] = [];
  let offset = header.tailOffset;
  for (let seq = header.tailSeq; ; seq++) {
    const found = (await findRecord(options, seq, offset)) ?? (offset > 0 ? await findRecord(options, seq, 0) : null);
    if (found === null) break;
    records.push(found);
    offset = found.offset + found.byteCount;
  }
  const nextSeq = header.tailSeq + records.length + SEQ_GAP;
  const ownerEpoch = records.reduce((epoch, record) => Math.max(epoch, record.ownerEpoch), header.ownerEpoch);
  return { header, records, nextSeq, nextOffset: offset % options.ringBytes, ownerEpoch };
}

async function readHeaders(options: ReplayOptions, member: Member): Promise<JournalHeader[]> {
  const headers: JournalHeader[] = [];
  const block = options.buffer.subarray(0, BLOCK_BYTES);
  for (const i of [0, 1]) {
    if (!(await tryRead(member, block, LAYOUT.journal + i * BLOCK_BYTES))) continue;
    const header = decodeHeader(block, options.groupUuid);
    if (header !== null) headers.push(header);
  }
  return headers;
}

/** Damage shows in the checksum; an unreadable place is as good as damaged: the other copy answers. */
async function tryRead(member: Member, target: Buffer, position: number): Promise<boolean> {
  if (!member.online) return false;
  try {
    await member.readv([target], position);
    return true;
  } catch {
    return false;
  }
}

/** Leaves the record's image in the buffer. */
async function findRecord(options: ReplayOptions, seq: number, offset: number): Promise<Found | null> {
  if (offset + BLOCK_BYTES > options.ringBytes) return null;
  for (const member of options.members) {
    const found = await readRecord(options, member, seq, offset);
    if (found !== null) return found;
  }
  return null;
}

async function readRecord(options: ReplayOptions, member: Member, seq: number, offset: number): Promise<Found | null> {
  const head = options.buffer.subarray(0, BLOCK_BYTES);
  if (!(await tryRead(member, head, RING_START + offset))) return null;
  const record = decodeRecord(head, options.groupUuid);
  if (record === null || record.seq !== seq) return null;
  const byteCount = (1 + record.payloadBlocks) * BLOCK_BYTES;
  if (byteCount > options.buffer.length || offset + byteCount > options.ringBytes) return null;
  const payload = options.buffer.subarray(BLOCK_BYTES, byteCount);
  if (payload.length > 0 && !(await tryRead(member, payload, RING_START + offset + BLOCK_BYTES))) return null;
  if (crc32c(payload) !== record.payloadChecksum) return null;
  return { seq, offset, byteCount, entries: record.entries, ownerEpoch: record.ownerEpoch };
}

interface Revoked {
  readonly upToSeq: number;
  readonly from: number;
  readonly to: number;
}

/**
 * Write everything that the records hold and that was not revoked to its place, in order, and flush it. Doing it twice does no harm.
 * @returns blocks written
 */
export async function applyRecords(options: ReplayOptions, scan: JournalScan): Promise<number> {
  const revoked = scan.records.flatMap((record) => revokesOf(record));
  let blocks = 0;
  for (const record of scan.records) {
    if (!record.entries.some((entry) => entry.kind !== REVOKE)) continue;
    const again = await findRecord(options, record.seq, record.offset);
    if (again === null)
      throw new StorageError("EIO", "a journal record became unreadable during replay", { seq: record.seq });
    blocks += await applyRecord(options, record, revoked);
  }
  await Promise.all(options.members.map((member) => member.flush(false)));
  return blocks;
}

function revokesOf(record: Found): Revoked[] {
  return record.entries
    .filter((entry) => entry.kind === REVOKE)
    .map((entry) => ({ upToSeq: entry.upToSeq, from: entry.memberBlock, to: entry.memberBlock + entry.blockCount }));
}

async function applyRecord(options: ReplayOptions, record: Found, revoked: readonly Revoked[]): Promise<number> {
  let at = BLOCK_BYTES;
  let blocks = 0;
  for (const entry of record.entries) {
    if (entry.kind === REVOKE) continue;
    const payload = options.buffer.subarray(at, at + entry.blockCount * BLOCK_BYTES);
    at += payload.length;
    if (isRevoked(record.seq, entry, revoked)) continue;
    // The label did not follow: what it says of this place is still whole there.
    if (entry.kind === MOVED && options.movedAt(entry.memberBlock) < entry.upToSeq) continue;
    await writeMarked(options, entry, payload);
    blocks += entry.blockCount;
  }
  return blocks;
}

async function writeMarked({ members, bitmap }: ReplayOptions, entry: RecordEntry, payload: Buffer): Promise<void> {
  const from = entry.memberBlock * BLOCK_BYTES;
  const write = async (): Promise<void> => members[entry.member]?.writev([payload], from, false);
  if (members.every((member) => member.online)) return write();
  const marked = bitmap.enter(from, from + payload.length);
  try {
    if (marked !== null) await marked;
    await write();
  } finally {
    bitmap.leave(from, from + payload.length);
  }
}

/** Revokes cover whole bands and entries stay inside one, so an entry is revoked whole or not at all. */
function isRevoked(seq: number, entry: RecordEntry, revoked: readonly Revoked[]): boolean {
  for (const { upToSeq, from, to } of revoked) {
    if (seq <= upToSeq && from <= entry.memberBlock && entry.memberBlock < to) return true;
  }
  return false;
}
