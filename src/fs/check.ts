import type Database from "better-sqlite3";
import { must } from "../lib/assert.js";
import { StorageError } from "../lib/errors.js";
import { nextTurn } from "../lib/next-turn.js";
import type { ContentsFault } from "./contents-contract.js";
import type { Core } from "./core.js";
import { reading } from "./database-error.js";
import type { DirentWatcher } from "./dirent-table.js";
import type { Inode } from "./inode.js";
import { inodesOfLostLocks } from "./locks/rows.js";
import { dotName } from "./names.js";
import { MODE_MASK } from "./permission.js";
import { ROOT_INO } from "./schema.js";
import { FileKind, LIMITS } from "./vfs.js";

/** Something that must hold and does not. `ino` is the inode it concerns, 0 for the file system as a whole. */
export interface CheckFault {
  readonly ino: number;
  readonly what: string;
}

export interface CheckOptions {
  /** Also read every block and compare it with its checksum. Default: false. */
  readonly data?: boolean;
  /** Faults kept in the report; all are counted. Default 1000. */
  readonly faultsMax?: number;
  /** Inode numbers whose links are counted in one pass over the entries, at 8 bytes each. Default 2,097,152. */
  readonly windowInodes?: number;
  readonly onProgress?: (rowsDone: number) => void;
}

export interface CheckReport {
  readonly ok: boolean;
  readonly inodes: number;
  readonly directories: number;
  readonly files: number;
  /** Allocated to files, of 4096 bytes. */
  readonly blocks: number;
  /** Found in all; `faults` holds the first of them. */
  readonly faultCount: number;
  readonly faults: readonly CheckFault[];
}

/** Rows read in one piece: a millisecond or two, then everybody else has a turn. */
const ROWS_PER_PIECE = 1000;
const WINDOW_INODES = 2 ** 21;
const FAULTS_MAX = 1000;

type EntryRow = readonly [
  parent: number,
  cookie: number,
  name: Buffer,
  ino: number,
  kind: number | null,
  childParent: number | null,
  childParentCookie: number | null,
];

type NodeRow = readonly [
  ino: number,
  kind: number,
  mode: number,
  nlink: number,
  size: number,
  usedBlocks: number,
  parent: number,
  parentCookie: number,
  nextCookie: number,
  target: Buffer | null,
];

interface Statements {
  readonly entries: Database.Statement<[number, number, number], EntryRow>;
  readonly nodes: Database.Statement<[number, number, number], NodeRow>;
  readonly parentRow: Database.Statement<[number], readonly [parent: number, kind: number, nextCookie: number]>;
  readonly firstFrom: Database.Statement<[number], number>;
  readonly lastCookie: Database.Statement<[number], number | null>;
}

function prepare(db: Database.Database): Statements {
  return {
    entries: db
      .prepare<[number, number, number], EntryRow>(
        `SELECT d.parent, d.cookie, d.name, d.ino, i.kind, i.parent, i.parent_cookie
         FROM dirent AS d INDEXED BY dirent_by_cookie LEFT JOIN inode AS i ON i.ino = d.ino
         WHERE (d.parent, d.cookie) > (?, ?) ORDER BY d.parent, d.cookie LIMIT ?`,
      )
      .raw(),
    nodes: db
      .prepare<[number, number, number], NodeRow>(
        `SELECT ino, kind, mode, nlink, size, used_blocks, parent, parent_cookie, next_cookie, target
         FROM inode WHERE ino > ? AND ino < ? ORDER BY ino LIMIT ?`,
      )
      .raw(),
    parentRow: db
      .prepare<[number], readonly [number, number, number]>("SELECT parent, kind, next_cookie FROM inode WHERE ino = ?")
      .raw(),
    firstFrom: db.prepare<[number], number>("SELECT ino FROM inode WHERE ino >= ? ORDER BY ino LIMIT 1").pluck(),
    lastCookie: db.prepare<[number], number | null>("SELECT max(cookie) FROM dirent WHERE parent = ?").pluck(),
  };
}

/** One bit for each inode number. */
class Bits {
  #bytes = new Uint8Array(1024);

