import { assert } from "../../lib/assert.js";
import { KIB } from "../../lib/units.js";
import type { BufferPool } from "./buffer-pool.js";
import { LAST_FRAGMENT } from "./message.js";

/** Framing is lost: the connection is closed, nothing can be answered. */
export class RecordError extends Error {
  override name = "RecordError";
}

/** Who takes complete records. */
export interface RecordSink {
  /** No more records until something is done: `feed` stops behind the last record and says where. One that has begun is read to its end: it has its room. */
  readonly stalled: boolean;
  /** The largest record that is taken now. */
  readonly recordBytesMax: number;
  /**
   * Memory for a record that does not lie whole in a chunk, as much as it can become: so nobody has half of one and waits for the other half.
   * @returns false when there is none now: `feed` stops, and goes on after `RecordReader.roomGranted`
   */
  takeRoom(byteCount: number): boolean;
  giveRoom(byteCount: number): void;
  /**
   * One record: bytes `start` to `end` of `buffer`. When `lease` is not null the bytes lie in a pooled buffer, and the sink gives `lease` back
   * to the pool when the request is done with it; otherwise they are a view into the chunk that came from the socket. The room taken for it has
   * been given back.
   */
  onRecord(buffer: Buffer, start: number, end: number, lease: Buffer | null): void;
}

/**
 * How much is taken for a record at first. A mark promises up to the record limit; memory follows what really arrives, and the usual
 * largest request (a WRITE of 256 KiB) needs no second step.
 */
const FIRST_STEP_BYTES = 320 * KIB;
const NOTHING = Buffer.alloc(0);

/**
 * TCP record marking, RFC 5531 section 11. A record that lies in one chunk as one fragment is handed on without copying; any other is
 * assembled in a pooled buffer. A mark is believed only up to the limit.
 */
export class RecordReader {
  /** The mark that is being read: bytes of it seen, their value. */
  #markBytes = 0;
  #mark = 0;
  /** Bytes of the current fragment still to come. */
  #fragmentLeft = 0;
  #inFragment = false;
  #last = false;
  #fragments = 0;
  #record: Buffer = NOTHING;
  #recordBytes = 0;
  /** Taken of the sink for the record; and what is still wanted of it before reading goes on. */
  #room = 0;
  #roomWanted = 0;

  constructor(
    private readonly sink: RecordSink,
    private readonly pool: BufferPool,
    private readonly fragmentsMax: number,
  ) {}

  /** What comes next belongs to a record that has its room. */
  get midRecord(): boolean {
    return this.#inFragment || this.#fragments > 0;
  }

  /** Nothing can be read before room is granted. */
  get waitsForRoom(): boolean {
    return this.#roomWanted > 0;
  }

  /** Held for a record that is not complete. */
  get roomBytes(): number {
    return this.#room;
  }

  /** What the sink refused has been taken now. */
  roomGranted(): void {
    this.#room += this.#roomWanted;
    this.#roomWanted = 0;
  }

  /** A record has begun and is not complete. */
  get partial(): boolean {
    return this.#markBytes > 0 || this.#inFragment || this.#fragments > 0;
  }

