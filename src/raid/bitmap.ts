import { assert, must } from "../lib/assert.js";
import { StorageError } from "../lib/errors.js";
import { BLOCK_BYTES } from "../lib/units.js";
import { checksumHolds, getU64, getUuid, isZero, putU64, putUuid, sealChecksum } from "./fields.js";
import { LAYOUT, REGIONS_MAX } from "./layout.js";
import type { Member } from "./member.js";
import { readTwin } from "./twin-blocks.js";

/**
 * A bitmap slot: one 4096-byte block, little-endian; two alternate (sequence mod 2), so that a torn write leaves the other whole.
 *   0 [8] magic "STRPBITM"    8 u32 version     12 u32 checksum (CRC-32C of the block, this field zero)
 *  16 [16] groupUuid         32 u64 sequence    40 u32 regionCount       44 reserved
 *  64 [4032] bits: region r is bit r mod 8 of byte r div 8; 1: copies or parity may disagree after a crash
 */
export const BITMAP = {
  magic: 0,
  version: 8,
  checksum: 12,
  groupUuid: 16,
  sequence: 32,
  regionCount: 40,
  reserved: 44,
  bits: 64,
  end: 4096,
} as const;

assert((BITMAP.end - BITMAP.bits) * 8 === REGIONS_MAX, "every bit of the block is a region");
assert(LAYOUT.bitmapSlot1 === LAYOUT.bitmapSlot0 + BLOCK_BYTES, "both slots are read at once");

const MAGIC = "STRPBITM";
const VERSION = 1;
/** Regions marked at once when writing runs upwards: a long sequential write waits for the bitmap once in so many regions. */
const AHEAD = 16;

export interface BitmapSlot {
  readonly sequence: number;
  readonly bits: Buffer;
}

export function encodeBitmap(
  block: Buffer,
  uuid: string,
  sequence: number,
  regionCount: number,
  bits: Uint8Array,
): void {
  block.fill(0);
  block.write(MAGIC, BITMAP.magic, "latin1");
  block.writeUInt32LE(VERSION, BITMAP.version);
  putUuid(block, BITMAP.groupUuid, uuid);
  putU64(block, BITMAP.sequence, sequence);
  block.writeUInt32LE(regionCount, BITMAP.regionCount);
  block.set(bits, BITMAP.bits);
  sealChecksum(block, BITMAP.checksum);
}

/** @returns null unless it is a sound bitmap of this group */
export function decodeBitmap(block: Buffer, uuid: string, regionCount: number): BitmapSlot | null {
  if (block.toString("latin1", 0, 8) !== MAGIC || block.readUInt32LE(BITMAP.version) !== VERSION) return null;
  if (!checksumHolds(block, BITMAP.checksum) || getUuid(block, BITMAP.groupUuid) !== uuid) return null;
  if (!isZero(block, BITMAP.reserved, BITMAP.bits) || block.readUInt32LE(BITMAP.regionCount) !== regionCount)
    return null;
  const sequence = getU64(block, BITMAP.sequence);
  return Number.isNaN(sequence) ? null : { sequence, bits: Buffer.from(block.subarray(BITMAP.bits)) };
}

export interface BitmapOptions {
  readonly groupUuid: string;
  readonly members: readonly Member[];
  readonly regionCount: number;
  readonly regionBytes: number;
  /** Byte on a member where rows begin. */
  readonly rowsStart: number;
  /** One block in the arena. */
  readonly block: Buffer;
  /** Nothing is ever marked (Without.bitmap). */
  readonly off?: boolean | undefined;
}

/**
 * The write-intent bitmap, the same on all members. A region's bit is durable on every online member before the first write in
 * place, so a crash leaves disagreement in marked regions only. Why a torn or lost bitmap write is harmless: while bits are being
 * set, the region was not yet written; while bits are being cleared, the older slot marks more than need be.
 */
export class WriteIntentBitmap {
  readonly #options: BitmapOptions;
  /** What the members are to hold, and what they surely hold. */
  readonly #wanted: Uint8Array;
  readonly #durable: Uint8Array;
  readonly #inFlight: Uint32Array;
  readonly #usedAt: Uint32Array;
  #period = 1;
  #sequence = 0;
  #writing: Promise<void> | null = null;
  #writingVersion = 0;
  #version = 0;
  #durableVersion = 0;

  constructor(options: BitmapOptions) {
    assert(options.regionCount <= REGIONS_MAX, "the bitmap has a bit for every region");
    this.#options = options;
    this.#wanted = new Uint8Array(REGIONS_MAX / 8);
    this.#durable = new Uint8Array(REGIONS_MAX / 8);
    this.#inFlight = new Uint32Array(options.regionCount);
    this.#usedAt = new Uint32Array(options.regionCount);
  }

