import type { InodeRow } from "../fs/inode-row.js";
import type { SnapshotEntry } from "../fs/snapshot/snapshot.js";
import { BLOCK_BYTES } from "../lib/units.js";
import { damaged, GROUP, GROUP_BLOCKS, jsonRecord, type OutgoingRecord, RecordType } from "./format.js";

/** Columns of an inode row; the last two are bytes or null, all others whole numbers. */
const INODE_COLUMNS = 22;
const INODE_NUMBERS = 20;
const NAME_BYTES_MAX = 255;
const ENTRY_COLUMNS = 4;

/** Bytes are written as text of Latin-1: a character for each. */
export function inodesRecord(rows: readonly InodeRow[]): OutgoingRecord {
  const texts = rows.map((row) => row.map((value) => (Buffer.isBuffer(value) ? value.toString("latin1") : value)));
  return jsonRecord(RecordType.inodes, texts);
}

export function entriesRecord(entries: readonly SnapshotEntry[]): OutgoingRecord {
  const rows = entries.map(({ parent, name, cookie, ino }) => [parent, name.toString("latin1"), cookie, ino]);
  return jsonRecord(RecordType.entries, rows);
}

/** @throws StorageError EIO */
export function decodeInodes(content: Buffer, at: number): InodeRow[] {
  return rowsOf(content, at).map((row) => {
    const bytes = row.slice(INODE_NUMBERS);
    const good =
      row.length === INODE_COLUMNS &&
      row.slice(0, INODE_NUMBERS).every(Number.isSafeInteger) &&
      bytes.every((value) => value === null || typeof value === "string");
    if (!good) throw damaged("an inode is not one", at);
    // Each column was just checked.
    return [...row.slice(0, INODE_NUMBERS), ...bytes.map(bytesOrNull)] as unknown as InodeRow;
  });
}

/** @throws StorageError EIO */
export function decodeEntries(content: Buffer, at: number): SnapshotEntry[] {
  return rowsOf(content, at).map((row) => {
    const [parent, text, cookie, ino] = row;
    const name = bytesOrNull(text);
    const numbers = [parent, cookie, ino].every(Number.isSafeInteger);
    if (row.length !== ENTRY_COLUMNS || !numbers || name === null || !isName(name))
      throw damaged("a directory entry is not one", at);
    return { parent: Number(parent), name, cookie: Number(cookie), ino: Number(ino) };
  });
}

function rowsOf(content: Buffer, at: number): unknown[][] {
  const rows = parseJson(content, at);
  if (!Array.isArray(rows) || !rows.every(Array.isArray)) throw damaged("a table is not one", at);
  return rows;
}

/** @throws StorageError EIO */
export function parseJson(content: Buffer, at: number): unknown {
  try {
    return JSON.parse(content.toString("utf8"));
  } catch {
    throw damaged("a record cannot be read", at);
  }
}

function bytesOrNull(value: unknown): Buffer | null {
  return typeof value === "string" ? Buffer.from(value, "latin1") : null;
}

function isName(name: Buffer): boolean {
  return name.length > 0 && name.length <= NAME_BYTES_MAX && !name.includes(0x2f) && !name.includes(0);
}

/** @param data  the blocks of `slots`, one after the other */
export function groupRecord(ino: number, group: number, slots: readonly number[], data: Buffer): OutgoingRecord {
  const head = Buffer.alloc(GROUP.content);
  head.writeUIntLE(ino, GROUP.ino, 6);
  head.writeUInt32LE(group, GROUP.group);
  for (const slot of slots) head[GROUP.mask + (slot >> 3)]! |= 1 << (slot & 7);
  return { type: RecordType.group, parts: [head, data.subarray(0, slots.length * BLOCK_BYTES)] };
}

export interface IncomingGroup {
  readonly ino: number;
  readonly group: number;
  readonly slots: readonly number[];
  /** A view of the record. */
  readonly data: Buffer;
}

/** @throws StorageError EIO */
export function decodeGroup(content: Buffer, at: number): IncomingGroup {
  if (content.length < GROUP.content) throw damaged("a group record is too short", at);
  const slots: number[] = [];
  for (let slot = 0; slot < GROUP_BLOCKS; slot++) {
    if ((content[GROUP.mask + (slot >> 3)]! & (1 << (slot & 7))) !== 0) slots.push(slot);
  }
  if (content.length !== GROUP.content + slots.length * BLOCK_BYTES)
    throw damaged("a group record has another length than its blocks", at);
  const ino = content.readUIntLE(GROUP.ino, 6);
  return { ino, group: content.readUInt32LE(GROUP.group), slots, data: content.subarray(GROUP.content) };
}
