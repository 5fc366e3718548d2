import type Database from "better-sqlite3";
import { isStorageError, StorageError } from "../../lib/errors.js";
import { nextTurn } from "../../lib/next-turn.js";
import { BLOCK_BYTES } from "../../lib/units.js";
import type { ContentsFault } from "../contents-contract.js";
import { Inode, type InodeMarks } from "../inode.js";
import { FileKind } from "../vfs.js";
import { newBlockMap, tryDecodeExtentMap } from "./extent-map.js";
import { PENDING } from "./file-state.js";
import type { Freer } from "./freer.js";
import type { GroupTable, MapWatcher } from "./group-table.js";
import { GROUP_BLOCKS } from "./limits.js";
import type { ReadEpochs } from "./read-epochs.js";
import type { Reader } from "./reader.js";
import { EXTENT_ROWS_AFTER } from "./schema.js";
import type { SpaceMap } from "./space-map.js";

export interface CheckOptions {
  /** Read every block and verify its checksum. */
  readonly data?: boolean;
  /** Files to compare besides those that have extents: a file without any must not count blocks. */
  readonly files?: Iterable<number>;
  /** After each slice, before others have their turn: rows, files or segments looked at in it. */
  readonly onSlice?: (itemCount: number) => void;
}

export interface CheckParts {
  readonly db: Database.Database;
  readonly table: GroupTable;
  readonly space: SpaceMap;
  readonly epochs: ReadEpochs;
  readonly reader: Reader;
  readonly freer: Freer;
  readonly inodes: InodeMarks;
}

/** Extent rows of one slice: at 40 microseconds each about 3 ms, then everybody else has a turn. */
export const CHECK_ROWS_PER_SLICE = 64;
/** Files, and segments, of one slice: a look-up each, and little more. */
export const CHECK_ITEMS_PER_SLICE = 256;

type Row = readonly [ino: number, group: number, map: Buffer];

/**
 * Proves that extents, allocation map and inodes agree, beside the service. It goes over the extent rows in the order of their keys, a slice
 * at a time; each slice sees rows and memory in step (changed rows are written first). Between slices the map changes: what changes in
 * rows that the pass has gone by corrects its bits and counts at once (`mapped`, `unmapped`), and the rest is met in its turn. So at
 * every moment the bits are the blocks that the rows up to the cursor map, and nothing has to be looked at twice.
 *
 * A file is compared with its inode in the slice in which the cursor leaves it, the allocation map with the bits in slices at the end.
 */
export class ContentsCheck implements MapWatcher {
  readonly #parts: CheckParts;
  readonly #onSlice: (itemCount: number) => void;
  readonly #rowsAfter: Database.Statement<[number, number, number], Row>;
  readonly #anyRow: Database.Statement<[number], number>;
  readonly #freeingRows: Database.Statement<[number, number], [number, number]>;
  #seen: Uint8Array;
  readonly #map = newBlockMap();
  #faults: ContentsFault[] = [];
  #atIno = -1;
  #atGroup = -1;
  /** Blocks of inode `#atIno` in the rows up to the cursor. */
  #fileBlocks = 0;
  #leakedBlocks = 0;

  constructor(parts: CheckParts, onSlice: (itemCount: number) => void = () => {}) {
    this.#parts = parts;
    this.#onSlice = onSlice;
    this.#rowsAfter = parts.db.prepare<[number, number, number], Row>(EXTENT_ROWS_AFTER).raw();
    this.#anyRow = parts.db.prepare<[number], number>("SELECT 1 FROM extent WHERE ino = ? LIMIT 1").pluck();
    this.#freeingRows = parts.db
      .prepare<[number, number], [number, number]>("SELECT ino, grp FROM freeing WHERE ino > ? ORDER BY ino LIMIT ?")
      .raw();
    this.#seen = new Uint8Array(Math.ceil(parts.space.geometry.blockCount / 8));
  }