  regionOf(memberByte: number): number {
    return Math.floor((memberByte - this.#options.rowsStart) / this.#options.regionBytes);
  }

  isMarked(region: number): boolean {
    return hasBit(this.#wanted, region);
  }

  /** Regions marked now, in order. */
  marked(): number[] {
    const regions: number[] = [];
    for (let r = 0; r < this.#options.regionCount; r++) if (hasBit(this.#wanted, r)) regions.push(r);
    return regions;
  }

  /**
   * A write in place of member bytes [from, to) begins. The caller awaits the result unless it is null, writes, then calls `leave`
   * with the same range whatever happened.
   */
  enter(from: number, to: number): Promise<void> | null {
    const first = this.regionOf(from);
    const last = this.regionOf(to - 1);
    let missing = false;
    for (let r = first; r <= last; r++) {
      this.#inFlight[r]!++;
      this.#usedAt[r] = this.#period;
      if (!hasBit(this.#durable, r)) missing = true;
    }
    return missing && this.#options.off !== true ? this.#mark(first, last) : null;
  }

  leave(from: number, to: number): void {
    const last = this.regionOf(to - 1);
    for (let r = this.regionOf(from); r <= last; r++) {
      assert(this.#inFlight[r]! > 0, "a region is left as often as it is entered");
      this.#inFlight[r]!--;
      this.#usedAt[r] = this.#period;
    }
  }

  #mark(first: number, last: number): Promise<void> {
    const upwards = first > 0 && hasBit(this.#wanted, first - 1);
    const end = Math.min(upwards ? last + AHEAD : last + 1, this.#options.regionCount);
    for (let r = first; r < end; r++) {
      setBit(this.#wanted, r);
      this.#usedAt[r] = this.#period;
    }
    this.#version++;
    return this.#sync();
  }

  /** Write until what is wanted now is durable. Callers that come while one write is under way share the next. */
  async #sync(): Promise<void> {
    const version = this.#version;
    while (this.#durableVersion < version) await (this.#writing ?? this.#startWrite());
  }

  #startWrite(): Promise<void> {
    this.#writingVersion = this.#version;
    this.#writing = this.#write().finally(() => {
      this.#writing = null;
    });
    return this.#writing;
  }

  async #write(): Promise<void> {
    const { block, groupUuid, regionCount, members } = this.#options;
    const bits = Uint8Array.from(this.#wanted);
    // Until the write is durable only bits that are set before and after it are surely set.
    for (let i = 0; i < bits.length; i++) this.#durable[i]! &= bits[i]!;
    this.#sequence++;
    encodeBitmap(block, groupUuid, this.#sequence, regionCount, bits);
    const position = this.#sequence % 2 === 0 ? LAYOUT.bitmapSlot0 : LAYOUT.bitmapSlot1;
    await Promise.all(members.map((member) => member.writeThrough([block], position)));
    if (!members.some((member) => member.online))
      throw new StorageError("EIO", "no member took the write-intent bitmap");
    // A bit that is to go by now does not count, though it is there still: who relied on it would be without when it has gone.
    for (let i = 0; i < bits.length; i++) this.#durable[i] = bits[i]! & this.#wanted[i]!;
    this.#durableVersion = this.#writingVersion;
  }

  /** Time passes: regions without a write for two periods may be cleared. @returns those, for `clear` after a flush */
  idleRegions(): number[] {
    this.#period++;
    return this.marked().filter((r) => this.#inFlight[r] === 0 && this.#period - this.#usedAt[r]! > 2);
  }

  /**
   * Clear regions whose writes are all flushed. A region that was entered since it was asked for stays.
   * @param even  with true also regions used in this period (at close, after everything is flushed)
   */
  async clear(regions: readonly number[], even = false): Promise<void> {
    for (const r of regions) {
      if (this.#inFlight[r] === 0 && (even || this.#period - this.#usedAt[r]! > 2)) this.#forget(r);
    }
    this.#version++;
    await this.#sync();
  }

  /** Clear those of these regions that nobody has written in this life: what was there before has been made consistent, and flushed. */
  async clearUnwritten(regions: readonly number[]): Promise<void> {
    for (const r of regions) if (this.#usedAt[r] === 0) this.#forget(r);
    this.#version++;
    await this.#sync();
  }

  /** From now on a write there marks it anew. */
  #forget(region: number): void {
    clearBit(this.#wanted, region);
    clearBit(this.#durable, region);
  }

  /**
   * Take over what the members hold, after assembly: the union, because more marks are never wrong.
   * @throws StorageError EIO when no member has a sound bitmap
   */
  async load(): Promise<void> {
    const online = this.#options.members.filter((member) => member.online);
    const slots = await Promise.all(online.map((member) => this.#slotOf(member)));
    const found = slots.filter((slot) => slot !== null);
    for (const slot of found) {
      this.#sequence = Math.max(this.#sequence, slot.sequence);
      for (let i = 0; i < this.#wanted.length; i++) this.#wanted[i]! |= must(slot.bits[i], "a bit byte");
    }
    if (found.length === 0) throw new StorageError("EIO", "no member has a sound write-intent bitmap");
  }

  /** Of one member: the newer of its two slots. One that is not readable counts as damaged: the other slot and the other members answer. */
  async #slotOf(member: Member): Promise<BitmapSlot | null> {
    const { groupUuid, regionCount } = this.#options;
    const blocks = await readTwin(member, LAYOUT.bitmapSlot0);
    const slots = blocks.map((block) => decodeBitmap(block, groupUuid, regionCount)).filter((slot) => slot !== null);
    return slots.sort((a, b) => b.sequence - a.sequence)[0] ?? null;
  }

  /** Write both slots of every online member afresh: of a new group, or after replay. */
  async rewrite(): Promise<void> {
    for (let i = 0; i < 2; i++) {
      this.#version++;
      await this.#sync();
    }
  }
}

function hasBit(bits: Uint8Array, region: number): boolean {
  return (bits[region >>> 3]! & (1 << (region & 7))) !== 0;
}

function setBit(bits: Uint8Array, region: number): void {
  bits[region >>> 3]! |= 1 << (region & 7);
}

function clearBit(bits: Uint8Array, region: number): void {
  bits[region >>> 3]! &= ~(1 << (region & 7));
}
