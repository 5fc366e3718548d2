import type Database from "better-sqlite3";
import { must } from "../../lib/assert.js";
import { type Clock, wallMs } from "../../lib/clock.js";
import { StorageError } from "../../lib/errors.js";
import type { Logger } from "../../lib/log.js";
import type { Random } from "../../lib/prng.js";
import { MIB } from "../../lib/units.js";
import type { LogicalUnit } from "../../lu/lu.js";
import { formatPageStore, probePageStore } from "../../pagestore/format.js";
import { openPageStore } from "../../pagestore/open.js";
import type { LogPageStore } from "../../pagestore/store.js";
import {
  compareAge,
  createTables,
  decodeRow,
  PAGE_STORE_KIND,
  type RecordAge,
  readAge,
  readRows,
  type StoredRow,
  writeAge,
} from "./record-tables.js";
import {
  KEY_BYTES_MAX,
  type NodeRecord,
  RECORD_KINDS,
  RECORDS_MAX,
  type RecordKind,
  type RecordValue,
  type RecordWriter,
  type UpsertResult,
  VALUE_BYTES_MAX,
} from "./records.js";

/** SQLite's page cache: the tables are small. */
export const RECORD_CACHE_BYTES = MIB;
/** One row and what splits for it: a page of each level of the tree, and what the value spills over into. */
const PAGES_PER_ROW = 8;

export interface NodeRecordsOptions {
  /** Open for writing; it belongs to the records from here on. */
  readonly lu: LogicalUnit;
  /** Whose records they are. */
  readonly node: string;
  readonly epoch: number;
  readonly scratchDir: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  /** There is no room: a sentence for people, once until there is room again. */
  readonly onRefused?: ((what: string) => void) | undefined;
  /** Begin anew, whatever the partition holds. */
  readonly fresh?: boolean | undefined;
}

type Rows = Map<string, StoredRow>;

/** The records of one node on one partition: a page store with a table for each kind. What does not change is not written. */
export class NodeRecords implements RecordWriter {
  readonly #options: NodeRecordsOptions;
  readonly #store: LogPageStore;
  readonly #rows: ReadonlyMap<RecordKind, Rows>;
  readonly #put: ReadonlyMap<RecordKind, Database.Statement>;
  readonly #remove: ReadonlyMap<RecordKind, Database.Statement>;
  #age: RecordAge;
  #dirty = false;
  #closed = false;
  #refusing = false;

  private constructor(options: NodeRecordsOptions, store: LogPageStore) {
    this.#options = options;
    this.#store = store;
    const { db } = store;
    this.#age = readAge(db);
    const each = <T>(make: (kind: RecordKind) => T) => new Map(RECORD_KINDS.map((kind) => [kind, make(kind)]));
    this.#rows = each((kind) => new Map(readRows(db, kind).map((row) => [row.key, row])));
    this.#put = each((kind) => db.prepare(`INSERT OR REPLACE INTO ${kind} VALUES (?, ?, ?)`));
    this.#remove = each((kind) => db.prepare(`DELETE FROM ${kind} WHERE key = ?`));
  }

  /**
   * Open the records, or begin them on a partition that holds none.
   * @throws StorageError EIO (damaged in every copy, or another's), ESTALE (a newer owner has written it); the LU stays the caller's then
   */
  static async open(options: NodeRecordsOptions): Promise<NodeRecords> {
    const { lu, node, clock, random, log, scratchDir, epoch } = options;
    const there = options.fresh === true ? null : await probePageStore(lu);
    if (there === null) await formatPageStore({ lu, kind: PAGE_STORE_KIND, name: node, random, clock });
    else if (there.kind !== PAGE_STORE_KIND || there.name !== node) {
      throw new StorageError("EIO", `the partition of ${node} holds "${there.name}" of kind "${there.kind}"`);
    }
    const cacheBytes = RECORD_CACHE_BYTES;
    const store = await openPageStore({ lu, scratchDir, clock, log, epoch: () => epoch, cacheBytes });
    try {
      createTables(store.db);
      await store.durable();
      return new NodeRecords(options, store);
    } catch (error) {
      await store.close().catch(() => {});
      throw error;
    }
  }

