import fs from "node:fs";
import path from "node:path";
import { assert } from "../../lib/assert.js";
import { messageOf, StorageError } from "../../lib/errors.js";
import { nextTurn } from "../../lib/next-turn.js";
import { BLOCK_BYTES, KIB, MIB } from "../../lib/units.js";

/** A piece of a bucket in the file: u32 number of the next piece, u32 bytes used (this head included), then runs. */
const PIECE = { next: 0, used: 4, runs: 8 } as const;
/**
 * Neighbouring blocks of one file group, little-endian:
 *   0 u32 first block in the bucket   4 u32 count (0: the first block is nobody's any more)   8 u48 ino   14 u48 group   20 u32 × count CRC-32C
 */
const RUN = { first: 0, count: 4, ino: 8, group: 14, crcs: 20 } as const;
const CRC_BYTES = 4;

/** All buckets' unwritten pieces together; but a piece is one block at least. */
const MEMORY_BYTES_WANTED = 4 * MIB;
const PIECE_BYTES_MAX = 64 * KIB;
/** Read between two turns of the event loop, some 2 ms. */
const BYTES_PER_TURN = MIB;

/** The end of a bucket that is not in the file yet. */
interface Tail {
  /** Its place in the file, kept for it. */
  piece: number;
  readonly bytes: Buffer;
  used: number;
  /** Where the last run begins; -1 when it cannot be made longer. */
  runAt: number;
  /** What would make it longer. */
  nextBlock: number;
  ino: number;
  group: number;
}

/** What is read back, in the order in which it was noted. Blocks count from the start of the bucket. */
export interface BlockLogReader {
  /** `crcAt` gives the checksum of block `first + i`. */
  owned(first: number, count: number, ino: number, group: number, crcAt: (i: number) => number): void;
  released(block: number): void;
}

/**
 * Who owns which block, sorted into buckets by address: a file in which each bucket is a chain of pieces. Noting costs a copy of four bytes
 * where a run goes on, and 24 where one begins; so a file that lies in order takes 4.3 bytes a block here, the most scattered one 24.
 *
 * The file has no name any more once it is open, so nothing is left of it however the process ends. Calls are synchronous: they are made
 * from within commits. An error of the file is kept, and told to whoever reads.
 */
export class BlockLog {
  readonly #fd: number;
  readonly #pieceBytes: number;
  readonly #heads: Int32Array;
  readonly #tails: (Tail | null)[];
  #pieceCount = 0;
  #failure: unknown = null;
  #closed = false;

  /**
   * @param folder  where there is room for the file
   * @throws StorageError EIO when it cannot be made there
   */
  constructor(folder: string, bucketCount: number) {
    const share = Math.floor(MEMORY_BYTES_WANTED / bucketCount / BLOCK_BYTES) * BLOCK_BYTES;
    this.#pieceBytes = Math.min(Math.max(share, BLOCK_BYTES), PIECE_BYTES_MAX);
    this.#heads = new Int32Array(bucketCount).fill(-1);
    this.#tails = new Array<Tail | null>(bucketCount).fill(null);
    this.#fd = told(() => openUnnamed(path.join(folder, `blocks-${process.pid}.tmp`)));
  }

  owned(bucket: number, block: number, ino: number, group: number, crc: number): void {
    const tail = this.#room(bucket, RUN.crcs + CRC_BYTES);
    const goesOn = tail.runAt >= 0 && tail.nextBlock === block && tail.ino === ino && tail.group === group;
    if (!goesOn) this.#beginRun(tail, block, ino, group);
    tail.bytes.writeUInt32LE(tail.bytes.readUInt32LE(tail.runAt + RUN.count) + 1, tail.runAt + RUN.count);
    tail.used = tail.bytes.writeUInt32LE(crc, tail.used);
    tail.nextBlock = block + 1;
  }

  released(bucket: number, block: number): void {
    const tail = this.#room(bucket, RUN.crcs);
    this.#beginRun(tail, block, 0, 0);
    tail.runAt = -1;
  }