  has(n: number): boolean {
    return (((this.#bytes[Math.floor(n / 8)] ?? 0) >> (n % 8)) & 1) === 1;
  }

  add(n: number): void {
    const at = Math.floor(n / 8);
    if (at >= this.#bytes.length) {
      const larger = new Uint8Array(Math.max(at + 1, this.#bytes.length * 2));
      larger.set(this.#bytes);
      this.#bytes = larger;
    }
    this.#bytes[at] = (this.#bytes[at] ?? 0) | (1 << (n % 8));
  }
}

/**
 * Proof, from the rows alone, that the namespace is consistent (I-5). It reads, never mends, and runs beside the service:
 *
 * - It goes over the entries in the order of their keys and over the inodes in the order of their numbers, a piece at a time, with bounded
 *   memory: two counts for each inode of a window (several passes when there are more inodes than a window holds), and one bit for each
 *   directory that is known to hang on the root.
 * - Changes meanwhile do not disturb it: a piece sees rows and memory in step (dirty inodes are written out first), and a change of an
 *   entry that the pass has already gone by corrects the count at once (`changed`); one that lies ahead is met in its turn.
 */
export class NamespaceCheck implements DirentWatcher {
  readonly #core: Core;
  readonly #statements: Statements;
  readonly #options: CheckOptions;
  readonly #windowInodes: number;
  readonly #references: Uint32Array;
  readonly #subdirectories: Uint32Array;
  readonly #hangsOnRoot = new Bits();
  #windowStart = 0;
  #atParent = 0;
  #atCookie = 0;
  #atIno = 0;
  #parentLooked = 0;
  /** No entry has changed since the check began: then the total must agree too. */
  #quiet = true;
  #rowsDone = 0;
  #inodes = 0;
  #directories = 0;
  #files = 0;
  #blocks = 0;
  #faultCount = 0;
  readonly #faults: CheckFault[] = [];

  constructor(core: Core, options: CheckOptions) {
    this.#core = core;
    this.#options = options;
    this.#statements = prepare(core.store.db);
    this.#windowInodes = options.windowInodes ?? WINDOW_INODES;
    const slots = Math.min(this.#windowInodes, core.inodes.nextIno + ROWS_PER_PIECE * 100);
    this.#windowInodes = slots;
    this.#references = new Uint32Array(slots);
    this.#subdirectories = new Uint32Array(slots);
    this.#hangsOnRoot.add(ROOT_INO);
  }

  /** @param contentsFaults  of the layer below, appended to the report */
  async run(contentsFaults: AsyncIterable<ContentsFault>): Promise<CheckReport> {
    if (this.#core.dirents.watcher !== null) throw new StorageError("EBUSY", "a check is under way");
    this.#core.dirents.watcher = this;
    try {
      await this.#namespace();
      this.#total();
      await this.#locks();
      for await (const fault of contentsFaults) this.#fault(fault.ino, fault.what);
    } finally {
      // To the end, so that a second check is refused as long as this one runs.
      this.#core.dirents.watcher = null;
    }
    return this.#report();
  }

  #total(): void {
    const beyond = reading(() => this.#statements.firstFrom.get(this.#core.inodes.nextIno));
    if (beyond !== undefined) this.#fault(beyond, "an inode number that was never given out");
    if (this.#quiet && this.#inodes !== this.#core.inodes.inodeCount) {
      this.#fault(0, `inodes are ${this.#inodes}, counted were ${this.#core.inodes.inodeCount}`);
    }
  }

  async #locks(): Promise<void> {
    const lost = new Set<number>();
    const pages = inodesOfLostLocks(this.#core.store.db);
    await this.#inPieces(() => {
      const { value, done } = pages.next();
      for (const ino of value ?? []) lost.add(ino);
      return done !== true;
    });
    // Entries of one that was just removed go in portions.
    for (const ino of lost) if (!this.#core.locksAreGoing(ino)) this.#fault(ino, "has locks, but does not exist");
  }

  changed(parent: number, cookie: number, child: Inode, delta: 1 | -1): void {
    this.#quiet = false;
    const ahead = parent > this.#atParent || (parent === this.#atParent && cookie > this.#atCookie);
    if (!ahead) this.#count(parent, child.ino, child.kind, delta);
  }

  async #namespace(): Promise<void> {
    // Numbers given out while the check runs belong to the last window, or to none and are left to the next check.
    const end = this.#core.inodes.nextIno;
    for (this.#windowStart = 0; this.#windowStart < end; this.#windowStart += this.#windowInodes) {
      this.#references.fill(0);
      this.#subdirectories.fill(0);
      this.#atParent = 0;
      this.#atCookie = 0;
      await this.#inPieces(() => this.#entriesPiece());
      this.#atIno = this.#windowStart - 1;
      await this.#inPieces(() => this.#nodesPiece());
    }
  }

  /** `piece` says whether there is more. */
  async #inPieces(piece: () => boolean): Promise<void> {
    for (;;) {
      this.#core.requireAlive();
      this.#core.apply(() => this.#core.inodes.flushDirty());
      const more = reading(piece);
      this.#options.onProgress?.(this.#rowsDone);
      if (!more) return;
      await nextTurn();
    }
  }

  #entriesPiece(): boolean {
    const rows = this.#statements.entries.all(this.#atParent, this.#atCookie, ROWS_PER_PIECE);
    for (const row of rows) this.#entry(row);
    this.#rowsDone += rows.length;
    const last = rows.at(-1);
    this.#atParent = last?.[0] ?? this.#atParent;
    this.#atCookie = last?.[1] ?? this.#atCookie;
    if (rows.length === ROWS_PER_PIECE) return true;
    // The end, in this very piece: what comes from now on is counted by `changed`, and a pass never runs after a writer.
    this.#atParent = Number.POSITIVE_INFINITY;
    return false;
  }

  #entry(row: EntryRow): void {
    const [parent, cookie, name, ino, kind, childParent, childParentCookie] = row;
    this.#count(parent, ino, kind ?? 0, 1);
    if (this.#windowStart > 0) return;
    if (parent !== this.#parentLooked) this.#lookAtParent(parent);
    if (kind === null) this.#fault(parent, `entry ${cookie} names inode ${ino}, which does not exist`);
    if (!isStorableName(name)) this.#fault(parent, `entry ${cookie} has a name that cannot be`);
    if (kind === FileKind.directory && (childParent !== parent || childParentCookie !== cookie)) {
      this.#fault(ino, `directory named by entry ${cookie} of ${parent}, but its parent is ${childParent}`);
    }
  }

  /** Entries come sorted by their directory: each is looked at once. */
  #lookAtParent(parent: number): void {
    this.#parentLooked = parent;
    if (this.#statements.parentRow.get(parent)?.[1] !== FileKind.directory)
      this.#fault(parent, "has entries, but is no directory");
  }

  #count(parent: number, ino: number, kind: number, delta: 1 | -1): void {
    this.#add(this.#references, ino, delta);
    if (kind === FileKind.directory) this.#add(this.#subdirectories, parent, delta);
  }

  #add(counts: Uint32Array, ino: number, delta: 1 | -1): void {
    const at = ino - this.#windowStart;
    if (at >= 0 && at < counts.length) counts[at] = (counts[at] ?? 0) + delta;
  }

  #nodesPiece(): boolean {
    const rows = this.#statements.nodes.all(this.#atIno, this.#windowStart + this.#windowInodes, ROWS_PER_PIECE);
    for (const row of rows) this.#node(row);
    this.#rowsDone += rows.length;
    this.#atIno = rows.at(-1)?.[0] ?? this.#atIno;
    return rows.length === ROWS_PER_PIECE;
  }

  #node(row: NodeRow): void {
    const [ino, kind, mode, nlink, size, usedBlocks, , , , target] = row;
    const references = this.#references[ino - this.#windowStart] ?? 0;
    this.#inodes++;
    this.#blocks += usedBlocks;
    if (kind === FileKind.file) this.#files++;
    if (kind < FileKind.file || kind > FileKind.fifo || mode > MODE_MASK)
      this.#fault(ino, `kind ${kind}, mode ${mode}`);
    if (kind === FileKind.directory) this.#directory(row, references);
    else if (references === 0) this.#fault(ino, "no entry names this inode");
    else if (references !== nlink) this.#fault(ino, `nlink is ${nlink}, entries are ${references}`);
    if (kind === FileKind.symlink && target?.length !== size) this.#fault(ino, "the link target has not the size");
  }

  #directory(row: NodeRow, references: number): void {
    const [ino, , , nlink, , , , , nextCookie] = row;
    this.#directories++;
    const expected = ino === ROOT_INO ? 0 : 1;
    if (references !== expected) this.#fault(ino, `a directory named by ${references} entries`);
    const links = 2 + (this.#subdirectories[ino - this.#windowStart] ?? 0);
    if (nlink !== links) this.#fault(ino, `nlink is ${nlink}, should be ${links}`);
    const lastCookie = this.#statements.lastCookie.get(ino) ?? 0;
    if (lastCookie >= nextCookie) this.#fault(ino, `cookie ${lastCookie} is not below the next one, ${nextCookie}`);
    this.#climb(ino);
  }

  /** Up to the root, or to a directory known to hang on it. Every step is taken once in all passes. */
  #climb(start: number): void {
    const path: number[] = [];
    const met = new Set<number>();
    for (let at = start; !this.#hangsOnRoot.has(at); ) {
      const row = this.#statements.parentRow.get(at);
      const fault = climbFault(row?.[1], at, met);
      if (fault !== null) {
        this.#fault(start, fault);
        return;
      }
      met.add(at);
      path.push(at);
      at = must(row, "the row was looked at")[0];
    }
    for (const ino of path) this.#hangsOnRoot.add(ino);
  }

  #fault(ino: number, what: string): void {
    this.#faultCount++;
    if (this.#faults.length < (this.#options.faultsMax ?? FAULTS_MAX)) this.#faults.push({ ino, what });
  }

  #report(): CheckReport {
    return {
      ok: this.#faultCount === 0,
      inodes: this.#inodes,
      directories: this.#directories,
      files: this.#files,
      blocks: this.#blocks,
      faultCount: this.#faultCount,
      faults: this.#faults,
    };
  }
}

function climbFault(kind: number | undefined, at: number, met: ReadonlySet<number>): string | null {
  if (kind !== FileKind.directory) return `${at}, above it, is no directory`;
  return met.has(at) ? "hangs in a circle of directories, not on the root" : null;
}

function isStorableName(name: Buffer): boolean {
  const sized = name.length > 0 && name.length <= LIMITS.nameBytesMax;
  return sized && dotName(name) === null && !name.includes("/") && !name.includes(0);
}
