import type Database from "better-sqlite3";
import { assert } from "../lib/assert.js";
import { StorageError } from "../lib/errors.js";
import { EvictionRing } from "../lib/eviction-ring.js";
import type { Random } from "../lib/prng.js";
import { reading } from "./database-error.js";
import { Inode, type InodeMarks } from "./inode.js";
import { type InodeStatements, inodeFromRow, prepareInodeStatements, putInode } from "./inode-row.js";
import { MetaKey, type MetaTable } from "./meta.js";
import type { FileId, FileKind } from "./vfs.js";

/** Inodes in memory when nothing holds them. */
export const INODES_CACHED_DEFAULT = 32_768;
/** What one takes; a link's target counts as so many more as it is long. test/unit/fs/cache-bytes.test.ts measures it. */
export const INODE_BYTES = 320;

/** Steps of the clock's hand for one trim, besides one for each inode too many: what is held is passed by, and the table grows instead. */
const SCAN_STEPS_MAX = 64;

export interface InodeTableOptions {
  readonly db: Database.Database;
  readonly meta: MetaTable;
  readonly random: Random;
  readonly inodesCachedMax?: number;
}

/**
 * Every inode that is in memory, exactly once, and the way from there to its row. A second-chance clock picks what leaves. An inode
 * stays while it is dirty (the row is older), has contents (data in the cache) or an operation holds it; so the table may pass its
 * bound for a time. Nothing leaves in the middle of a synchronous piece: whoever has looked an inode up may use it until the next await.
 */
export class InodeTable implements InodeMarks {
  readonly #byNumber = new Map<number, Inode>();
  readonly #ring = new EvictionRing<Inode>();
  #dirty: Inode[] = [];
  readonly #statements: InodeStatements;
  readonly #meta: MetaTable;
  readonly #random: Random;
  readonly #capacity: number;
  /** Inodes that the targets of links in memory count as. */
  #targetWeight = 0;
  #nextIno: number;
  #inodeCount: number;
  #countersDirty = false;
  #trimming = false;
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
    return this.#ring.length;
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

  /** Put an inode of another file system here under its own number; one that has the number is replaced, and nothing may hold it. */
  adopt(inode: Inode): void {
    const known = this.load(inode.ino);
    if (known === null) {
      this.#inodeCount++;
      this.#countersDirty = true;
    } else {
      assert(known.holders === 0 && known.contents === null, "nobody uses the inode that is replaced");
      known.dead = true;
      known.dirty = false;
      this.#drop(known);
    }
    this.#insert(inode);
    this.markDirty(inode);
  }

  /** Numbers below this are taken. */
  skipTo(nextIno: number): void {
    if (nextIno <= this.#nextIno) return;
    this.#nextIno = nextIno;
    this.#countersDirty = true;
  }

  /** The last link is gone. */
  remove(inode: Inode): void {
    assert(!inode.dead, "an inode dies once");
    this.#statements.delete.run(inode.ino);
    inode.dead = true;
    inode.dirty = false;
    this.#drop(inode);
    this.#inodeCount--;
    this.#countersDirty = true;
  }

  /** Of a link that was just created. */
  setTarget(inode: Inode, target: string): void {
    assert(inode.linkTarget === null, "a link's target never changes");
    inode.linkTarget = target;
    this.#targetWeight += weightOf(target);
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
    inode.recentlyUsed = true;
    this.#ring.add(inode);
    this.#targetWeight += weightOf(inode.linkTarget);
    if (this.#excess <= 0 || this.#trimming) return;
    this.#trimming = true;
    queueMicrotask(() => this.#trim());
  }

  /** Back to the bound, as far as the hand finds what may go. Never in the middle of an operation: it would go on with a second object. */
  #trim(): void {
    this.#trimming = false;
    let steps = this.#excess + SCAN_STEPS_MAX;
    while (this.#excess > 0 && steps-- > 0) this.#lookAtOne();
  }

  get #excess(): number {
    return this.#ring.length + this.#targetWeight - this.#capacity;
  }

  #drop(inode: Inode): void {
    this.#byNumber.delete(inode.ino);
    this.#ring.remove(inode);
    this.#targetWeight -= weightOf(inode.linkTarget);
  }

  #lookAtOne(): void {
    const candidate = this.#ring.next();
    if (this.#mayGo(candidate)) this.#drop(candidate);
  }

  #mayGo(inode: Inode): boolean {
    const chance = inode.recentlyUsed;
    inode.recentlyUsed = false;
    return !chance && !inode.dirty && inode.contents === null && inode.holders === 0;
  }
}

function weightOf(target: string | null): number {
  return target === null ? 0 : Math.ceil(target.length / INODE_BYTES);
}