  /**
   * Take bytes from `at` on. @returns where it stopped: the chunk's length, or less when the sink stalled
   * @throws RecordError when the stream cannot be followed any more
   */
  feed(chunk: Buffer, at: number): number {
    let next = at;
    while (next < chunk.length && this.#roomWanted === 0 && (this.midRecord || !this.sink.stalled))
      next = this.#step(chunk, next);
    return next;
  }

  /** Give the pooled buffer back when the connection ends. */
  close(): void {
    if (this.#record.length > 0) this.pool.release(this.#record);
    this.#record = NOTHING;
    this.#giveRoom();
  }

  #step(chunk: Buffer, at: number): number {
    if (this.#inFragment) return this.#copyFragment(chunk, at);
    if (this.#markBytes === 0 && this.#fragments === 0 && at + 4 <= chunk.length) {
      const behind = this.#wholeRecord(chunk, at);
      if (behind > 0) return behind;
    }
    return this.#readMark(chunk, at);
  }

  /** The hot path: one fragment, all of it here. @returns the offset behind it, 0 when it is not so */
  #wholeRecord(chunk: Buffer, at: number): number {
    if (chunk[at]! < 0x80) return 0;
    const byteCount = ((chunk[at]! & 0x7f) << 24) | (chunk[at + 1]! << 16) | (chunk[at + 2]! << 8) | chunk[at + 3]!;
    const end = at + 4 + byteCount;
    if (end > chunk.length || byteCount > this.sink.recordBytesMax) return 0;
    this.sink.onRecord(chunk, at + 4, end, null);
    return end;
  }

  #readMark(chunk: Buffer, at: number): number {
    this.#mark = this.#mark * 256 + chunk[at]!;
    if (++this.#markBytes < 4) return at + 1;
    const mark = this.#mark;
    this.#markBytes = 0;
    this.#mark = 0;
    this.#beginFragment(mark >= LAST_FRAGMENT, mark % LAST_FRAGMENT);
    return at + 1;
  }

  #beginFragment(last: boolean, byteCount: number): void {
    const { recordBytesMax } = this.sink;
    if (this.#recordBytes + byteCount > recordBytesMax) throw new RecordError("record larger than the limit");
    if (++this.#fragments > this.fragmentsMax) throw new RecordError("too many fragments");
    this.#last = last;
    this.#fragmentLeft = byteCount;
    this.#inFragment = byteCount > 0;
    if (byteCount > 0) this.#reserve(last ? this.#recordBytes + byteCount : recordBytesMax);
    else if (last) this.#deliver();
  }

  /** A record of several fragments does not say how long it becomes. */
  #reserve(recordBytes: number): void {
    const more = this.pool.sizeOf(recordBytes) - this.#room;
    if (more <= 0) return;
    if (this.sink.takeRoom(more)) this.#room += more;
    else this.#roomWanted = more;
  }

  #giveRoom(): void {
    if (this.#room > 0) this.sink.giveRoom(this.#room);
    this.#room = 0;
    this.#roomWanted = 0;
  }

  /** A buffer for what the fragment promises, in two steps (see FIRST_STEP_BYTES). */
  #makeRoom(byteCount: number): void {
    const promised = this.#recordBytes + byteCount;
    const wanted = this.#recordBytes < FIRST_STEP_BYTES ? Math.min(promised, FIRST_STEP_BYTES) : promised;
    if (wanted <= this.#record.length) return;
    const larger = this.pool.acquire(wanted);
    this.#record.copy(larger, 0, 0, this.#recordBytes);
    if (this.#record.length > 0) this.pool.release(this.#record);
    this.#record = larger;
  }

  #copyFragment(chunk: Buffer, at: number): number {
    if (this.#recordBytes === this.#record.length) this.#makeRoom(this.#fragmentLeft);
    const room = this.#record.length - this.#recordBytes;
    const byteCount = Math.min(this.#fragmentLeft, chunk.length - at, room);
    chunk.copy(this.#record, this.#recordBytes, at, at + byteCount);
    this.#recordBytes += byteCount;
    this.#fragmentLeft -= byteCount;
    if (this.#fragmentLeft === 0) {
      this.#inFragment = false;
      if (this.#last) this.#deliver();
    }
    return at + byteCount;
  }

  #deliver(): void {
    assert(this.#fragmentLeft === 0, "a record is delivered whole");
    const record = this.#record;
    const byteCount = this.#recordBytes;
    this.#record = NOTHING;
    this.#recordBytes = 0;
    this.#fragments = 0;
    this.#giveRoom();
    this.sink.onRecord(record, 0, byteCount, record.length > 0 ? record : null);
  }
}
