import fs from "node:fs";
import path from "node:path";
import Database from "better-sqlite3";
import { assert } from "../lib/assert.js";
import { isStorageError, messageOf, StorageError } from "../lib/errors.js";
import { BLOCK_BYTES, MIB } from "../lib/units.js";
import type { ScratchFolder } from "./scratch-folder.js";
import { ScratchRoom } from "./scratch-room.js";

/** SQLite file format, section 4.1: a WAL begins with 32 bytes; each frame is 24 bytes and a page; integers are big-endian. */
const WAL_HEADER_BYTES = 32;
const FRAME = { page: 0, pageCountAfter: 4, content: 24, end: 24 + BLOCK_BYTES } as const;
const FRAMES_READ_AT_ONCE = 128;
/** Folding copies this much inside one turn of the event loop, some 3 ms. */
const WAL_BYTES_MAX = 4 * MIB;

export interface ScratchOptions {
  readonly directory: string;
  /** Names the file. */
  readonly uuid: string;
  readonly cacheBytes: number;
  readonly pageCapacity: number;
  readonly folder: ScratchFolder;
}

/** The new frames of one commit, still in the WAL file. */
export interface Frames {
  readonly count: number;
  /** Of the database after the commit. */
  pageCount: number;
}

/** The file that SQLite will open; it exists only while the store is open, and nothing is lost with it. */
export function scratchPath(options: Pick<ScratchOptions, "directory" | "uuid">): string {
  return path.join(options.directory, `pagestore-${options.uuid}.db`);
}

/** Of the file that holds room for a commit; see ScratchRoom. */
const BALLAST = "-room";

export function removeScratch(file: string): void {
  for (const suffix of ["", "-wal", "-shm", "-journal", BALLAST]) fs.rmSync(file + suffix, { force: true });
}

/** What it means that a file of the scratch folder cannot be written: StorageError ENOSPC, else EIO. What neither a system call nor SQLite gave stays as it is. */
export function scratchError(error: unknown): unknown {
  const { syscall, code } = error as NodeJS.ErrnoException;
  if (syscall === undefined && !(error instanceof Database.SqliteError)) return error;
  const full = code === "ENOSPC" || code === "SQLITE_FULL";
  const what = full
    ? "there is no room for the copy of the metadata in the state directory"
    : `the copy of the metadata in the state directory cannot be written: ${messageOf(error)}`;
  return new StorageError(full ? "ENOSPC" : "EIO", what, { scratch: true }, error);
}

/** It began with the scratch copy of this node: the LU is well, and another node can serve it, or this one when there is room. */
export function isScratchTrouble(error: unknown): boolean {
  if (error instanceof StorageError && error.detail.scratch === true) return true;
  return error instanceof Error && error.cause !== undefined && isScratchTrouble(error.cause);
}

/** Of such trouble, the sentence that says what it is. */
export function scratchTextOf(error: unknown): string {
  if (!(error instanceof Error)) return messageOf(error);
  const deeper = error.cause !== undefined && isScratchTrouble(error.cause);
  return deeper ? scratchTextOf(error.cause) : error.message;
}

/** SQLite on the scratch copy, and the frames that its commits leave in the WAL file. A transaction is always open. */
export class Scratch {
  readonly db: Database.Database;
  readonly #file: string;
  readonly #commit: Database.Statement;
  readonly #begin: Database.Statement;
  readonly #pageCount: Database.Statement;
  readonly #freelistCount: Database.Statement;
  readonly #frameBuffer = Buffer.allocUnsafeSlow(FRAMES_READ_AT_ONCE * FRAME.end);
  #walFd: number | null = null;
  /** Frames before this byte of the WAL are in the log, or are being put there. */
  #walOffset = 0;
  /** The database file must not change: nothing is folded into it. */
  #frozen = false;
  readonly #folder: ScratchFolder;
  readonly #room: ScratchRoom;

