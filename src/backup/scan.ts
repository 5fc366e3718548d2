import type { z } from "zod";
import type { InodeRow } from "../fs/inode-row.js";
import type { SnapshotEntry } from "../fs/snapshot/snapshot.js";
import { StorageError } from "../lib/errors.js";
import {
  type BackupEnd,
  type BackupHeader,
  damaged,
  endSchema,
  failedSchema,
  headerSchema,
  RecordType,
  type TablesEnd,
  tablesSchema,
} from "./format.js";
import { type IncomingRecord, StreamReader } from "./read.js";
import { decodeEntries, decodeGroup, decodeInodes, type IncomingGroup, parseJson } from "./rows.js";

/** Told of what a stream holds, in its order; each call is awaited. What is absent is checked all the same. */
export interface StreamVisitor {
  header?(header: BackupHeader): void | Promise<void>;
  inodes?(rows: readonly InodeRow[]): void | Promise<void>;
  entries?(entries: readonly SnapshotEntry[]): void | Promise<void>;
  tables?(end: TablesEnd): void | Promise<void>;
  group?(group: IncomingGroup): void | Promise<void>;
  node?(record: unknown): void | Promise<void>;
}

/** One part of a stream. */
export interface ScannedPart {
  readonly header: BackupHeader;
  /** Where its first block stands in the stream. */
  readonly from: number;
  /** Behind its last block. */
  to: number;
  /** Null: it was broken off, and another part goes on from it. */
  end: BackupEnd | null;
  /** The last group that is there whole. */
  last: { readonly ino: number; readonly group: number } | null;
}

/** Reads a stream to its end, and proves that it is whole and in order. */
export class StreamScanner {
  readonly parts: ScannedPart[] = [];
  readonly #reader: StreamReader;
  readonly #visitor: StreamVisitor;
  #inodes = 0;
  #entries = 0;
  #inTables = true;
  #counts = { records: 0, groups: 0, dataBytes: 0 };

  constructor(source: AsyncIterable<Buffer>, visitor: StreamVisitor = {}) {
    this.#reader = new StreamReader(source);
    this.#visitor = visitor;
  }

  /** Of whole blocks that were good, from the start. */
  get goodBytes(): number {
    return this.#reader.goodBytes;
  }

  /** File data so far. */
  get dataBytes(): number {
    return this.#counts.dataBytes;
  }

  /** @throws StorageError EIO naming the byte, or what the daemon could not do */
  async run(): Promise<readonly ScannedPart[]> {
    for await (const record of this.#reader.records()) {
      if (record.first) await this.#begin(record);
      else await this.#take(record, this.parts.at(-1)!);
      const part = this.parts.at(-1);
      if (part !== undefined) part.to = this.#reader.goodBytes;
      this.#counts.records++;
    }
    const gone = new Set(this.parts.map(({ header }) => header.continues));
    const broken = this.parts.find(({ end, header }) => end === null && !gone.has(header.backup));
    if (broken !== undefined) throw damaged("the stream ends too early", broken.to);
    return this.parts;
  }

  async #begin(record: IncomingRecord): Promise<void> {
    const { type, content, backup, at } = record;
    if (type === RecordType.failed) this.#fail(content, at);
    if (type !== RecordType.header) throw damaged("a part does not begin with its header", at);
    const header = parsed(headerSchema, content, at);
    if (header.backup !== backup) throw damaged("the header is of another backup than its block", at);
    this.parts.push({ header, from: at, to: at, end: null, last: null });
    this.#inodes = 0;
    this.#entries = 0;
    this.#inTables = true;
    this.#counts = { records: 0, groups: 0, dataBytes: 0 };
    await this.#visitor.header?.(header);
  }

  async #take({ type, content, at }: IncomingRecord, part: ScannedPart): Promise<void> {
    if (part.header.kind === "file-system" && this.#inTables && type !== RecordType.failed)
      return this.#takeTable(type, content, at);
    if (type === RecordType.group) await this.#takeGroup(decodeGroup(content, at), part);
    else if (type === RecordType.node) await this.#visitor.node?.(parseJson(content, at));
    else if (type === RecordType.end) part.end = this.#ended(parsed(endSchema, content, at), at);
    else if (type === RecordType.failed) this.#fail(content, at);
    else throw damaged(`a record of type ${type} stands where none can be`, at);
  }

  async #takeTable(type: number, content: Buffer, at: number): Promise<void> {
    if (type === RecordType.inodes) {
      const rows = decodeInodes(content, at);
      this.#inodes += rows.length;
      await this.#visitor.inodes?.(rows);
    } else if (type === RecordType.entries) {
      const entries = decodeEntries(content, at);
      this.#entries += entries.length;
      await this.#visitor.entries?.(entries);
    } else if (type === RecordType.tables) {
      const tables = parsed(tablesSchema, content, at);
      if (tables.inodes !== this.#inodes || tables.entries !== this.#entries)
        throw damaged("the tables hold another number of rows than they say", at);
      this.#inTables = false;
      await this.#visitor.tables?.(tables);
    } else throw damaged(`a record of type ${type} stands inside the tables`, at);
  }

  async #takeGroup(group: IncomingGroup, part: ScannedPart): Promise<void> {
    this.#counts.groups++;
    this.#counts.dataBytes += group.data.length;
    part.last = { ino: group.ino, group: group.group };
    await this.#visitor.group?.(group);
  }

  #ended(end: BackupEnd, at: number): BackupEnd {
    const { records, groups, dataBytes } = this.#counts;
    if (end.records !== records || end.groups !== groups || end.dataBytes !== dataBytes)
      throw damaged("the stream holds another number of records than its end says", at);
    return end;
  }

  #fail(content: Buffer, at: number): never {
    throw new StorageError("EIO", parsed(failedSchema, content, at).message);
  }
}

function parsed<T extends z.ZodType>(schema: T, content: Buffer, at: number): z.infer<T> {
  const result = schema.safeParse(parseJson(content, at));
  if (!result.success) throw damaged("a record does not say what it must", at);
  return result.data;
}
