import { isStorageError, StorageError } from "../lib/errors.js";
import { allSettledOrThrow } from "../lib/mutex.js";
import { BLOCK_BYTES, roundDown } from "../lib/units.js";
import type { GroupCore, RaidArray } from "./core.js";
import type { CopyPlace, Raid1Geometry } from "./geometry.js";
import { IoBatch } from "./io-batch.js";
import type { Member } from "./member.js";
import { onlineCount } from "./online-count.js";
import { cutPieces, totalBytes } from "./pieces.js";
import { isSettledRaid1, settleRaid1 } from "./raid1-resync.js";
import { Raid1Scrub } from "./raid1-scrub.js";
import { RangeLock } from "./range-lock.js";
import { type RowsToRebuild, rebuildRaid1 } from "./rebuild-rows.js";
import type { ScrubRun } from "./scrub-run.js";
import { takeBackRaid1 } from "./take-back.js";

/** Bytes of a two-member mirror that are read from one copy before the other takes over: both disks work, each in long runs. */
const READ_TURN_BYTES = 1024 * 1024;

/**
 * RAID-1: two copies of every chunk (geometry.ts), written at once, read from either. Nothing is cached, nothing journalled: a crash
 * leaves copies that differ only in blocks that were being written; they are made the same before they are first read (raid1-resync.ts).
 */
export class Raid1Array implements RaidArray {
  readonly stripeBytes: number;
  readonly #core: GroupCore;
  readonly #lu: number;
  readonly #geometry: Raid1Geometry;
  /** Of bytes: two writes of one block must reach both copies in the same order. */
  readonly #lock = new RangeLock();

  constructor(core: GroupCore, lu: number, geometry: Raid1Geometry) {
    this.#core = core;
    this.#lu = lu;
    this.#geometry = geometry;
    this.stripeBytes = geometry.chunkBytes;
  }

  get sizeBytes(): number {
    return this.#geometry.capacityBytes;
  }

