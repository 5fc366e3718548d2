import { assert } from "../lib/assert.js";
import { BLOCK_BYTES } from "../lib/units.js";
import { checksumHolds, getU64, getUuid, isZero, putU64, putUuid, sealChecksum } from "./fields.js";

/**
 * The journal area of a member: two alternating header blocks (sequence mod 2), then the ring of records.
 * A header, one block: it says where replay begins.
 *   0 [8] magic "STRPJHDR"    8 u32 version      12 u32 checksum (CRC-32C of the block, this field zero)
 *  16 [16] groupUuid         32 u64 sequence     40 u64 tailSeq (of the first record that counts)
 *  48 u64 tailOffset (byte in the ring)          56 u64 ownerEpoch     64 reserved, to 4096
 */
export const JOURNAL_HEADER = {
  magic: 0,
  version: 8,
  checksum: 12,
  groupUuid: 16,
  sequence: 32,
  tailSeq: 40,
  tailOffset: 48,
  ownerEpoch: 56,
  reserved: 64,
  end: 4096,
} as const;

/**
 * A record: one block of head, then its payload blocks in the order of its entries. It never wraps: when the rest of the ring is too
 * short, it stands at offset 0.
 *   0 [8] magic "STRPJREC"    8 u32 version      12 u32 checksum (CRC-32C of the head, this field zero)
 *  16 [16] groupUuid         32 u64 seq          40 u64 ownerEpoch     48 u64 generation
 *  56 u32 entryCount         60 u32 payloadBlocks                      64 u32 payloadChecksum (CRC-32C)
 *  68 reserved               72 u64 previousSeq (of the record before it in the chain; in version 1 zero: seq - 1)
 *  80 reserved              112 entries: 166 of 24 bytes (JOURNAL_ENTRY)
 * The record after one of seq s is the one with previousSeq s, directly behind it or at offset 0; of several the one with the highest seq. After a
 * crash the
 * chain goes on with a gap: what a torn last record left on a member that was away then has a lower seq.
 */
export const JOURNAL_RECORD = {
  magic: 0,
  version: 8,
  checksum: 12,
  groupUuid: 16,
  seq: 32,
  ownerEpoch: 40,
  generation: 48,
  entryCount: 56,
  payloadBlocks: 60,
  payloadChecksum: 64,
  reserved: 68,
  previousSeq: 72,
  reserved2: 80,
  entries: 112,
  end: 4096,
} as const;

/**
 * 0 u64 memberBlock, 8 u64 upToSeq (0 for data and placed; bytes for moved), 16 u32 blockCount, 20 u16 member slot (0 for a revoke), 22 u16 kind,
 * 24 end
 */
export const JOURNAL_ENTRY = { memberBlock: 0, upToSeq: 8, blockCount: 16, member: 20, kind: 22, end: 24 } as const;

export const ENTRIES_MAX = (JOURNAL_RECORD.end - JOURNAL_RECORD.entries) / JOURNAL_ENTRY.end;
assert(ENTRIES_MAX === 166, "entries fill the head of a record");

/**
 * data: the payload belongs at `memberBlock` of one member, as soon as the parity of that column is in the journal, too. revoke: records up to
 * `upToSeq` say nothing
 * of these blocks, on any member. moved: the payload belongs there, but only when the label says that the LU has `movedBytes` of at least `upToSeq`
 * (move-window.ts). parity: the payload belongs there, and is the parity of these columns with the data of all records up to `upToSeq`.
 * placed: the payload belongs there (version 1 called that data; not written any more).
 */
export const DATA = 1;
export const REVOKE = 2;
export const MOVED = 3;
export const PARITY = 4;
export const PLACED = 5;

const HEADER_MAGIC = "STRPJHDR";
const RECORD_MAGIC = "STRPJREC";
const HEADER_VERSION = 1;
/** Version 1 had all data with its parity in one record, and no previousSeq. */
const RECORD_VERSION = 2;

export interface JournalHeader {
  readonly sequence: number;
  readonly tailSeq: number;
  readonly tailOffset: number;
  readonly ownerEpoch: number;
}

export function encodeHeader(block: Buffer, uuid: string, header: JournalHeader): void {
  block.fill(0);
  block.write(HEADER_MAGIC, JOURNAL_HEADER.magic, "latin1");
  block.writeUInt32LE(HEADER_VERSION, JOURNAL_HEADER.version);
  putUuid(block, JOURNAL_HEADER.groupUuid, uuid);
  putU64(block, JOURNAL_HEADER.sequence, header.sequence);
  putU64(block, JOURNAL_HEADER.tailSeq, header.tailSeq);
  putU64(block, JOURNAL_HEADER.tailOffset, header.tailOffset);
  putU64(block, JOURNAL_HEADER.ownerEpoch, header.ownerEpoch);
  sealChecksum(block, JOURNAL_HEADER.checksum);
}

/** @returns null unless it is a sound header of this group */
export function decodeHeader(block: Buffer, uuid: string): JournalHeader | null {
  if (!looksRight(block, HEADER_MAGIC, HEADER_VERSION, JOURNAL_HEADER.checksum, uuid)) return null;
  if (!isZero(block, JOURNAL_HEADER.reserved, JOURNAL_HEADER.end)) return null;
  const header = {
    sequence: getU64(block, JOURNAL_HEADER.sequence),
    tailSeq: getU64(block, JOURNAL_HEADER.tailSeq),
    tailOffset: getU64(block, JOURNAL_HEADER.tailOffset),
    ownerEpoch: getU64(block, JOURNAL_HEADER.ownerEpoch),
  };
  const whole = Object.values(header).every((field) => !Number.isNaN(field));
  return whole && header.tailOffset % BLOCK_BYTES === 0 ? header : null;
}

