import { assert } from "../lib/assert.js";
import { crc32c } from "../lib/crc32c.js";
import { BLOCK_BYTES } from "../lib/units.js";
import { beginBlock, isSealedBlock, isZero, readU64, sealBlock, sealedChecksum, writeU64 } from "./block.js";
import { ENTRIES_IN_HEAD, ENTRIES_IN_LIST, ENTRY_BYTES, LIST, MAGIC, RECORD } from "./layout.js";

/**
 * A log record is head, list blocks, pages, sidecar, each in whole blocks and one after the other:
 *
 *   head    proves itself, and says which record it follows (seq, position in the log, checksum of the head before it)
 *   lists   more entries, when there are more than 500 blocks; each proves itself, the head proves all of them together
 *   body    pages, then the sidecar; block i is proven by entry i
 *
 * So every block can be proven on its own: one that rots is found in the other copy and mended, and a record counts only when all of
 * it is there. A record of an earlier lap has another position, one of an abandoned history another predecessor.
 */
export interface RecordHead {
  readonly seq: number;
  readonly epoch: number;
  /** Byte in the log, counted from its format on and never wrapped. */
  readonly position: number;
  /** Checksum of the head of record seq - 1; 0 for the first. */
  readonly previousChecksum: number;
  /** Of the database after this commit. */
  readonly pageCount: number;
  readonly pagesLogged: number;
  readonly sidecarBytes: number;
  readonly listChecksum: number;
  readonly checksum: number;
}

function sidecarBlocksOf(sidecarBytes: number): number {
  return Math.ceil(sidecarBytes / BLOCK_BYTES);
}

export function listBlocksOf(entryCount: number): number {
  return Math.ceil(Math.max(0, entryCount - ENTRIES_IN_HEAD) / ENTRIES_IN_LIST);
}

export function bodyBlocksOf(pagesLogged: number, sidecarBytes: number): number {
  return pagesLogged + sidecarBlocksOf(sidecarBytes);
}

/** Bytes of head and lists: where the first page stands in the record. */
export function bodyStartOf(pagesLogged: number, sidecarBytes: number): number {
  return (1 + listBlocksOf(bodyBlocksOf(pagesLogged, sidecarBytes))) * BLOCK_BYTES;
}

export function recordBytesOf(pagesLogged: number, sidecarBytes: number): number {
  return bodyStartOf(pagesLogged, sidecarBytes) + bodyBlocksOf(pagesLogged, sidecarBytes) * BLOCK_BYTES;
}

export type RecordFields = Omit<RecordHead, "checksum" | "listChecksum">;

/** What a record's entries say, in the order of its body blocks; a caller keeps one and reuses it. */
export class RecordEntries {
  /** SQLite page number; 0 for a block of the sidecar. */
  pages = new Uint32Array(ENTRIES_IN_HEAD);
  checksums = new Uint32Array(ENTRIES_IN_HEAD);
  count = 0;

  reserve(count: number): void {
    this.count = count;
    if (count <= this.pages.length) return;
    this.pages = new Uint32Array(count * 2);
    this.checksums = new Uint32Array(count * 2);
  }
}

/**
 * Complete a record whose body stands in place already.
 * @param record   exactly recordBytesOf(…) bytes
 * @param entries  page numbers are given, checksums are filled in
 * @returns checksum of the head
 */
export function sealRecord(record: Buffer, uuid: Buffer, fields: RecordFields, entries: RecordEntries): number {
  const bodyBlocks = bodyBlocksOf(fields.pagesLogged, fields.sidecarBytes);
  const bodyStart = bodyStartOf(fields.pagesLogged, fields.sidecarBytes);
  assert(record.length === recordBytesOf(fields.pagesLogged, fields.sidecarBytes), "a record fills its buffer");
  assert(entries.count === bodyBlocks, "an entry for each block of the body");
  for (let i = 0; i < bodyBlocks; i++) {
    const at = bodyStart + i * BLOCK_BYTES;
    entries.checksums[i] = crc32c(record.subarray(at, at + BLOCK_BYTES));
  }
  for (let i = 0; i < listBlocksOf(bodyBlocks); i++) sealList(record, uuid, fields.seq, i, entries);
  const lists = record.subarray(BLOCK_BYTES, bodyStart);
  return sealHead(record.subarray(0, BLOCK_BYTES), uuid, { ...fields, listChecksum: crc32c(lists) }, entries);
}