  constructor(options: ScratchOptions) {
    this.#file = scratchPath(options);
    this.#folder = options.folder;
    this.#room = new ScratchRoom(this.#file + BALLAST, options.folder, options.pageCapacity * BLOCK_BYTES);
    this.db = new Database(this.#file, { fileMustExist: true });
    try {
      setPragmas(this.db, options);
      this.#commit = this.db.prepare("COMMIT");
      this.#begin = this.db.prepare("BEGIN IMMEDIATE");
      this.#pageCount = this.db.prepare("PRAGMA page_count").pluck();
      this.#freelistCount = this.db.prepare("PRAGMA freelist_count").pluck();
      this.#begin.run();
      // Now, and not with the first commit: then there may be no descriptor left, and a commit that cannot be read is the end of the file system.
      this.#openWal();
    } catch (error) {
      this.db.close();
      this.#room.close();
      throw error;
    }
  }

  /** Whether something may be accepted that makes the copy grow. */
  hasRoom(): boolean {
    return this.#room.hasRoom();
  }

  /**
   * Much is changed for one commit: what is changed so far goes into the WAL now, where the commit finds it, and the next transaction is open. Where there
   * is little room it stays for the commit, which folds. @throws StorageError as `commit`
   */
  portion(): void {
    if (this.#room.lend()) return;
    this.#commitToWal();
    this.#begin.run();
  }

  /** COMMIT. The frames, with those of the portions before, must be read before `begin`. @throws StorageError ENOSPC, EIO (isScratchTrouble); everything since the last one is gone then */
  commit(): Frames {
    this.#room.lend();
    return { count: this.#commitToWal(), pageCount: 0 };
  }

  /** @returns frames that have not been read */
  #commitToWal(): number {
    try {
      const before = this.#newFrames();
      this.#commit.run();
      const count = this.#newFrames();
      this.#folder.wrote((count - before) * FRAME.end);
      return count;
    } catch (error) {
      throw scratchError(error);
    }
  }

  /** Fold the WAL into the database file when it has grown, at once where there is little room, and open the next transaction. */
  begin(): void {
    const { tight } = this.#room;
    if (!this.#frozen && this.#walOffset > (tight ? 0 : WAL_BYTES_MAX)) this.#foldIfRoom();
    if (tight) this.#room.look();
    this.#begin.run();
  }

  /** Without room the WAL stays as it is, and grows on as long as it can. */
  #foldIfRoom(): void {
    try {
      this.#fold();
    } catch (error) {
      if (isStorageError(error) || !isStorageError(scratchError(error), "ENOSPC")) throw scratchError(error);
    }
  }

  get frozen(): boolean {
    return this.#frozen;
  }

  /** Of the WAL, which only grows while the file is frozen. */
  get walBytes(): number {
    return this.#walOffset;
  }

  /**
   * Between `commit` and `begin`: the database file alone holds what was committed, and stays as it is until `thaw`.
   * @returns its path
   */
  freeze(): string {
    assert(!this.#frozen, "the file is frozen once at a time");
    if (this.#walOffset > 0) this.#fold();
    this.#frozen = true;
    return this.#file;
  }

  thaw(): void {
    this.#frozen = false;
  }

  #newFrames(): number {
    if (this.#walFd === null && !this.#openWal()) return 0;
    assert(this.#walFd !== null, "the WAL is open");
    const size = fs.fstatSync(this.#walFd).size;
    if (size <= this.#walOffset) return 0;
    if (this.#walOffset === 0) this.#walOffset = WAL_HEADER_BYTES;
    const count = (size - this.#walOffset) / FRAME.end;
    assert(Number.isInteger(count), "the WAL holds whole frames");
    return count;
  }

  /** @returns whether SQLite has made it yet */
  #openWal(): boolean {
    if (!fs.existsSync(`${this.#file}-wal`)) return false;
    this.#walFd = fs.openSync(`${this.#file}-wal`, "r");
    return true;
  }

  /**
   * Copy the pages of a commit out of the WAL.
   * @param target  4096 bytes for each frame
   * @param pages   receives the page numbers
   */
  readFrames(frames: Frames, target: Buffer, pages: Uint32Array): void {
    for (let done = 0; done < frames.count; ) {
      const count = Math.min(frames.count - done, FRAMES_READ_AT_ONCE);
      this.#readExactly(this.#frameBuffer.subarray(0, count * FRAME.end));
      for (let i = 0; i < count; i++) {
        const at = i * FRAME.end;
        pages[done + i] = this.#frameBuffer.readUInt32BE(at + FRAME.page);
        frames.pageCount = this.#frameBuffer.readUInt32BE(at + FRAME.pageCountAfter);
        this.#frameBuffer.copy(target, (done + i) * BLOCK_BYTES, at + FRAME.content, at + FRAME.end);
      }
      done += count;
    }
    assert(frames.count === 0 || frames.pageCount > 0, "the last frame of a commit says how large the database is");
  }

  #readExactly(target: Buffer): void {
    assert(this.#walFd !== null, "the WAL is open");
    for (let done = 0; done < target.length; ) {
      const count = fs.readSync(this.#walFd, target, done, target.length - done, this.#walOffset + done);
      if (count === 0) throw new StorageError("EIO", "the scratch database's WAL is shorter than it was");
      done += count;
    }
    this.#walOffset += target.length;
  }

  /** After TRUNCATE the WAL is empty and SQLite starts again at its beginning. */
  #fold(): void {
    const rows = this.db.pragma("wal_checkpoint(TRUNCATE)") as readonly { busy: number }[];
    if (rows[0]?.busy !== 0)
      throw new StorageError("EBUSY", "a statement was still running when the transaction ended");
    this.#folder.released(this.#walOffset);
    this.#walOffset = 0;
  }

  /** Pages of the database as the open transaction sees it, less those on its free list. */
  pagesInUse(): number {
    return Number(this.#pageCount.get()) - Number(this.#freelistCount.get());
  }

  /** Close SQLite (an open transaction is rolled back) and remove the file. */
  close(): void {
    if (this.#walFd !== null) fs.closeSync(this.#walFd);
    this.#walFd = null;
    this.db.close();
    this.#room.close();
    removeScratch(this.#file);
  }
}

function setPragmas(db: Database.Database, options: ScratchOptions): void {
  db.pragma(`page_size = ${BLOCK_BYTES}`);
  // One process, one connection: the WAL index stays in this process's memory, no -shm file.
  db.pragma("locking_mode = EXCLUSIVE");
  const mode = db.pragma("journal_mode = WAL", { simple: true });
  assert(mode === "wal", "SQLite works in WAL mode");
  // Durability comes from the log on the LU, never from this file: SQLite must not sync it.
  db.pragma("synchronous = OFF");
  // The frames of a commit must stay where they are until they are in the log: folding is ours.
  db.pragma("wal_autocheckpoint = 0");
  // Frames of a transaction that has not ended must never reach the WAL.
  db.pragma("cache_spill = OFF");
  db.pragma("temp_store = MEMORY");
  // Negative: KiB instead of pages.
  db.pragma(`cache_size = -${Math.ceil(options.cacheBytes / 1024)}`);
  db.pragma(`max_page_count = ${options.pageCapacity}`);
}
