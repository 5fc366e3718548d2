import { isStorageError } from "../lib/errors.js";
import { allSettledOrThrow } from "../lib/mutex.js";
import { BLOCK_BYTES } from "../lib/units.js";
import { forEachRun, maskOf } from "./block-mask.js";
import type { GroupCore } from "./core.js";
import { DegradedStripes } from "./degraded-stripes.js";
import { Extents } from "./extents.js";
import type { Raid5Geometry } from "./geometry.js";
import { IoBatch } from "./io-batch.js";
import type { Member } from "./member.js";
import { onlineCount } from "./online-count.js";
import { cutPieces, slicePieces, totalBytes } from "./pieces.js";
import type { RangeLock } from "./range-lock.js";
import { ReadGatherer } from "./read-gatherer.js";
import { readOrReconstruct } from "./reconstruct.js";

/** What a read needs to know of a band in memory (stripe-slot.ts). */
export interface NewerBlocks {
  /** Blocks of a data chunk whose newest content is here and not yet in place, as a mask. */
  newer(chunk: number): number;
  /** Copy those of the wanted blocks. @param target begins with block `from` */
  copyNewer(chunk: number, wanted: number, target: Buffer, from: number): void;
}

/** A piece of a read that could not simply come from its member. */
interface HardPiece {
  readonly piece: Buffer;
  readonly at: number;
}

/**
 * The reading side of a RAID-5 array (raid5.ts). Plain reads take no lock: between two awaits, what is newer in memory is copied and everything
 * else is asked of its member. Whoever reads several members of a stripe for parity holds its lock.
 */
export class Raid5Reads {
  readonly #core: GroupCore;
  readonly #geometry: Raid5Geometry;
  readonly #bandBytes: number;
  readonly #bandsPerChunk: number;
  readonly #lock: RangeLock;
  /** Of the array, by band. */
  readonly #slots: ReadonlyMap<number, NewerBlocks>;
  readonly #degraded: DegradedStripes;
  readonly #gatherer: ReadGatherer;
  readonly #part = (buffer: Buffer, from: number, byteCount: number) => this.#core.arena.part(buffer, from, byteCount);

  /** @param lock, slots  the array's own */
  constructor(core: GroupCore, geometry: Raid5Geometry, lock: RangeLock, slots: ReadonlyMap<number, NewerBlocks>) {
    this.#core = core;
    this.#geometry = geometry;
    this.#bandBytes = core.bands.bandBytes;
    this.#bandsPerChunk = geometry.chunkBytes / this.#bandBytes;
    this.#lock = lock;
    this.#slots = slots;
    this.#degraded = new DegradedStripes(core, geometry);
    const runBytes = geometry.parityRun * geometry.stripeBytes;
    this.#gatherer = new ReadGatherer(runBytes, (targets, at) => this.#readNow(targets, at));
  }

