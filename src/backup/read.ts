import { crc32c } from "../lib/crc32c.js";
import { BLOCK, damaged, ID_BYTES, MAGIC, RECORD, RECORD_BYTES_MAX, RecordType, VERSION } from "./format.js";

export interface IncomingRecord {
  readonly type: number;
  /** A view, good until the next record is asked for. */
  readonly content: Buffer;
  /** Of the backup, as each of its blocks says: 32 hexadecimal digits. */
  readonly backup: string;
  /** Byte of the stream where the last block begins that the record needs. */
  readonly at: number;
  /** The first of a part. The part before may have been broken off, in the middle of a record even. */
  readonly first: boolean;
}

/** Cuts what arrives into blocks; the last may be short. */
async function* blocksOf(source: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  const block = Buffer.alloc(BLOCK.end);
  let filled = 0;
  for await (const piece of source) {
    for (let at = 0; at < piece.length; ) {
      const count = piece.copy(block, filled, at, Math.min(piece.length, at + BLOCK.end - filled));
      filled += count;
      at += count;
      if (filled < BLOCK.end) continue;
      yield block;
      filled = 0;
    }
  }
  if (filled > 0) yield block.subarray(0, filled);
}

/** @returns null when the block is one of ours and as it was written */
export function faultOf(block: Buffer): string | null {
  if (block.length < BLOCK.end) return "the stream ends inside a block";
  if (!block.subarray(0, MAGIC.length).equals(MAGIC)) return "no block of a backup begins here";
  const stored = block.readUInt32LE(BLOCK.checksum);
  block.writeUInt32LE(0, BLOCK.checksum);
  const found = crc32c(block);
  block.writeUInt32LE(stored, BLOCK.checksum);
  if (found !== stored) return "the checksum of the block is wrong";
  const version = block.readUInt32LE(BLOCK.version);
  return version === VERSION ? null : `the stream is of version ${version}; this program knows ${VERSION}`;
}

/** Reads the records of a stream, which may be of several parts, one behind the other. */
export class StreamReader {
  /** Bytes of blocks that were good. */
  goodBytes = 0;
  #backup = "";
  #sequence = 0;
  #carry: Buffer = Buffer.alloc(0);
  #carried = 0;
  #first = false;
  #ended = true;

  constructor(private readonly source: AsyncIterable<Buffer>) {}

  /** @throws StorageError EIO, with the byte at which the stream is not what was written */
  async *records(): AsyncGenerator<IncomingRecord> {
    for await (const block of blocksOf(this.source)) {
      const at = this.goodBytes;
      const fault = faultOf(block);
      // A device or a tape is longer than what was written; what stands behind the end is nobody's.
      if (this.#ended && this.#backup !== "" && (fault !== null || !this.#beginsAnother(block))) return;
      if (fault !== null) throw damaged(fault, at);
      this.#place(block, at);
      this.goodBytes += block.length;
      yield* this.#recordsOf(block, at);
    }
    if (this.#backup === "") throw damaged("nothing is there", 0);
  }

  /** The next block of the part that is being read, or the first of a new one. */
  #place(block: Buffer, at: number): void {
    const backup = block.toString("hex", BLOCK.backup, BLOCK.backup + ID_BYTES);
    const sequence = Number(block.readBigUInt64LE(BLOCK.sequence));
    if (sequence === 0 && backup !== this.#backup) {
      this.#backup = backup;
      this.#sequence = 0;
      this.#carried = 0;
      this.#first = true;
      this.#ended = false;
    } else if (backup !== this.#backup) throw damaged("a block of another backup", at);
    if (sequence !== this.#sequence)
      throw damaged(`block ${sequence} stands where block ${this.#sequence} should be`, at);
    this.#sequence++;
  }

  #beginsAnother(block: Buffer): boolean {
    const backup = block.toString("hex", BLOCK.backup, BLOCK.backup + ID_BYTES);
    return block.readBigUInt64LE(BLOCK.sequence) === 0n && backup !== this.#backup;
  }

  *#recordsOf(block: Buffer, at: number): Generator<IncomingRecord> {
    for (let from: number = BLOCK.content; from < BLOCK.end; ) {
      if (this.#carried === 0 && block[from] === RecordType.padding) return;
      from = this.#take(block, from, RECORD.content);
      if (this.#carried < RECORD.content) return;
      const byteCount = RECORD.content + this.#carry.readUInt32LE(RECORD.length);
      if (byteCount > RECORD_BYTES_MAX) throw damaged("a record is longer than any can be", at);
      from = this.#take(block, from, byteCount);
      if (this.#carried < byteCount) return;
      this.#carried = 0;
      const type = this.#carry.readUInt8(RECORD.type);
      if (this.#ended) throw damaged("a record follows behind the end", at);
      this.#ended = type === RecordType.end;
      const first = this.#first;
      this.#first = false;
      yield { type, content: this.#carry.subarray(RECORD.content, byteCount), backup: this.#backup, at, first };
    }
  }

  /** Carry on until `wanted` bytes of the record are there. @returns up to where the block was read */
  #take(block: Buffer, from: number, wanted: number): number {
    if (wanted > this.#carry.length) {
      const grown = Buffer.alloc(Math.max(wanted, 2 * this.#carry.length));
      this.#carry.copy(grown, 0, 0, this.#carried);
      this.#carry = grown;
    }
    const count = Math.max(0, Math.min(wanted - this.#carried, BLOCK.end - from));
    block.copy(this.#carry, this.#carried, from, from + count);
    this.#carried += count;
    return from + count;
  }
}
