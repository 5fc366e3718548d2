const NOTHING = Buffer.alloc(0);
const HIGH = 2 ** 32;

/**
 * Encoder (RFC 4506) into a buffer that grows. Plain byte stores: they compile to the same code as DataView's, without its object.
 * `reserve` checks the room once for a whole structure; the `put…` functions below then store without checking.
 */
export class XdrWriter {
  buffer: Buffer = NOTHING;
  /** Byte offset of the next value. */
  at = 0;
  /** How far `buffer` may be filled. */
  protected end = 0;

  /** Make room for `byteCount` more bytes. Afterwards `buffer` and `at` may be others than before. */
  reserve(byteCount: number): void {
    if (this.at + byteCount > this.end) this.grow(byteCount);
  }

  /** Replace `buffer` by one with room for `byteCount` more bytes. */
  protected grow(byteCount: number): void {
    const larger = Buffer.allocUnsafe(Math.max(256, this.buffer.length * 2, this.at + byteCount));
    this.buffer.copy(larger, 0, 0, this.at);
    this.buffer = larger;
    this.end = larger.length;
  }

  u32(value: number): void {
    this.reserve(4);
    putU32(this.buffer, this.at, value);
    this.at += 4;
  }

  /** Unsigned hyper from a Number, 0 <= value < 2^53. */
  u64(value: number): void {
    this.reserve(8);
    putU64(this.buffer, this.at, value);
    this.at += 8;
  }

  /** Unsigned hyper from a BigInt, where a value can pass 2^53. */
  bigU64(value: bigint): void {
    this.u32(Number((value >> 32n) & 0xffffffffn));
    this.u32(Number(value & 0xffffffffn));
  }

  bool(value: boolean): void {
    this.u32(value ? 1 : 0);
  }

  /** Variable-length opaque: length, bytes, zero padding to a multiple of 4. */
  opaque(bytes: Uint8Array): void {
    this.reserve(bytes.length + 7);
    this.at = putOpaque(this.buffer, this.at, bytes);
  }

  /** Fixed-length opaque with its padding. */
  fixed(bytes: Uint8Array): void {
    this.reserve(bytes.length + 3);
    this.at = putBytes(this.buffer, this.at, bytes);
  }

  text(value: string): void {
    this.opaque(Buffer.from(value, "utf8"));
  }

  /** What has been written: a view. */
  bytes(): Buffer {
    return this.buffer.subarray(0, this.at);
  }
}

export function putU32(target: Buffer, at: number, value: number): void {
  target[at] = value >>> 24;
  target[at + 1] = value >>> 16;
  target[at + 2] = value >>> 8;
  target[at + 3] = value;
}

/** 0 <= value < 2^53. */
export function putU64(target: Buffer, at: number, value: number): void {
  // Most values fit in 32 bits, and the division of doubles is the slow part.
  const high = value < HIGH ? 0 : Math.floor(value / HIGH);
  putU32(target, at, high);
  putU32(target, at + 4, value - high * HIGH);
}

/** @returns the offset behind the padding */
export function putBytes(target: Buffer, at: number, bytes: Uint8Array): number {
  const byteCount = bytes.length;
  // A native copy costs about 100 ns however little it copies.
  if (byteCount <= 48) for (let i = 0; i < byteCount; i++) target[at + i] = bytes[i]!;
  else target.set(bytes, at);
  let next = at + byteCount;
  while ((next - at) % 4 !== 0) target[next++] = 0;
  return next;
}

/** @returns the offset behind the padding */
export function putOpaque(target: Buffer, at: number, bytes: Uint8Array): number {
  putU32(target, at, bytes.length);
  return putBytes(target, at + 4, bytes);
}