  /** @throws StorageError EBUSY another check runs; EIO the file system was closed */
  async *structure(files: Iterable<number>): AsyncIterable<ContentsFault> {
    const { table } = this.#parts;
    if (table.watcher !== null) throw new StorageError("EBUSY", "a check is under way");
    table.watcher = this;
    try {
      yield* this.#slices(() => this.#rowsSlice());
      const rest = files[Symbol.iterator]();
      yield* this.#slices(() => this.#filesSlice(rest));
      let freeingAfter = -1;
      yield* this.#slices(() => {
        const rows = this.#freeingRows.all(freeingAfter, CHECK_ITEMS_PER_SLICE);
        for (const [ino, group] of rows) this.#freeing(ino, group);
        freeingAfter = rows.at(-1)?.[0] ?? freeingAfter;
        return rows.length;
      });
      let segment = 0;
      yield* this.#slices(() => {
        const end = Math.min(segment + CHECK_ITEMS_PER_SLICE, this.#parts.space.segmentCount);
        const count = end - segment;
        for (; segment < end; segment++) this.#segment(segment);
        return count;
      });
      if (this.#leakedBlocks > 0) {
        yield { ino: 0, what: `${this.#leakedBlocks} blocks are marked as allocated, and nothing maps them` };
      }
    } finally {
      table.watcher = null;
    }
  }

  /** Read every stored block. */
  async *data(): AsyncIterable<ContentsFault> {
    const buffer = Buffer.alloc(BLOCK_BYTES);
    let [ino, group] = [-1, -1];
    for (;;) {
      const row = this.#rowsAfter.all(ino, group, 1)[0];
      if (row === undefined) return;
      [ino, group] = row;
      yield* this.#rowData(row, buffer);
      this.#refuseClosed();
      this.#parts.table.writeRows();
    }
  }

  mapped(ino: number, group: number, address: number): void {
    if (!this.#passed(ino, group)) return;
    if (this.#mark(address)) this.#fault(ino, `two blocks share block ${address} of the LU`);
    if (ino === this.#atIno) this.#fileBlocks++;
  }

  unmapped(ino: number, group: number, address: number): void {
    if (!this.#passed(ino, group)) return;
    this.#seen[Math.floor(address / 8)]! &= ~(1 << (address % 8));
    if (ino === this.#atIno) this.#fileBlocks--;
  }

  #passed(ino: number, group: number): boolean {
    return ino < this.#atIno || (ino === this.#atIno && group <= this.#atGroup);
  }

  /** @param slice  looks at some items in one synchronous piece, and says how many; 0: there are no more */
  async *#slices(slice: () => number): AsyncIterable<ContentsFault> {
    for (;;) {
      this.#refuseClosed();
      this.#parts.table.writeRows();
      const itemCount = slice();
      const faults = this.#faults;
      this.#faults = [];
      this.#onSlice(itemCount);
      yield* faults;
      if (itemCount === 0) return;
      await nextTurn();
    }
  }

  #refuseClosed(): void {
    if (!this.#parts.db.open) throw new StorageError("EIO", "the file system was closed while it was checked");
  }

  #rowsSlice(): number {
    const rows = this.#rowsAfter.all(this.#atIno, this.#atGroup, CHECK_ROWS_PER_SLICE);
    for (const [ino, group, map] of rows) {
      if (ino !== this.#atIno) this.#leaveFile(ino);
      this.#atGroup = group;
      this.#row(ino, group, map);
    }
    // The end, in this very piece: whatever is mapped from now on is followed.
    if (rows.length === 0) this.#leaveFile(Number.POSITIVE_INFINITY);
    return rows.length;
  }

  /** All rows of the file that the cursor stands in are behind it: compare, at this moment. */
  #leaveFile(next: number): void {
    if (this.#atIno >= 0) this.#file(this.#atIno, this.#fileBlocks);
    this.#atIno = next;
    this.#fileBlocks = 0;
  }

  #filesSlice(files: Iterator<number>): number {
    let count = 0;
    for (; count < CHECK_ITEMS_PER_SLICE; count++) {
      const next = files.next();
      if (next.done === true) break;
      // One with extents was compared when the cursor left it, or is newer than that.
      if (this.#anyRow.get(next.value) === undefined) this.#file(next.value, 0);
    }
    return count;
  }

  #freeing(ino: number, group: number): void {
    const { freer, inodes } = this.#parts;
    if (freer.firstGroup(ino) !== group) this.#fault(ino, `is not being freed from group ${group} on, as its row says`);
    const inode = inodes.load(ino);
    if (inode === null || inode.sizeBytes <= group * GROUP_BLOCKS * BLOCK_BYTES) return;
    this.#fault(ino, `reaches into group ${group}, which is being freed`);
  }

  #segment(segment: number): void {
    const { space } = this.#parts;
    if (!space.rowAgrees(segment)) this.#fault(0, `the row of segment ${segment} differs from the allocation map`);
    this.#leakedBlocks += space.countStoredOutside(segment, this.#seen);
  }

  #row(ino: number, group: number, bytes: Buffer): void {
    const { space, inodes, freer } = this.#parts;
    if (!tryDecodeExtentMap(bytes, this.#map)) {
      this.#fault(ino, `the map of group ${group} is damaged`);
      return;
    }
    const inode = inodes.load(ino);
    const cutOff = inode === null || group >= freer.firstGroup(ino);
    const endBlock = cutOff ? Number.POSITIVE_INFINITY : Math.ceil(inode.sizeBytes / BLOCK_BYTES);
    for (let slot = 0; slot < GROUP_BLOCKS; slot++) {
      const address = this.#map.addresses[slot]!;
      if (address < 0) continue;
      const block = group * GROUP_BLOCKS + slot;
      this.#fileBlocks++;
      if (block >= endBlock) this.#fault(ino, `block ${block} lies behind the end of the file`);
      if (!space.isStored(address)) this.#fault(ino, `block ${block} at ${address} is not marked as allocated`);
      else if (this.#mark(address)) this.#fault(ino, `block ${block} shares block ${address} of the LU`);
    }
  }

  #file(ino: number, storedBlocks: number): void {
    const inode = this.#parts.inodes.load(ino);
    if (inode === null) {
      const freed = storedBlocks === 0 || this.#parts.freer.firstGroup(ino) === 0;
      if (!freed) this.#fault(ino, "extents of a file that does not exist");
      return;
    }
    const used = storedBlocks + this.#pendingBlocks(inode);
    if (inode.usedBlocks !== used) this.#fault(ino, `counts ${inode.usedBlocks} blocks and has ${used}`);
  }

  /** Blocks that wait dirty without a place. */
  #pendingBlocks(inode: Inode): number {
    let count = 0;
    for (const group of this.#parts.table.peek(inode)?.groups.values() ?? []) {
      if (group.dirtyCount + group.writingCount === 0) continue;
      for (let slot = 0; slot < GROUP_BLOCKS; slot++) {
        if (group.addresses[slot]! < 0 && (group.flags[slot]! & PENDING) !== 0) count++;
      }
    }
    return count;
  }

  async *#rowData([ino, group, bytes]: Row, buffer: Buffer): AsyncIterable<ContentsFault> {
    const map = newBlockMap();
    if (!tryDecodeExtentMap(bytes, map)) return;
    const inode = this.#parts.inodes.load(ino) ?? new Inode(ino, 0, FileKind.file);
    for (let slot = 0; slot < GROUP_BLOCKS; slot++) {
      const block = group * GROUP_BLOCKS + slot;
      const address = map.addresses[slot]!;
      if (address < 0 || !this.#stillMapped(ino, group, slot, address)) continue;
      const fault = await this.#verify(inode, block, address, map.crcs[slot]!, buffer);
      if (fault !== null) yield fault;
    }
  }

  async #verify(
    inode: Inode,
    block: number,
    address: number,
    crc: number,
    buffer: Buffer,
  ): Promise<ContentsFault | null> {
    const epoch = this.#parts.epochs.enter();
    try {
      await this.#parts.reader.verify(inode, block, address, crc, buffer);
      return null;
    } catch (error) {
      if (!isStorageError(error)) throw error;
      return { ino: inode.ino, what: `block ${block} at ${address * BLOCK_BYTES}: ${error.message}` };
    } finally {
      this.#parts.epochs.leave(epoch);
    }
  }

  /** The row was read a while ago: see what it says now. */
  #stillMapped(ino: number, group: number, slot: number, address: number): boolean {
    this.#refuseClosed();
    this.#parts.table.writeRows();
    const row = this.#rowsAfter.all(ino, group - 1, 1)[0];
    if (row === undefined || row[0] !== ino || row[1] !== group || !tryDecodeExtentMap(row[2], this.#map)) return false;
    return this.#map.addresses[slot] === address;
  }

  /** @returns whether it was marked before */
  #mark(address: number): boolean {
    const bit = 1 << (address % 8);
    const at = Math.floor(address / 8);
    if (at >= this.#seen.length) this.#enlarge();
    if ((this.#seen[at]! & bit) !== 0) return true;
    this.#seen[at]! |= bit;
    return false;
  }

  /** The data LU has grown meanwhile. */
  #enlarge(): void {
    const larger = new Uint8Array(Math.ceil(this.#parts.space.geometry.blockCount / 8));
    larger.set(this.#seen);
    this.#seen = larger;
  }

  #fault(ino: number, what: string): void {
    this.#faults.push({ ino, what });
  }
}