  memberAt(at: number): Member {
    const { chunkBytes } = this.#geometry;
    const stripe = Math.floor(at / this.#geometry.stripeBytes);
    const chunk = Math.floor((at % this.#geometry.stripeBytes) / chunkBytes);
    return this.#core.members[this.#geometry.dataMember(stripe, chunk)]!;
  }

  memberByte(at: number): number {
    return this.#geometry.memberByte(Math.floor(at / this.#geometry.stripeBytes)) + (at % this.#geometry.chunkBytes);
  }

  bandAt(at: number): number {
    const inChunk = at % this.#geometry.chunkBytes;
    return Math.floor(at / this.#geometry.stripeBytes) * this.#bandsPerChunk + Math.floor(inChunk / this.#bandBytes);
  }

  readv(targets: readonly Buffer[], at: number): Promise<void> {
    return this.#gatherer.readv(targets, at);
  }

  async #readNow(targets: readonly Buffer[], at: number): Promise<void> {
    this.#core.assertAlive();
    const online = onlineCount(this.#core.members);
    try {
      if (targets.length === 1 && this.#isPlain(targets[0]!, at)) {
        await this.memberAt(at).readv(targets, this.memberByte(at));
        return;
      }
      await this.#readPieces(targets, at);
    } catch (error) {
      if (!isStorageError(error)) throw error;
      this.#core.assertAlive();
      // A disk has gone: the same once more without it. Otherwise it is a bad sector, to be found block by block.
      if (onlineCount(this.#core.members) < online) await this.#readNow(targets, at);
      else await this.#readCarefully(targets, at);
    }
  }

  #readPieces(targets: readonly Buffer[], at: number): Promise<void> {
    const lost = this.#lostMember();
    return lost < 0 ? this.#readChunks(targets, at) : this.#readWithout(lost, targets, at);
  }

  async #readWithout(lost: number, targets: readonly Buffer[], at: number): Promise<void> {
    const from = Math.ceil(at / this.#geometry.stripeBytes) * this.#geometry.stripeBytes;
    const to = Math.floor((at + totalBytes(targets)) / this.#geometry.stripeBytes) * this.#geometry.stripeBytes;
    const extents = from >= to ? null : Extents.of(this.#core.arena, targets, BLOCK_BYTES);
    if (extents === null) {
      await this.#readChunks(targets, at);
      return;
    }
    if (from > at) await this.#readChunks(slicePieces(targets, 0, from - at), at);
    const step = this.#degraded.stripesMax * this.#geometry.stripeBytes;
    for (let next = from; next < to; next += step) {
      const byteCount = Math.min(step, to - next);
      if (await this.#readStripes(extents, next - at, next, byteCount, lost)) continue;
      await this.#readChunks(slicePieces(targets, next - at, byteCount), next);
    }
    const rest = slicePieces(targets, to - at, extents.byteCount - (to - at));
    if (rest.length > 0) await this.#readChunks(rest, to);
  }

  /** The one member of this array that is not to be read; -1: none. Two are nothing that parity could help with. */
  #lostMember(): number {
    return this.#core.members.findIndex((member) => member.slot < this.#geometry.members && !member.prompt);
  }

  /** @returns false when something newer is in memory, or takes no part in the parity: then nothing is done */
  #readStripes(extents: Extents, inRequest: number, at: number, byteCount: number, lost: number): Promise<boolean> {
    const first = at / this.#geometry.stripeBytes;
    const count = byteCount / this.#geometry.stripeBytes;
    return this.#lock.run(first, first + count - 1, async () => {
      for (let stripe = first; this.#core.lost.size > 0 && stripe < first + count; stripe++) {
        if (this.#core.lost.apartWithin(this.#geometry.memberByte(stripe), this.#geometry.chunkBytes)) return false;
      }
      for (let band = first * this.#bandsPerChunk; band < (first + count) * this.#bandsPerChunk; band++) {
        if (this.#slots.has(band)) return false;
      }
      await this.#degraded.read(extents, inRequest, first, count, lost);
      return true;
    });
  }

  async #readChunks(targets: readonly Buffer[], at: number): Promise<void> {
    const batch = new IoBatch(this.#core.members);
    const hard: HardPiece[] = [];
    const plan = (piece: Buffer, pieceAt: number) => this.#planRead(batch, hard, piece, pieceAt);
    cutPieces(targets, at, this.#bandBytes, plan, this.#part);
    await batch.read();
    if (hard.length > 0) await allSettledOrThrow(hard.map(({ piece, at: pieceAt }) => this.#readHard(piece, pieceAt)));
  }

  /** One device call will do: inside one band of an online member, and nothing newer in memory. */
  #isPlain(target: Buffer, at: number): boolean {
    if ((at % this.#bandBytes) + target.length > this.#bandBytes) return false;
    if (this.#slots.size > 0 && this.#slots.has(this.bandAt(at))) return false;
    return this.memberAt(at).prompt;
  }

  /** What is newer in memory is copied now; what was on its member at this moment is read from there. */
  #planRead(batch: IoBatch, hard: HardPiece[], piece: Buffer, at: number): void {
    const member = this.memberAt(at);
    const slot = this.#slots.size === 0 ? undefined : this.#slots.get(this.bandAt(at));
    if (slot === undefined) {
      if (member.prompt) batch.add(member.slot, this.memberByte(at), piece);
      else hard.push({ piece, at });
      return;
    }
    const rest = this.#copyNewer(slot, piece, at);
    if (!member.prompt && rest !== 0) {
      hard.push({ piece, at });
      return;
    }
    const first = (at % this.#bandBytes) / BLOCK_BYTES;
    forEachRun(rest, (from, to) => {
      const skip = (from - first) * BLOCK_BYTES;
      batch.add(member.slot, this.memberByte(at) + skip, piece.subarray(skip, (to - first) * BLOCK_BYTES));
    });
  }

  /** @returns the blocks of the band that the piece covers and the slot did not have newer */
  #copyNewer(slot: NewerBlocks, piece: Buffer, at: number): number {
    const chunk = Math.floor((at % this.#geometry.stripeBytes) / this.#geometry.chunkBytes);
    const first = (at % this.#bandBytes) / BLOCK_BYTES;
    const covered = maskOf(first, first + piece.length / BLOCK_BYTES);
    const newer = slot.newer(chunk) & covered;
    slot.copyNewer(chunk, covered, piece, first);
    return covered & ~newer;
  }

  /** A piece whose member is lost: from the slot, or from all the other members, while nobody writes the stripe. */
  async #readHard(piece: Buffer, at: number): Promise<void> {
    const stripe = Math.floor(at / this.#geometry.stripeBytes);
    await this.#lock.run(stripe, stripe, async () => {
      const slot = this.#slots.get(this.bandAt(at));
      const first = (at % this.#bandBytes) / BLOCK_BYTES;
      const rest =
        slot === undefined ? maskOf(first, first + piece.length / BLOCK_BYTES) : this.#copyNewer(slot, piece, at);
      const parts: Promise<void>[] = [];
      forEachRun(rest, (from, to) => {
        const skip = (from - first) * BLOCK_BYTES;
        const part = piece.subarray(skip, (to - first) * BLOCK_BYTES);
        parts.push(this.#readOrReconstruct(part, at + skip));
      });
      await allSettledOrThrow(parts);
    });
  }

  #readOrReconstruct(target: Buffer, at: number): Promise<void> {
    return readOrReconstruct(this.#core, this.#geometry.members, target, this.memberAt(at), this.memberByte(at));
  }

  /** After a read error: block for block, so that one bad sector costs one reconstruction. */
  async #readCarefully(targets: readonly Buffer[], at: number): Promise<void> {
    const pieces: HardPiece[] = [];
    cutPieces(targets, at, BLOCK_BYTES, (piece, pieceAt) => void pieces.push({ piece, at: pieceAt }));
    for (const { piece, at: pieceAt } of pieces) await this.#readHard(piece, pieceAt);
  }
}
