import type Database from "better-sqlite3";
import type { Clock } from "../lib/clock.js";
import { BLOCK_BYTES, KIB, MIB } from "../lib/units.js";
import { type ReplyRow, StoredReplies } from "./kept-replies.js";
import { type KeptReplies, type KeptReply, NO_REPLIES } from "./vfs.js";

export interface ReplyLogParts {
  readonly db: Database.Database;
  readonly clock: Clock;
  /** As PageStore.freePages. */
  readonly freePages: () => number;
  readonly bounds?: ReplyLogBounds;
}

export interface ReplyLogBounds {
  readonly bytesMax: number;
  readonly ageMsMax: number;
}

/** A client repeats a request within about a minute; it waits through a takeover, in which nothing else arrives that would push its reply out. */
const BOUNDS: ReplyLogBounds = { bytesMax: 4 * MIB, ageMsMax: 180_000 };
/** The oldest leave together, so that a commit does not touch their pages each time. */
const DROPPED_BYTES_MIN = 256 * KIB;
/** Of the free pages of the metadata LU, a commit may use so many for replies: files come first. */
const FREE_PAGES_SHARE = 8;

const TABLE = `
  CREATE TABLE IF NOT EXISTS reply (
    batch INTEGER PRIMARY KEY,
    at_ms INTEGER NOT NULL,
    replies BLOB NOT NULL
  ) STRICT;
`;

interface Batch {
  readonly batch: number;
  readonly atMs: number;
  readonly bytes: number;
}

/**
 * The answers to requests, kept in the page store: one row holds all answers that became durable with one commit, so that a change and its answer
 * are there after a crash, or neither is (I-7). Bounded in bytes and age; the oldest leave.
 */
export class ReplyLog {
  readonly #parts: ReplyLogParts;
  readonly #bounds: ReplyLogBounds;
  readonly #insert: Database.Statement<[number, number, Buffer]>;
  readonly #deleteUpTo: Database.Statement<[number]>;
  #pending: KeptReply[] = [];
  #pendingBytes = 0;
  /** Rows in the table, the oldest first. */
  #rows: Batch[] = [];
  #bytes = 0;
  #next = 1;
  /** Rows carry the time of service: it runs with the monotonic clock and goes on where the last owner stopped, whatever its wall clock said. */
  #timeOffsetMs = 0;
  #loaded: KeptReplies = NO_REPLIES;

  constructor(parts: ReplyLogParts) {
    this.#parts = parts;
    this.#bounds = parts.bounds ?? BOUNDS;
    const { db } = parts;
    db.exec(TABLE);
    this.#insert = db.prepare("INSERT INTO reply VALUES (?, ?, ?)");
    this.#deleteUpTo = db.prepare("DELETE FROM reply WHERE batch <= ?");
    this.#load();
  }

  /** Into the commit that is sealed next. */
  add(kept: KeptReply): void {
    this.#pending.push(kept);
    this.#pendingBytes += sizeOf(kept);
  }

  /** Those that the table held when it was opened. Once: they stay in memory for as long as somebody may ask for them. */
  takeLoaded(): KeptReplies {
    const loaded = this.#loaded;
    this.#loaded = NO_REPLIES;
    return loaded;
  }

  /** In the synchronous piece of a commit. When the metadata LU is full, old answers leave first, and then new ones are not kept. */
  seal(): void {
    if (this.#pending.length === 0) return;
    const atMs = this.#nowMs();
    this.#trim(atMs);
    const pages = Math.ceil(this.#pendingBytes / BLOCK_BYTES) + 2;
    if (pages * FREE_PAGES_SHARE > this.#parts.freePages()) this.#drop(this.#rows.length);
    else {
      this.#insert.run(this.#next, atMs, encode(this.#pending, this.#pendingBytes));
      this.#count({ batch: this.#next, atMs, bytes: this.#pendingBytes });
    }
    this.#pending = [];
    this.#pendingBytes = 0;
  }

  #nowMs(): number {
    return Math.floor(this.#parts.clock.monotonicMs()) + this.#timeOffsetMs;
  }

  #count(row: Batch): void {
    this.#rows.push(row);
    this.#bytes += row.bytes;
    this.#next = row.batch + 1;
  }

  #trim(nowMs: number): void {
    const excess = this.#bytes + this.#pendingBytes - this.#bounds.bytesMax;
    const wanted = excess > 0 ? excess + DROPPED_BYTES_MIN : 0;
    let count = 0;
    let bytes = 0;
    let oldBytes = 0;
    for (const row of this.#rows) {
      const old = nowMs - row.atMs > this.#bounds.ageMsMax;
      if (bytes >= wanted && !old) break;
      bytes += row.bytes;
      if (old) oldBytes += row.bytes;
      count++;
    }
    if (wanted > 0 || oldBytes >= DROPPED_BYTES_MIN) this.#drop(count);
  }

  /** The oldest `count` rows. */
  #drop(count: number): void {
    const dropped = this.#rows.splice(0, count);
    const last = dropped.at(-1);
    if (last === undefined) return;
    this.#deleteUpTo.run(last.batch);
    for (const { bytes } of dropped) this.#bytes -= bytes;
  }

  #load(): void {
    const rows = this.#parts.db
      .prepare<[], { batch: number; at_ms: number; replies: Buffer }>("SELECT * FROM reply ORDER BY batch")
      .all();
    const newestMs = rows.at(-1)?.at_ms ?? 0;
    this.#timeOffsetMs = newestMs - this.#nowMs();
    const young: ReplyRow[] = [];
    for (const { batch, at_ms, replies } of rows) {
      this.#count({ batch, atMs: at_ms, bytes: replies.length });
      const ageMs = Math.max(0, newestMs - at_ms);
      if (ageMs <= this.#bounds.ageMsMax) young.push({ ageMs, replies });
    }
    this.#loaded = new StoredReplies(young);
  }
}

function sizeOf({ key, reply }: KeptReply): number {
  return 5 + Buffer.byteLength(key, "latin1") + reply.length;
}

/** See ReplyRow. */
function encode(all: readonly KeptReply[], byteCount: number): Buffer {
  const bytes = Buffer.allocUnsafe(byteCount);
  let at = 0;
  for (const { key, reply } of all) {
    at = bytes.writeUInt8(key.length, at);
    at += bytes.write(key, at, "latin1");
    at = bytes.writeUInt32LE(reply.length, at);
    at += reply.copy(bytes, at);
  }
  return bytes;
}
