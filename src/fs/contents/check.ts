import type Database from "better-sqlite3";
import { isStorageError } from "../../lib/errors.js";
import { BLOCK_BYTES } from "../../lib/units.js";
import type { ContentsFault } from "../contents-contract.js";
import { Inode, type InodeMarks } from "../inode.js";
import { FileKind } from "../vfs.js";
import { decodeExtentMap, newBlockMap } from "./extent-map.js";
import { PENDING } from "./file-state.js";
import type { GroupTable } from "./group-table.js";
import { GROUP_BLOCKS } from "./limits.js";
import type { ReadEpochs } from "./read-epochs.js";
import type { Reader } from "./reader.js";
import type { SpaceMap } from "./space-map.js";

export interface CheckOptions {
  /** Read every block and verify its checksum. */
  readonly data?: boolean;
  /** Files to compare besides those that have extents: a file without any must not count blocks. */
  readonly files?: Iterable<number>;
}

export interface CheckParts {
  readonly db: Database.Database;
  readonly table: GroupTable;
  readonly space: SpaceMap;
  readonly epochs: ReadEpochs;
  readonly reader: Reader;
  readonly inodes: InodeMarks;
}

const ROWS_PER_STEP = 256;

/**
 * Proves that extents, allocation map and inodes agree. The structure is looked at in one synchronous piece (0.15 s per GiB of
 * data), so that it is one moment of a live file system; blocks are read afterwards, those that were freed meanwhile excepted.
 */
export class ContentsCheck {
  readonly #parts: CheckParts;
  readonly #rowsAfter: Database.Statement<[number, number, number, number], [number, number, Buffer]>;
  readonly #faults: ContentsFault[] = [];
  readonly #seen: Uint8Array;
  readonly #blocksOf = new Map<number, number>();
  readonly #orphans: ReadonlySet<number>;
  readonly #map = newBlockMap();
  #seenCount = 0;

  constructor(parts: CheckParts) {
    this.#parts = parts;
    parts.table.writeRows();
    this.#rowsAfter = parts.db
      .prepare<[number, number, number, number], [number, number, Buffer]>(
        "SELECT ino, grp, map FROM extent WHERE ino > ? OR (ino = ? AND grp > ?) ORDER BY ino, grp LIMIT ?",
      )
      .raw();
    this.#seen = new Uint8Array(Math.ceil(parts.space.geometry.blockCount / 8));
    this.#orphans = new Set(parts.db.prepare<[], number>("SELECT ino FROM orphan").pluck().all());
  }

  /** @returns every fault of the structure */
  structure(files: Iterable<number>): readonly ContentsFault[] {
    for (const [ino, group, map] of this.#rows()) this.#row(ino, group, map);
    for (const ino of files) if (!this.#blocksOf.has(ino)) this.#blocksOf.set(ino, 0);
    for (const [ino, blockCount] of this.#blocksOf) this.#file(ino, blockCount);
    this.#allocation();
    return this.#faults;
  }

  /** Read every stored block. */
  async *data(): AsyncIterable<ContentsFault> {
    const buffer = Buffer.alloc(BLOCK_BYTES);
    for (const [ino, group, bytes] of this.#rows()) {
      const map = newBlockMap();
      if (!decodes(bytes, map)) continue;
      const inode = this.#parts.inodes.load(ino) ?? new Inode(ino, 0, FileKind.file);
      for (let slot = 0; slot < GROUP_BLOCKS; slot++) {
        const block = group * GROUP_BLOCKS + slot;
        const address = map.addresses[slot]!;
        if (address < 0 || !this.#stillMapped(ino, group, slot, address)) continue;
        const fault = await this.#verify(inode, block, address, map.crcs[slot]!, buffer);
        if (fault !== null) yield fault;
      }
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
    const map = newBlockMap();
    this.#parts.table.writeRows();
    const row = this.#rowsAfter.all(ino, ino, group - 1, 1)[0];
    if (row === undefined || row[0] !== ino || row[1] !== group || !decodes(row[2], map)) return false;
    return map.addresses[slot] === address;
  }

  *#rows(): Iterable<[number, number, Buffer]> {
    let ino = -1;
    let group = -1;
    for (;;) {
      const rows = this.#rowsAfter.all(ino, ino, group, ROWS_PER_STEP);
      if (rows.length === 0) return;
      yield* rows;
      [ino, group] = rows.at(-1)!;
    }
  }

  #row(ino: number, group: number, bytes: Buffer): void {
    const { space } = this.#parts;
    if (!decodes(bytes, this.#map)) {
      this.#fault(ino, `the map of group ${group} is damaged`);
      return;
    }
    const inode = this.#parts.inodes.load(ino);
    const endBlock = inode === null ? Number.POSITIVE_INFINITY : Math.ceil(inode.sizeBytes / BLOCK_BYTES);
    for (let slot = 0; slot < GROUP_BLOCKS; slot++) {
      const address = this.#map.addresses[slot]!;
      if (address < 0) continue;
      const block = group * GROUP_BLOCKS + slot;
      this.#blocksOf.set(ino, (this.#blocksOf.get(ino) ?? 0) + 1);
      if (block >= endBlock) this.#fault(ino, `block ${block} lies behind the end of the file`);
      if (!space.isStored(address)) this.#fault(ino, `block ${block} at ${address} is not marked as allocated`);
      else if (this.#mark(address)) this.#fault(ino, `block ${block} shares block ${address} of the LU`);
    }
  }

  #file(ino: number, storedBlocks: number): void {
    const inode = this.#parts.inodes.load(ino);
    if (inode === null) {
      if (!this.#orphans.has(ino)) this.#fault(ino, "extents of a file that does not exist");
      return;
    }
    const used = storedBlocks + this.#pendingBlocks(inode);
    if (inode.usedBlocks !== used) this.#fault(ino, `counts ${inode.usedBlocks} blocks and has ${used}`);
  }

  /** Blocks that wait dirty without a place. */
  #pendingBlocks(inode: Inode): number {
    let count = 0;
    for (const group of this.#parts.table.peek(inode)?.groups.values() ?? []) {
      for (let slot = 0; slot < GROUP_BLOCKS; slot++) {
        if (group.addresses[slot]! < 0 && (group.flags[slot]! & PENDING) !== 0) count++;
      }
    }
    return count;
  }

  #allocation(): void {
    const stored = this.#parts.space.countStored();
    if (stored !== this.#seenCount)
      this.#fault(0, `${stored} blocks are marked as allocated, ${this.#seenCount} are mapped`);
    if (!this.#parts.space.rowsAgree()) this.#fault(0, "the segment rows differ from the allocation map");
  }

  /** @returns whether it was marked before */
  #mark(address: number): boolean {
    const bit = 1 << (address % 8);
    const at = Math.floor(address / 8);
    if ((this.#seen[at]! & bit) !== 0) return true;
    this.#seen[at]! |= bit;
    this.#seenCount++;
    return false;
  }

  #fault(ino: number, what: string): void {
    this.#faults.push({ ino, what });
  }
}

function decodes(bytes: Buffer, map: ReturnType<typeof newBlockMap>): boolean {
  try {
    decodeExtentMap(bytes, map);
    return true;
  } catch (error) {
    if (isStorageError(error)) return false;
    throw error;
  }
}
