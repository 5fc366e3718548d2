/** The arguments do not decode: RPC answers GARBAGE_ARGS (RFC 5531 section 9). */
export class XdrError extends Error {
  override name = "XdrError";
  constructor(
    what: string,
    /** Byte offset in the buffer that was read. */
    readonly at: number,
  ) {
    super(what);
  }
}

const NOTHING = Buffer.alloc(0);

/**
 * Decoder over one record (RFC 4506). One reader serves many records: `reset` points it at the next one. Opaque values are views that
 * live as long as the record; whoever needs one longer copies it. A length is checked against its limit and against what is there
 * before anything else happens with it, so that a hostile length never reaches an allocator.
 */
export class XdrReader {
  #buffer: Buffer = NOTHING;
  #end = 0;
  /** Byte offset of the next value. */
  at = 0;

  constructor(buffer: Buffer = NOTHING, start = 0, end = buffer.length) {
    this.reset(buffer, start, end);
  }

  /** Decode bytes `start` to `end` of `buffer` from now on. */
  reset(buffer: Buffer, start: number, end: number): void {
    this.#buffer = buffer;
    this.at = start;
    this.#end = end;
  }

  get buffer(): Buffer {
    return this.#buffer;
  }

  get remaining(): number {
    return this.#end - this.at;
  }

  /** Skip `byteCount` bytes. @returns where they start */
  take(byteCount: number): number {
    const start = this.at;
    if (byteCount > this.#end - start) throw new XdrError("truncated", start);
    this.at = start + byteCount;
    return start;
  }

  u32(): number {
    const at = this.at;
    if (at + 4 > this.#end) throw new XdrError("truncated", at);
    this.at = at + 4;
    const b = this.#buffer;
    return ((b[at]! << 24) | (b[at + 1]! << 16) | (b[at + 2]! << 8) | b[at + 3]!) >>> 0;
  }

  /**
   * Unsigned hyper as a Number. Above 2^53 the value is rounded, but never to a value that is safe: a check against
   * Number.MAX_SAFE_INTEGER after this is exact.
   */
  u64(): number {
    const high = this.u32();
    return high * 2 ** 32 + this.u32();
  }

  /** Boolean, RFC 4506 section 4.4: 0 or 1, nothing else. */
  bool(): boolean {
    const value = this.u32();
    if (value > 1) throw new XdrError("not a boolean", this.at - 4);
    return value === 1;
  }

  /** Enumeration with values 0 to `max`. */
  choice(max: number): number {
    const value = this.u32();
    if (value > max) throw new XdrError("not a value of the enumeration", this.at - 4);
    return value;
  }

  /**
   * Variable-length opaque or string, RFC 4506 sections 4.10 and 4.11.
   * @param maxBytes  the protocol's own limit, e.g. 64 for a file handle (RFC 1813 section 2.4)
   * @returns a view into the record; padding is not looked at: clients differ
   */
  opaque(maxBytes: number): Buffer {
    const byteCount = this.u32();
    if (byteCount > maxBytes) throw new XdrError("opaque too long", this.at - 4);
    // Before rounding up: a bitwise operator truncates what a hostile length of 2^31 and more becomes.
    if (byteCount > this.#end - this.at) throw new XdrError("truncated", this.at);
    const start = this.take((byteCount + 3) & ~3);
    return this.#buffer.subarray(start, start + byteCount);
  }

  /** Fixed-length opaque, RFC 4506 section 4.9. A view. */
  fixed(byteCount: number): Buffer {
    const start = this.take((byteCount + 3) & ~3);
    return this.#buffer.subarray(start, start + byteCount);
  }
}
