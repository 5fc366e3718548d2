import { assert } from "../lib/assert.js";
import { crc32c } from "../lib/crc32c.js";
import { KIB } from "../lib/units.js";
import { BLOCK, ID_BYTES, MAGIC, type OutgoingRecord, RECORD, VERSION } from "./format.js";

/** Handed on at once: enough for a disk to stream, and for a socket. */
const PIECE_BYTES = 512 * KIB;

/** Puts records into blocks, and hands the blocks on in pieces. */
class BlockPacker {
  readonly #id: Buffer;
  #piece = Buffer.allocUnsafeSlow(PIECE_BYTES);
  /** Where the block that is being filled begins, and up to where it is filled. */
  #blockAt = 0;
  #at: number = BLOCK.content;
  #sequence = 0;

  constructor(id: Buffer) {
    assert(id.length === ID_BYTES, "a backup has an id of 16 bytes");
    this.#id = id;
  }

  /** @returns pieces that have become full */
  *put(bytes: Buffer): Generator<Buffer> {
    for (let done = 0; done < bytes.length; ) {
      const room = BLOCK.end - this.#at;
      const count = Math.min(bytes.length - done, room);
      bytes.copy(this.#piece, this.#blockAt + this.#at, done, done + count);
      this.#at += count;
      done += count;
      if (this.#at === BLOCK.end) yield* this.#endBlock();
    }
  }

  /** The block ends here, padded, and all of it is handed on. */
  *flush(): Generator<Buffer> {
    if (this.#at > BLOCK.content) yield* this.#endBlock();
    if (this.#blockAt > 0) yield this.#take();
  }

  *#endBlock(): Generator<Buffer> {
    const block = this.#piece.subarray(this.#blockAt, this.#blockAt + BLOCK.end);
    block.fill(0, this.#at);
    MAGIC.copy(block, BLOCK.magic);
    block.writeUInt32LE(VERSION, BLOCK.version);
    block.writeUInt32LE(0, BLOCK.checksum);
    this.#id.copy(block, BLOCK.backup);
    block.writeBigUInt64LE(BigInt(this.#sequence++), BLOCK.sequence);
    block.writeUInt32LE(crc32c(block), BLOCK.checksum);
    this.#blockAt += BLOCK.end;
    this.#at = BLOCK.content;
    if (this.#blockAt === PIECE_BYTES) yield this.#take();
  }

  /** What was handed on is the receiver's: the next piece is another buffer. */
  #take(): Buffer {
    const piece = this.#piece.subarray(0, this.#blockAt);
    this.#piece = Buffer.allocUnsafeSlow(PIECE_BYTES);
    this.#blockAt = 0;
    return piece;
  }
}

/** The stream of one part, in pieces of whole blocks. @param id  of the backup, 16 bytes */
export async function* encodePart(
  id: Buffer,
  records: AsyncIterable<OutgoingRecord> | Iterable<OutgoingRecord>,
): AsyncGenerator<Buffer> {
  const packer = new BlockPacker(id);
  for await (const { type, parts } of records) {
    const head = Buffer.alloc(RECORD.content);
    head.writeUInt8(type, RECORD.type);
    head.writeUInt32LE(
      parts.reduce((sum, part) => sum + part.length, 0),
      RECORD.length,
    );
    yield* packer.put(head);
    for (const part of parts) yield* packer.put(part);
  }
  yield* packer.flush();
}

assert(PIECE_BYTES % BLOCK.end === 0, "a piece is whole blocks");