  /** As of the last `durable`. */
  get age(): RecordAge {
    return this.#age;
  }

  get usable(): boolean {
    return !this.#closed && !this.#store.failed;
  }

  /** Why nothing can be written any more. */
  get failure(): Error | null {
    return this.#store.failure;
  }

  get size(): number {
    return RECORD_KINDS.reduce((sum, kind) => sum + this.#table(kind).size, 0);
  }

  upsert<K extends RecordKind>(kind: K, key: string, value: RecordValue<K>): UpsertResult {
    return this.put(kind, rowOf(key, value, this.#options.clock));
  }

  /** As `upsert`, of a row as it is stored; its time counts only when the value is another one. */
  put(kind: RecordKind, row: StoredRow): UpsertResult {
    const { key, value, updatedMs } = row;
    const rows = this.#table(kind);
    if (rows.get(key)?.value === value) return "unchanged";
    if (!this.usable || !this.#hasRoom(kind, row, rows)) return "refused";
    must(this.#put.get(kind), "every kind has a table").run(key, value, updatedMs);
    rows.set(key, row);
    this.#dirty = true;
    return "written";
  }

  delete(kind: RecordKind, key: string): boolean {
    if (!this.usable || !this.#table(kind).delete(key)) return false;
    must(this.#remove.get(kind), "every kind has a table").run(key);
    this.#dirty = true;
    this.#refusing = false;
    return true;
  }

  /** By key. Rows whose shape this version does not know are passed over. */
  list<K extends RecordKind>(kind: K): NodeRecord<K>[] {
    return this.rows(kind).flatMap((row) => decodeRow(kind, row) ?? []);
  }

  rows(kind: RecordKind): StoredRow[] {
    return [...this.#table(kind).values()].sort((a, b) => (a.key < b.key ? -1 : 1));
  }

  row(kind: RecordKind, key: string): StoredRow | undefined {
    return this.#table(kind).get(key);
  }

  durable(): Promise<void> {
    const { sequence } = this.#age;
    return this.commit({ epoch: this.#options.epoch, sequence: sequence + (this.#dirty ? 1 : 0) });
  }

  /** As `durable`, with an age that somebody else counts. */
  async commit(age: RecordAge): Promise<void> {
    if (this.usable && (this.#dirty || compareAge(age, this.#age) !== 0)) {
      writeAge(this.#store.db, age);
      this.#age = age;
      this.#dirty = false;
    }
    await this.#store.durable();
  }

  /** Commit, and release the LU. */
  async close(): Promise<void> {
    if (this.#closed) return;
    try {
      if (this.usable && this.#dirty) await this.durable();
    } finally {
      this.#closed = true;
      await this.#store.close().finally(() => this.#options.lu.close());
    }
  }

  /** Whether `put` would refuse; asked before a row goes to several places. */
  accepts(kind: RecordKind, row: StoredRow): boolean {
    return this.usable && this.#hasRoom(kind, row, this.#table(kind));
  }

  #table(kind: RecordKind): Rows {
    return must(this.#rows.get(kind), "every kind has a table");
  }

  #hasRoom(kind: RecordKind, { key, value }: StoredRow, rows: Rows): boolean {
    const { node } = this.#options;
    if (Buffer.byteLength(key) > KEY_BYTES_MAX || Buffer.byteLength(value) > VALUE_BYTES_MAX) {
      return this.#refuse(`a ${kind} record of node ${node} is too large`);
    }
    if (rows.size >= RECORDS_MAX[kind] && !rows.has(key)) {
      return this.#refuse(`node ${node} has ${rows.size} ${kind} records: no more are kept`);
    }
    if (this.#store.freePages() < PAGES_PER_ROW) return this.#refuse(`the partition of node ${node} is full`);
    return true;
  }

  /** @returns false */
  #refuse(what: string): boolean {
    if (!this.#refusing) this.#options.onRefused?.(what);
    this.#refusing = true;
    return false;
  }
}

/** A record as it is stored, changed now. */
export function rowOf<K extends RecordKind>(key: string, value: RecordValue<K>, clock: Clock): StoredRow {
  return { key, value: JSON.stringify(value), updatedMs: wallMs(clock) };
}