  /** Byte on the member. */
  #memberByte(place: CopyPlace, inChunk: number): number {
    return this.#geometry.rows.memberByte(place.inLu) + inChunk;
  }

  #preferredCopy(at: number): number {
    return this.#geometry.members === 2 ? Math.floor(at / READ_TURN_BYTES) % 2 : 0;
  }

  /** The member to read a piece from: the preferred copy, or the other when that member is not online. */
  #place(at: number, out: CopyPlace): Member {
    const chunk = Math.floor(at / this.stripeBytes);
    const preferred = this.#preferredCopy(at);
    this.#geometry.locate(chunk, preferred, out);
    const member = this.#core.members[out.member]!;
    if (member.prompt) return member;
    this.#geometry.locate(chunk, 1 - preferred, out);
    const other = this.#core.members[out.member]!;
    if (!member.online || other.prompt) {
      this.#core.counters.degradedReads++;
      return other;
    }
    this.#geometry.locate(chunk, preferred, out);
    return member;
  }

  async readv(targets: readonly Buffer[], at: number): Promise<void> {
    this.#core.assertAlive();
    if (this.#core.unsettled.any) await this.#settleBytes(at, at + totalBytes(targets));
    const online = onlineCount(this.#core.members);
    const batch = new IoBatch(this.#core.members);
    const place = { member: 0, inLu: 0 } as CopyPlace;
    cutPieces(targets, at, this.stripeBytes, (piece, pieceAt) => {
      const member = this.#place(pieceAt, place);
      batch.add(member.slot, this.#memberByte(place, pieceAt % this.stripeBytes), piece);
    });
    try {
      await batch.read();
    } catch (error) {
      if (!isStorageError(error)) throw error;
      this.#core.assertAlive();
      // A disk has gone: the same once more without it. Otherwise it is a bad sector, to be found block by block.
      if (onlineCount(this.#core.members) < online) await this.readv(targets, at);
      else await this.#readCarefully(targets, at);
    }
  }

  /** Block for block from whichever copy can be read: what one bad sector costs is one block from the other disk. */
  async #readCarefully(targets: readonly Buffer[], at: number): Promise<void> {
    const pieces: Array<{ piece: Buffer; at: number }> = [];
    cutPieces(targets, at, BLOCK_BYTES, (piece, pieceAt) => void pieces.push({ piece, at: pieceAt }));
    for (const { piece, at: pieceAt } of pieces) {
      const preferred = this.#preferredCopy(pieceAt);
      if (await this.#readCopy(piece, pieceAt, preferred)) continue;
      await this.#lock.run(pieceAt, pieceAt + BLOCK_BYTES - 1, () =>
        this.#readOtherAndRepair(piece, pieceAt, preferred),
      );
    }
  }

  /** A block of a member in use that cannot be read is written anew from the other copy. Nobody else is writing it. */
  async #readOtherAndRepair(target: Buffer, at: number, unreadable: number): Promise<void> {
    const core = this.#core;
    core.counters.degradedReads++;
    if (!(await this.#readCopy(target, at, 1 - unreadable))) {
      core.assertAlive();
      throw new StorageError("EIO", "no copy can be read", { group: core.name, at });
    }
    const { member, position } = this.#copyAt(at, unreadable);
    if (member.online) await member.repair(target, position, "read");
  }

  /** @returns false when this copy cannot be had */
  async #readCopy(target: Buffer, at: number, copy: number): Promise<boolean> {
    const place = { member: 0, inLu: 0 } as CopyPlace;
    this.#geometry.locate(Math.floor(at / this.stripeBytes), copy, place);
    const member = this.#core.members[place.member]!;
    try {
      await member.readv([target], this.#memberByte(place, at % this.stripeBytes));
      return true;
    } catch (error) {
      if (isStorageError(error)) return false;
      throw error;
    }
  }

  async writev(sources: readonly Buffer[], at: number): Promise<void> {
    await this.#write(sources, at, (batch) => batch.write(true));
  }

  async writeThrough(sources: readonly Buffer[], at: number): Promise<void> {
    this.#core.guard();
    await this.#write(sources, at, (batch) => batch.writeThrough());
    await this.#core.labelsSettled();
    this.#core.assertAlive();
  }

  async #write(sources: readonly Buffer[], at: number, write: (batch: IoBatch) => Promise<void>): Promise<void> {
    const core = this.#core;
    core.assertAlive();
    const writable = core.writable();
    if (writable !== null) await writable;
    let byteCount = 0;
    for (const source of sources) byteCount += source.length;
    if (byteCount === 0) return;
    const hold = this.#lock.tryAcquire(at, at + byteCount - 1) ?? (await this.#lock.acquire(at, at + byteCount - 1));
    try {
      await this.#writeMarked(this.#plan(sources, at), write);
      if (core.lost.size > 0) core.losses.written(this.#lu, at, byteCount);
    } finally {
      this.#lock.release(hold);
    }
    core.assertAlive();
  }

  #plan(sources: readonly Buffer[], at: number): IoBatch {
    const batch = new IoBatch(this.#core.members);
    const place = { member: 0, inLu: 0 } as CopyPlace;
    cutPieces(sources, at, this.stripeBytes, (piece, pieceAt) => {
      for (let copy = 0; copy < 2; copy++) {
        this.#geometry.locate(Math.floor(pieceAt / this.stripeBytes), copy, place);
        batch.add(place.member, this.#memberByte(place, pieceAt % this.stripeBytes), piece);
      }
    });
    return batch;
  }

  /** The write-intent bits of everything that is touched are durable before the first byte is written. */
  async #writeMarked(batch: IoBatch, write: (batch: IoBatch) => Promise<void>): Promise<void> {
    const { bitmap } = this.#core;
    const runs = batch.runs();
    const marks = runs.map((run) => bitmap.enter(run.position, run.end)).filter((mark) => mark !== null);
    try {
      if (marks.length > 0) await Promise.all(marks);
      await write(batch);
    } finally {
      for (const run of runs) bitmap.leave(run.position, run.end);
    }
  }

  async flush(): Promise<void> {
    const core = this.#core;
    core.guard();
    core.counters.flushes++;
    await Promise.all(core.members.map((member) => member.flush(true)));
    await core.labelsSettled();
    core.assertAlive();
  }

  async *readAlternatives(target: Buffer, at: number): AsyncIterable<void> {
    await this.#settleBytes(at, at + BLOCK_BYTES);
    const preferred = this.#preferredCopy(at);
    for (const copy of [1 - preferred, preferred]) {
      if (await this.#readCopy(target, at, copy)) yield;
    }
  }

  /** Durable at once: were it lost in a crash, making copies the same again could spread the bad one over the good one. */
  async heal(good: Buffer, at: number): Promise<void> {
    const bad: number[] = [];
    const found = Buffer.allocUnsafe(BLOCK_BYTES);
    for (const copy of [0, 1]) if ((await this.#readCopy(found, at, copy)) && !found.equals(good)) bad.push(copy);
    await this.writeThrough([good], at);
    this.#core.counters.healedBlocks++;
    for (const copy of bad) {
      const { member, position } = this.#copyAt(at, copy);
      this.#core.emit("healed", { at, position }, member.label.number);
      if (member.online) member.count("checksum", position, true);
    }
  }

  exclusive<T>(from: number, to: number, action: () => Promise<T>): Promise<T> {
    const { first, end } = this.#geometry.chunksIn(from, to);
    return this.#lock.run(first * this.stripeBytes, end * this.stripeBytes - 1, async () => {
      await this.#settleHeld(first * this.stripeBytes, end * this.stripeBytes);
      return action();
    });
  }

  async rebuild(rows: RowsToRebuild): Promise<number> {
    let lost = 0;
    const cut = { from: rows.from, to: rows.to, unit: 2 * this.stripeBytes, parts: 1 };
    await this.#core.workspace.inLanes(cut, async (from, to, buffers) => {
      lost += await this.exclusive(from, to, () =>
        rebuildRaid1(this.#core, this.#geometry, { ...rows, from, to }, buffers[0]!),
      );
    });
    return lost;
  }

  takeBack(at: number): Promise<boolean> {
    const take = () => takeBackRaid1(this.#core, this.#lu, this.#geometry, at);
    return this.#lock.run(at, at + BLOCK_BYTES - 1, take);
  }

  async drain(): Promise<void> {
    await this.#lock.run(0, this.sizeBytes, async () => {});
  }

  span(from: number, to: number): { from: number; to: number } {
    const { first, end } = this.#geometry.chunksIn(from, to);
    return { from: first * this.stripeBytes, to: end * this.stripeBytes };
  }

  async scrub(from: number, to: number, run: ScrubRun): Promise<void> {
    const scrub = new Raid1Scrub(this.#core, this.#geometry, run);
    await this.exclusive(from, to, () => scrub.rows(from, to));
    // Whoever waited to write there has done so now.
    for (const at of scrub.again) await this.#lock.run(at, at + BLOCK_BYTES - 1, () => scrub.confirm(at));
  }

  async resync(from: number, to: number): Promise<number> {
    const { first, end } = this.#geometry.chunksIn(from, to);
    const { bandBytes } = this.#core.bands;
    let written = 0;
    for (let at = first * this.stripeBytes; at < end * this.stripeBytes; at += bandBytes) {
      written += await this.#settleBand(at);
    }
    return written;
  }

  /** @param at  byte of the LU where the band begins */
  #settleBand(at: number): Promise<number> {
    const settle = () => settleRaid1(this.#core, this.#geometry, at);
    return this.#lock.run(at, at + this.#core.bands.bandBytes - 1, settle);
  }

  /** The bands of [from, to) of the LU, whose lock is held. */
  async #settleHeld(from: number, to: number): Promise<void> {
    if (!this.#core.unsettled.any) return;
    for (let at = from; at < to; at += this.#core.bands.bandBytes) await settleRaid1(this.#core, this.#geometry, at);
  }

  /** The bands of [from, to) of the LU. */
  async #settleBytes(from: number, to: number): Promise<void> {
    const { bandBytes } = this.#core.bands;
    const settling: Promise<number>[] = [];
    for (let at = roundDown(from, bandBytes); at < to; at += bandBytes) {
      if (!isSettledRaid1(this.#core, this.#geometry, at)) settling.push(this.#settleBand(at));
    }
    await allSettledOrThrow(settling);
  }

  #copyAt(at: number, copy: number): { member: Member; position: number } {
    const place = this.#geometry.place(Math.floor(at / this.stripeBytes), copy);
    return { member: this.#core.members[place.member]!, position: this.#memberByte(place, at % this.stripeBytes) };
  }
}
