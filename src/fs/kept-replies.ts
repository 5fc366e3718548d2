import type { FoundReply, KeptReplies } from "./vfs.js";

const FNV_OFFSET = 0x811c9dc5;
const FNV_PRIME = 0x01000193;
/** Of the places of the table at most every second is taken. */
const PLACES_PER_REPLY = 2;

/** A row of the table `reply`: u8 length of the key, the key, u32 length of the reply, the reply, and so on; little-endian. */
export interface ReplyRow {
  readonly ageMs: number;
  readonly replies: Buffer;
}

/**
 * The answers that a file system held when it was mounted, found by their keys. A node that takes over waits until this is made, and there are tens of thousands:
 * they stay as they were stored, and a table of numbers says where (open addressing, FNV-1a).
 */
export class StoredReplies implements KeptReplies {
  readonly #rows: readonly ReplyRow[];
  readonly count: number;
  /** Of each reply, in turn: the row, and where its key begins in it. */
  readonly #places: Uint32Array;
  /** Number of a reply plus one, at the place that its key's hash names or behind it. */
  readonly #table: Uint32Array;
  readonly #mask: number;

  /** @param rows  the oldest first */
  constructor(rows: readonly ReplyRow[]) {
    this.#rows = rows;
    this.#places = placesIn(rows);
    this.count = this.#places.length / 2;
    const size = 2 ** Math.ceil(Math.log2(Math.max(2, this.count * PLACES_PER_REPLY)));
    this.#table = new Uint32Array(size);
    this.#mask = size - 1;
    // The newest first: where a key stands twice its last answer is found.
    for (let reply = this.count - 1; reply >= 0; reply--) this.#insert(reply);
  }

  find(key: string): FoundReply | null {
    const wanted = Buffer.from(key, "latin1");
    const hash = hashOf(wanted, 0, wanted.length);
    for (let at = hash & this.#mask; this.#table[at] !== 0; at = (at + 1) & this.#mask) {
      const reply = this.#table[at]! - 1;
      const { replies, ageMs } = this.#rows[this.#places[2 * reply]!]!;
      const start = this.#places[2 * reply + 1]!;
      const end = start + replies[start - 1]!;
      if (replies.compare(wanted, 0, wanted.length, start, end) !== 0) continue;
      const from = end + 4;
      return { reply: replies.subarray(from, from + replies.readUInt32LE(from - 4)), ageMs };
    }
    return null;
  }

  #insert(reply: number): void {
    const { replies } = this.#rows[this.#places[2 * reply]!]!;
    const start = this.#places[2 * reply + 1]!;
    let at = hashOf(replies, start, start + replies[start - 1]!) & this.#mask;
    while (this.#table[at] !== 0) at = (at + 1) & this.#mask;
    this.#table[at] = reply + 1;
  }
}

/** Once to count them, once to note them. */
function placesIn(rows: readonly ReplyRow[]): Uint32Array {
  let count = 0;
  for (const { replies } of rows) for (let at = 0; at < replies.length; at = endOf(replies, at)) count++;
  const places = new Uint32Array(2 * count);
  let next = 0;
  for (let row = 0; row < rows.length; row++) {
    const { replies } = rows[row]!;
    for (let at = 0; at < replies.length; at = endOf(replies, at)) {
      places[next++] = row;
      places[next++] = at + 1;
    }
  }
  return places;
}

/** Of the reply that begins at a byte. */
function endOf(replies: Buffer, at: number): number {
  const length = at + 1 + replies[at]!;
  return length + 4 + replies.readUInt32LE(length);
}

function hashOf(bytes: Buffer, start: number, end: number): number {
  let hash = FNV_OFFSET;
  for (let i = start; i < end; i++) hash = Math.imul(hash ^ bytes[i]!, FNV_PRIME);
  return hash >>> 0;
}