function sealList(record: Buffer, uuid: Buffer, seq: number, index: number, entries: RecordEntries): void {
  const at = (1 + index) * BLOCK_BYTES;
  const block = record.subarray(at, at + BLOCK_BYTES);
  beginBlock(block, MAGIC.list, uuid);
  writeU64(block, seq, LIST.seq);
  block.writeUInt32LE(index, LIST.index);
  writeEntries(block, LIST.entries, entries, ENTRIES_IN_HEAD + index * ENTRIES_IN_LIST, ENTRIES_IN_LIST);
  sealBlock(block);
}

function sealHead(block: Buffer, uuid: Buffer, head: Omit<RecordHead, "checksum">, entries: RecordEntries): number {
  beginBlock(block, MAGIC.record, uuid);
  writeU64(block, head.seq, RECORD.seq);
  writeU64(block, head.epoch, RECORD.epoch);
  writeU64(block, head.position, RECORD.position);
  block.writeUInt32LE(head.previousChecksum, RECORD.previousChecksum);
  block.writeUInt32LE(head.pageCount, RECORD.pageCount);
  block.writeUInt32LE(head.pagesLogged, RECORD.pagesLogged);
  block.writeUInt32LE(head.sidecarBytes, RECORD.sidecarBytes);
  block.writeUInt32LE(head.listChecksum, RECORD.listChecksum);
  writeEntries(block, RECORD.entries, entries, 0, ENTRIES_IN_HEAD);
  return sealBlock(block);
}

function writeEntries(block: Buffer, start: number, entries: RecordEntries, from: number, room: number): void {
  const to = Math.min(entries.count, from + room);
  let at = start;
  for (let i = from; i < to; i++) {
    block.writeUInt32LE(entries.pages[i] ?? 0, at);
    block.writeUInt32LE(entries.checksums[i] ?? 0, at + 4);
    at += ENTRY_BYTES;
  }
}

/** What stands where the head of a record has its sequence number; nothing of it is proven. */
export function seqOf(block: Buffer): number {
  return readU64(block, RECORD.seq);
}

/** @returns null when this is not the head of a record of this store */
export function decodeHead(block: Buffer, uuid: Buffer): RecordHead | null {
  if (!isSealedBlock(block, MAGIC.record, uuid)) return null;
  if (!isZero(block, RECORD.reserved, RECORD.entries)) return null;
  return {
    seq: readU64(block, RECORD.seq),
    epoch: readU64(block, RECORD.epoch),
    position: readU64(block, RECORD.position),
    previousChecksum: block.readUInt32LE(RECORD.previousChecksum),
    pageCount: block.readUInt32LE(RECORD.pageCount),
    pagesLogged: block.readUInt32LE(RECORD.pagesLogged),
    sidecarBytes: block.readUInt32LE(RECORD.sidecarBytes),
    listChecksum: block.readUInt32LE(RECORD.listChecksum),
    checksum: sealedChecksum(block),
  };
}

export function isListBlock(block: Buffer, uuid: Buffer, seq: number, index: number): boolean {
  return (
    isSealedBlock(block, MAGIC.list, uuid) &&
    readU64(block, LIST.seq) === seq &&
    block.readUInt32LE(LIST.index) === index &&
    block.readUInt32LE(LIST.reserved) === 0
  );
}

/** @param lists  all list blocks, one after the other */
export function decodeEntries(head: RecordHead, headBlock: Buffer, lists: Buffer, entries: RecordEntries): void {
  entries.reserve(bodyBlocksOf(head.pagesLogged, head.sidecarBytes));
  for (let i = 0; i < entries.count; i++) {
    const beyond = i - ENTRIES_IN_HEAD;
    const block = beyond < 0 ? headBlock : lists;
    const at = beyond < 0 ? RECORD.entries + i * ENTRY_BYTES : entryInLists(beyond);
    entries.pages[i] = block.readUInt32LE(at);
    entries.checksums[i] = block.readUInt32LE(at + 4);
  }
}

function entryInLists(index: number): number {
  const list = Math.floor(index / ENTRIES_IN_LIST);
  return list * BLOCK_BYTES + LIST.entries + (index % ENTRIES_IN_LIST) * ENTRY_BYTES;
}
