import type Database from "better-sqlite3";
import { assert, must } from "../lib/assert.js";
import { StorageError } from "../lib/errors.js";
import type { Random } from "../lib/prng.js";
import { reading } from "./database-error.js";
import { Inode, type InodeMarks } from "./inode.js";
import { type InodeStatements, inodeFromRow, prepareInodeStatements, putInode } from "./inode-row.js";
import { MetaKey, type MetaTable } from "./meta.js";
import type { FileId, FileKind } from "./vfs.js";

/** Inodes in memory when nothing holds them: about 350 bytes each. */
export const INODES_CACHED_DEFAULT = 65_536;

/** Steps of the clock's hand for one new inode: when so many in a row are held, the table grows instead. */
const SCAN_STEPS_MAX = 32;

export interface InodeTableOptions {
  readonly db: Database.Database;
  readonly meta: MetaTable;
  readonly random: Random;
  readonly inodesCachedMax?: number;
}

/**
 * Every inode that is in memory, exactly once, and the way from there to its row. A second-chance clock picks what leaves. An inode
 * stays while it is dirty (the row is older) or has contents (data in the cache); so the table may pass its bound for a time.
 */
export class InodeTable implements InodeMarks {
  readonly #byNumber = new Map<number, Inode>();
  readonly #ring: Inode[] = [];
  #hand = 0;
  #dirty: Inode[] = [];
  readonly #statements: InodeStatements;
  readonly #meta: MetaTable;
  readonly #random: Random;
  readonly #capacity: number;
  #nextIno: number;
  #inodeCount: number;
  #countersDirty = false;
  #misses = 0;

  constructor(options: InodeTableOptions) {
    this.#statements = prepareInodeStatements(options.db);
    this.#meta = options.meta;
    this.#random = options.random;
    this.#capacity = options.inodesCachedMax ?? INODES_CACHED_DEFAULT;
    this.#nextIno = options.meta.number(MetaKey.nextIno);
    this.#inodeCount = options.meta.number(MetaKey.inodeCount);
  }

  get inodeCount(): number {
    return this.#inodeCount;
  }

  /** One more than the highest number that was ever given out. */
  get nextIno(): number {
    return this.#nextIno;
  }

  get cachedCount(): number {
    return this.#byNumber.size;
  }

  get dirtyCount(): number {
    return this.#dirty.length;
  }

  get misses(): number {
    return this.#misses;
  }

  load(ino: number): Inode | null {
    const cached = this.#byNumber.get(ino);
    if (cached === undefined) return this.#fetch(ino);
    cached.recentlyUsed = true;
    return cached;
  }

  /** @throws StorageError ESTALE when there is no such inode (any more). */
  resolve(id: FileId): Inode {
    const inode = this.load(id.ino);
    if (inode === null || inode.generation !== id.generation) throw new StorageError("ESTALE", "no such inode");
    return inode;
  }

  /** A number that an entry or a parent names. @throws StorageError EIO when the row is missing: the tree is damaged. */
  child(ino: number): Inode {
    const inode = this.load(ino);
    if (inode === null) throw new StorageError("EIO", "an entry names an inode that does not exist", { ino });
    return inode;
  }

  create(kind: FileKind): Inode {
    const inode = new Inode(this.#nextIno++, this.#random.next(), kind);
    this.#inodeCount++;
    this.#countersDirty = true;
    this.#insert(inode);
    this.markDirty(inode);
    return inode;
  }

  /** The last link is gone. */
  remove(inode: Inode): void {
    assert(!inode.dead, "an inode dies once");
    this.#statements.delete.run(inode.ino);
    inode.dead = true;
    inode.dirty = false;
    this.#byNumber.delete(inode.ino);
    this.#inodeCount--;
    this.#countersDirty = true;
  }

  markDirty(inode: Inode): void {
    if (inode.dirty || inode.dead) return;
    inode.dirty = true;
    this.#dirty.push(inode);
  }

  /** Write every dirty row, and the counters, into the open transaction. */
  flushDirty(): void {
    const dirty = this.#dirty;
    this.#dirty = [];
    for (const inode of dirty) {
      if (!inode.dirty) continue;
      putInode(this.#statements, inode);
      inode.dirty = false;
    }
    if (!this.#countersDirty) return;
    this.#countersDirty = false;
    this.#meta.put(MetaKey.nextIno, this.#nextIno);
    this.#meta.put(MetaKey.inodeCount, this.#inodeCount);
  }

  #fetch(ino: number): Inode | null {
    this.#misses++;
    const row = reading(() => this.#statements.select.get(ino));
    if (row === undefined) return null;
    const inode = inodeFromRow(row);
    this.#insert(inode);
    return inode;
  }

  #insert(inode: Inode): void {
    this.#byNumber.set(inode.ino, inode);
    const slot = this.#ring.length < this.#capacity ? -1 : this.#freeSlot();
    if (slot < 0) {
      this.#ring.push(inode);
      return;
    }
    this.#ring[slot] = inode;
    if (this.#ring.length > this.#capacity) this.#shrink();
  }

  /** Give back what the table grew by while too much was held, one for each new inode. */
  #shrink(): void {
    const slot = this.#freeSlot();
    const last = must(this.#ring.pop(), "the ring is not empty");
    if (slot < 0) this.#ring.push(last);
    else if (slot < this.#ring.length) this.#ring[slot] = last;
  }

  /** @returns the ring's index of an inode that has just left the table; -1 when the hand found none. */
  #freeSlot(): number {
    for (let step = 0; step < SCAN_STEPS_MAX; step++) {
      const at = this.#hand < this.#ring.length ? this.#hand : 0;
      this.#hand = at + 1;
      const candidate = must(this.#ring[at], "the hand is inside the ring");
      if (candidate.dead) return at;
      if (candidate.recentlyUsed) candidate.recentlyUsed = false;
      else if (!candidate.dirty && candidate.contents === null) {
        this.#byNumber.delete(candidate.ino);
        return at;
      }
    }
    return -1;
  }
}
