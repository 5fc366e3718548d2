import type { BlockDevice } from "../device/device.js";
import { isStorageError, StorageError } from "../lib/errors.js";
import type { LuByte } from "../lib/units.js";
import type { LogicalUnit, LuDescription } from "./contract.js";
import { type CopyPlace, Raid1Geometry, RowMap } from "./geometry.js";
import type { GroupRecord, LabelLu } from "./label.js";
import { cutPieces } from "./pieces.js";

/**
 * A RAID-1 LU of a group that another node owns, to be read while that node writes it: for whoever follows. What is being written may be
 * read half; who reads must know what to expect (checksums), and asks again. Nothing is ever written.
 *
 * RAID-1 passes by the group's journal, so the copies on the members are all there is.
 */
export class FollowedLu implements LogicalUnit {
  readonly description: LuDescription;
  readonly sizeBytes: number;
  readonly stripeBytes: number;
  readonly #geometry: Raid1Geometry;
  /** By slot; null: not online, or cannot be read. */
  readonly #devices: readonly (BlockDevice | null)[];

  /** @throws StorageError EINVAL when the LU is no RAID-1, or is being spread anew */
  constructor(record: GroupRecord, lu: LabelLu, devices: readonly (BlockDevice | null)[]) {
    if (lu.level !== 1 || lu.moving !== undefined) {
      throw new StorageError("EINVAL", `LU "${lu.name}" cannot be followed: it is no RAID-1 that rests`);
    }
    const { runs, moving: _, ...description } = lu;
    this.description = { ...description, groupUuid: record.uuid };
    this.#geometry = new Raid1Geometry(lu.width, record.shape.chunkBytes, new RowMap(record.shape, runs));
    this.sizeBytes = lu.sizeBytes;
    this.stripeBytes = record.shape.chunkBytes;
    this.#devices = devices;
  }

  read(target: Buffer, at: LuByte): Promise<void> {
    return this.readv([target], at);
  }

  async readv(targets: readonly Buffer[], at: LuByte): Promise<void> {
    const reads: Promise<void>[] = [];
    cutPieces(targets, at, this.stripeBytes, (piece, pieceAt) => void reads.push(this.#readPiece(piece, pieceAt)));
    await Promise.all(reads);
  }

  async *readAlternatives(target: Buffer, at: LuByte): AsyncIterable<void> {
    for (const copy of [0, 1]) if (await this.#readCopy(target, at, copy)) yield;
  }

  write(): Promise<void> {
    return refuse();
  }

  writev(): Promise<void> {
    return refuse();
  }

  writeThrough(): Promise<void> {
    return refuse();
  }

  /** Nothing is mended: its owner does that. */
  async heal(): Promise<void> {}

  async flush(): Promise<void> {}

  async close(): Promise<void> {}

  async #readPiece(piece: Buffer, at: number): Promise<void> {
    if ((await this.#readCopy(piece, at, 0)) || (await this.#readCopy(piece, at, 1))) return;
    throw new StorageError("EIO", `LU "${this.description.name}": no copy can be read`, { at });
  }

  async #readCopy(target: Buffer, at: number, copy: number): Promise<boolean> {
    const place = { member: 0, inLu: 0 } as CopyPlace;
    this.#geometry.locate(Math.floor(at / this.stripeBytes), copy, place);
    const device = this.#devices[place.member] ?? null;
    if (device === null) return false;
    try {
      await device.read(target, this.#geometry.rows.memberByte(place.inLu) + (at % this.stripeBytes));
      return true;
    } catch (error) {
      if (isStorageError(error)) return false;
      throw error;
    }
  }
}

function refuse(): never {
  throw new StorageError("EROFS", "an LU that is followed is not written");
}
