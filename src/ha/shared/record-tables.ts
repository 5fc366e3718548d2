import type Database from "better-sqlite3";
import { StorageError } from "../../lib/errors.js";
import { type NodeRecord, RECORD_KINDS, RECORD_SCHEMAS, type RecordKind } from "./records.js";

/** The tables in the page store of a partition (docs/format/shared.md). */

export const PAGE_STORE_KIND = "chn";
const VERSION = 1;

const SCHEMA = `
${RECORD_KINDS.map((kind) => `CREATE TABLE IF NOT EXISTS ${kind} (key TEXT PRIMARY KEY, value TEXT NOT NULL, updatedMs INTEGER NOT NULL) WITHOUT ROWID;`).join("\n")}
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT OR IGNORE INTO meta VALUES ('version', ${VERSION}), ('sequence', 0), ('epoch', 0);
`;

/** How new the records are: under which epoch, and after how many commits. */
export interface RecordAge {
  readonly epoch: number;
  readonly sequence: number;
}

/** @returns above 0 when a is newer */
export function compareAge(a: RecordAge, b: RecordAge): number {
  return a.epoch - b.epoch || a.sequence - b.sequence;
}

export interface StoredRow {
  readonly key: string;
  readonly value: string;
  readonly updatedMs: number;
}

export function createTables(db: Database.Database): void {
  db.exec(SCHEMA);
}

/** A store that was formatted, and whose first commit never came to be durable, has none. */
export function hasTables(db: Database.Database): boolean {
  return db.prepare("SELECT 1 FROM sqlite_master WHERE name = 'meta'").get() !== undefined;
}

/** @throws StorageError EIO for a version that is not ours */
export function readAge(db: Database.Database): RecordAge {
  const rows = db.prepare("SELECT key, value FROM meta").all() as { key: string; value: number }[];
  const meta = new Map(rows.map(({ key, value }) => [key, value]));
  const version = meta.get("version");
  if (version !== VERSION) throw new StorageError("EIO", `records of version ${version} are not understood`);
  return { epoch: meta.get("epoch") ?? 0, sequence: meta.get("sequence") ?? 0 };
}

export function writeAge(db: Database.Database, { epoch, sequence }: RecordAge): void {
  const set = db.prepare("UPDATE meta SET value = ? WHERE key = ?");
  set.run(epoch, "epoch");
  set.run(sequence, "sequence");
}

export function readRows(db: Database.Database, kind: RecordKind): StoredRow[] {
  return db.prepare(`SELECT key, value, updatedMs FROM ${kind} ORDER BY key`).all() as StoredRow[];
}

/** @returns null when the value is not of a shape that this version knows */
export function decodeRow<K extends RecordKind>(kind: K, { key, value, updatedMs }: StoredRow): NodeRecord<K> | null {
  try {
    const parsed = RECORD_SCHEMAS[kind].parse(JSON.parse(value)) as NodeRecord<K>["value"];
    return { key, value: parsed, updatedMs };
  } catch {
    return null;
  }
}