function looksRight(block: Buffer, magic: string, version: number, checksumAt: number, uuid: string): boolean {
  return (
    block.toString("latin1", 0, 8) === magic &&
    block.readUInt32LE(8) === version &&
    checksumHolds(block, checksumAt) &&
    getUuid(block, 16) === uuid
  );
}

export interface RecordEntry {
  readonly kind: number;
  readonly member: number;
  readonly memberBlock: number;
  readonly blockCount: number;
  /** Of a revoke or parity; 0 for data and placed; of moved, a byte of the LU. */
  readonly upToSeq: number;
}

export interface RecordHead {
  readonly seq: number;
  /** Of the record before it in the chain. */
  readonly previousSeq: number;
  readonly ownerEpoch: number;
  readonly generation: number;
  readonly payloadBlocks: number;
  readonly payloadChecksum: number;
  readonly entries: readonly RecordEntry[];
}

/** Write one entry into the head of a record that is being put together. */
export function putEntry(block: Buffer, index: number, entry: RecordEntry): void {
  const at = JOURNAL_RECORD.entries + index * JOURNAL_ENTRY.end;
  putU64(block, at + JOURNAL_ENTRY.memberBlock, entry.memberBlock);
  putU64(block, at + JOURNAL_ENTRY.upToSeq, entry.upToSeq);
  block.writeUInt32LE(entry.blockCount, at + JOURNAL_ENTRY.blockCount);
  block.writeUInt16LE(entry.member, at + JOURNAL_ENTRY.member);
  block.writeUInt16LE(entry.kind, at + JOURNAL_ENTRY.kind);
}

/** Complete a head whose entries are in place. */
export function sealRecord(
  block: Buffer,
  uuid: string,
  head: Omit<RecordHead, "entries"> & { entryCount: number },
): void {
  block.fill(0, 0, JOURNAL_RECORD.entries);
  block.fill(0, JOURNAL_RECORD.entries + head.entryCount * JOURNAL_ENTRY.end, JOURNAL_RECORD.end);
  block.write(RECORD_MAGIC, JOURNAL_RECORD.magic, "latin1");
  block.writeUInt32LE(RECORD_VERSION, JOURNAL_RECORD.version);
  putUuid(block, JOURNAL_RECORD.groupUuid, uuid);
  putU64(block, JOURNAL_RECORD.seq, head.seq);
  putU64(block, JOURNAL_RECORD.previousSeq, head.previousSeq);
  putU64(block, JOURNAL_RECORD.ownerEpoch, head.ownerEpoch);
  putU64(block, JOURNAL_RECORD.generation, head.generation);
  block.writeUInt32LE(head.entryCount, JOURNAL_RECORD.entryCount);
  block.writeUInt32LE(head.payloadBlocks, JOURNAL_RECORD.payloadBlocks);
  block.writeUInt32LE(head.payloadChecksum, JOURNAL_RECORD.payloadChecksum);
  sealChecksum(block.subarray(0, JOURNAL_RECORD.end), JOURNAL_RECORD.checksum);
}

/** @returns null unless it is a sound record head of this group; the payload is the caller's to check */
export function decodeRecord(block: Buffer, uuid: string): RecordHead | null {
  const sound = (version: number) => looksRight(block, RECORD_MAGIC, version, JOURNAL_RECORD.checksum, uuid);
  const old = sound(1);
  if (!old && !sound(RECORD_VERSION)) return null;
  const entryCount = block.readUInt32LE(JOURNAL_RECORD.entryCount);
  const payloadBlocks = block.readUInt32LE(JOURNAL_RECORD.payloadBlocks);
  if (entryCount > ENTRIES_MAX || !isZero(block, JOURNAL_RECORD.reserved2, JOURNAL_RECORD.entries)) return null;
  const entries: RecordEntry[] = [];
  let blocks = 0;
  for (let i = 0; i < entryCount; i++) {
    const entry = getEntry(block, JOURNAL_RECORD.entries + i * JOURNAL_ENTRY.end);
    if (entry === null) return null;
    if (entry.kind !== REVOKE) blocks += entry.blockCount;
    entries.push(old && entry.kind === DATA ? { ...entry, kind: PLACED } : entry);
  }
  const seq = getU64(block, JOURNAL_RECORD.seq);
  const previousSeq = old ? seq - 1 : getU64(block, JOURNAL_RECORD.previousSeq);
  const ownerEpoch = getU64(block, JOURNAL_RECORD.ownerEpoch);
  const generation = getU64(block, JOURNAL_RECORD.generation);
  if (blocks !== payloadBlocks || Number.isNaN(seq + previousSeq + ownerEpoch + generation)) return null;
  const payloadChecksum = block.readUInt32LE(JOURNAL_RECORD.payloadChecksum);
  return { seq, previousSeq, ownerEpoch, generation, payloadBlocks, payloadChecksum, entries };
}

function getEntry(block: Buffer, at: number): RecordEntry | null {
  const kind = block.readUInt16LE(at + JOURNAL_ENTRY.kind);
  const memberBlock = getU64(block, at + JOURNAL_ENTRY.memberBlock);
  const blockCount = block.readUInt32LE(at + JOURNAL_ENTRY.blockCount);
  const upToSeq = getU64(block, at + JOURNAL_ENTRY.upToSeq);
  if (kind < DATA || kind > PARITY || Number.isNaN(memberBlock + upToSeq) || blockCount === 0) return null;
  return { kind, member: block.readUInt16LE(at + JOURNAL_ENTRY.member), memberBlock, blockCount, upToSeq };
}