  /**
   * Everything about one bucket, with turns for others in between. What is noted meanwhile is read too.
   * @param atEnd  called in the same piece as the last of it: nothing was noted that the reader has not seen
   * @throws StorageError EIO when the file could not be written or read
   */
  async read(bucket: number, reader: BlockLogReader, atEnd: () => void = () => {}): Promise<void> {
    const bytes = Buffer.allocUnsafe(this.#pieceBytes);
    let piece = this.#heads[bucket]!;
    let readBytes = 0;
    while (piece >= 0 && piece !== this.#tails[bucket]!.piece) {
      this.#readPiece(bytes, piece);
      readRuns(bytes, bytes.readUInt32LE(PIECE.used), reader);
      piece = bytes.readUInt32LE(PIECE.next);
      readBytes += bytes.length;
      if (readBytes % BYTES_PER_TURN === 0) await nextTurn();
    }
    this.#refuseFailed();
    const tail = this.#tails[bucket];
    if (tail != null) readRuns(tail.bytes, tail.used, reader);
    atEnd();
  }

  close(): void {
    if (!this.#closed) fs.closeSync(this.#fd);
    this.#closed = true;
  }

  #beginRun(tail: Tail, block: number, ino: number, group: number): void {
    const at = tail.used;
    tail.bytes.writeUInt32LE(block, at + RUN.first);
    tail.bytes.writeUInt32LE(0, at + RUN.count);
    tail.bytes.writeUIntLE(ino, at + RUN.ino, 6);
    tail.bytes.writeUIntLE(group, at + RUN.group, 6);
    tail.used = at + RUN.crcs;
    tail.runAt = at;
    tail.ino = ino;
    tail.group = group;
  }

  #room(bucket: number, byteCount: number): Tail {
    const known = this.#tails[bucket];
    assert(known !== undefined, "a bucket that exists");
    const tail = known ?? this.#newTail(bucket);
    if (tail.used + byteCount > tail.bytes.length) this.#writePiece(tail);
    return tail;
  }

  #newTail(bucket: number): Tail {
    const piece = this.#pieceCount++;
    const bytes = Buffer.allocUnsafe(this.#pieceBytes);
    const tail = { piece, bytes, used: PIECE.runs, runAt: -1, nextBlock: -1, ino: 0, group: 0 };
    this.#heads[bucket] = piece;
    this.#tails[bucket] = tail;
    return tail;
  }

  #writePiece(tail: Tail): void {
    const next = this.#pieceCount++;
    tail.bytes.writeUInt32LE(next, PIECE.next);
    tail.bytes.writeUInt32LE(tail.used, PIECE.used);
    try {
      if (this.#failure === null && !this.#closed) this.#writeAll(tail.bytes, tail.piece * this.#pieceBytes);
    } catch (error) {
      this.#failure = error;
    }
    tail.piece = next;
    tail.used = PIECE.runs;
    tail.runAt = -1;
  }

  #writeAll(bytes: Buffer, at: number): void {
    for (let done = 0; done < bytes.length; ) {
      done += fs.writeSync(this.#fd, bytes, done, bytes.length - done, at + done);
    }
  }

  #readPiece(bytes: Buffer, piece: number): void {
    this.#refuseFailed();
    for (let done = 0; done < bytes.length; ) {
      const at = piece * this.#pieceBytes + done;
      const count = told(() => fs.readSync(this.#fd, bytes, done, bytes.length - done, at));
      if (count === 0) throw new StorageError("EIO", "the table of the blocks' owners is shorter than it was");
      done += count;
    }
  }

  #refuseFailed(): void {
    if (this.#closed) throw new StorageError("EIO", "the table of the blocks' owners is closed");
    if (this.#failure !== null) throw failure(this.#failure);
  }
}

function openUnnamed(file: string): number {
  const fd = fs.openSync(file, "w+", 0o600);
  fs.unlinkSync(file);
  return fd;
}

function told<T>(action: () => T): T {
  try {
    return action();
  } catch (error) {
    throw failure(error);
  }
}

function failure(cause: unknown): StorageError {
  return new StorageError("EIO", `the table of the blocks' owners cannot be kept: ${messageOf(cause)}`, {}, cause);
}

function readRuns(bytes: Buffer, used: number, reader: BlockLogReader): void {
  let crcsAt = 0;
  const crcAt = (i: number) => bytes.readUInt32LE(crcsAt + i * CRC_BYTES);
  for (let at: number = PIECE.runs; at < used; ) {
    const first = bytes.readUInt32LE(at + RUN.first);
    const count = bytes.readUInt32LE(at + RUN.count);
    crcsAt = at + RUN.crcs;
    at = crcsAt + count * CRC_BYTES;
    if (count === 0) reader.released(first);
    else reader.owned(first, count, bytes.readUIntLE(crcsAt - RUN.crcs + RUN.ino, 6), readGroup(bytes, crcsAt), crcAt);
  }
}

function readGroup(bytes: Buffer, crcsAt: number): number {
  return bytes.readUIntLE(crcsAt - RUN.crcs + RUN.group, 6);
}
