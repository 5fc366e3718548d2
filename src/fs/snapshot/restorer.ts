import type Database from "better-sqlite3";
import { StorageError } from "../../lib/errors.js";
import { BLOCK_BYTES } from "../../lib/units.js";
import type { PageStore } from "../../pagestore/contract.js";
import type { Contents } from "../contents-contract.js";
import { type InodeRow, inodeFromRow } from "../inode-row.js";
import type { InodeTable } from "../inode-table.js";
import { FileKind } from "../vfs.js";
import { GROUP_BYTES, type SnapshotEntry } from "./snapshot.js";

/** Rows between two commits: far below what a record of the smallest log holds. */
const ROWS_PER_COMMIT = 256;
/** Of an operation's need of database pages, however the trees are split. */
const PAGES_PER_ROW = 8;

/** Nobody looks on: times come from the inodes that are restored. */
const UNOBSERVED = { before() {}, after() {} };

export interface RestorerParts {
  readonly store: PageStore;
  readonly inodes: InodeTable;
  readonly contents: Contents & { settleAll(): Promise<void> };
}

/**
 * Puts a file system together from what a backup says, with the inode numbers, generations, cookies and times that it had, into one that is
 * empty. Nobody is served meanwhile; afterwards it is closed, mounted anew and checked.
 *
 * The tables come first and once, those of the newest backup; then what groups hold, the newest first: of a group that came already nothing
 * older is taken.
 */
export class Restorer {
  readonly #parts: RestorerParts;
  readonly #putEntry: Database.Statement<[number, Buffer, number, number]>;
  readonly #restored = new GroupMarks();
  #rows = 0;

  constructor(parts: RestorerParts) {
    this.#parts = parts;
    this.#putEntry = parts.store.db.prepare("REPLACE INTO dirent (parent, name, cookie, ino) VALUES (?, ?, ?, ?)");
  }

  /** @throws StorageError EIO, ENOSPC (the metadata LU is too small) */
  async putInode(row: InodeRow): Promise<void> {
    const inode = inodeFromRow(row);
    // Blocks come with the groups; until then everything is a hole.
    inode.usedBlocks = 0;
    this.#parts.inodes.adopt(inode);
    await this.#count();
  }

  /** @throws StorageError as putInode */
  async putEntry({ parent, name, cookie, ino }: SnapshotEntry): Promise<void> {
    this.#putEntry.run(parent, name, cookie, ino);
    await this.#count();
  }

  /** The tables have ended. @param nextIno  numbers below it were given out */
  async endTables(nextIno: number): Promise<void> {
    this.#parts.inodes.skipTo(nextIno);
    await this.#parts.store.durable();
  }

  /**
   * What a group of a file holds; nothing happens when something newer of it came already, or the file is gone by now.
   * @param slots  of the blocks that are there, rising; all others are holes
   * @param data   4096 bytes for each; what lies behind the end of the file is not looked at
   * @throws StorageError EIO, ENOSPC
   */
  async putGroup(ino: number, group: number, slots: readonly number[], data: Buffer): Promise<void> {
    const { inodes, contents } = this.#parts;
    const inode = inodes.load(ino);
    if (inode === null || inode.kind !== FileKind.file || !this.#restored.mark(ino, group)) return;
    inode.holders++;
    try {
      for (const { from, to } of runsOf(slots)) {
        const offset = group * GROUP_BYTES + slots[from]! * BLOCK_BYTES;
        const byteCount = Math.min((to - from) * BLOCK_BYTES, inode.sizeBytes - offset);
        const start = from * BLOCK_BYTES;
        if (byteCount > 0) await contents.write(inode, offset, data.subarray(start, start + byteCount), UNOBSERVED);
      }
    } finally {
      inode.holders--;
    }
  }

  /** Everything is durable. @throws StorageError EIO */
  async finish(): Promise<void> {
    await this.#parts.contents.settleAll();
    await this.#parts.store.durable();
  }

  async #count(): Promise<void> {
    if (++this.#rows % ROWS_PER_COMMIT !== 0) return;
    const { store } = this.#parts;
    await store.durable();
    // Asked ahead: after SQLite has said "full" its transaction could not be trusted.
    if (store.freePages() < ROWS_PER_COMMIT * PAGES_PER_ROW) {
      throw new StorageError("ENOSPC", "the metadata LU is too small for what the backup holds");
    }
  }
}

/** Of slots, those that follow each other: indices into the list. */
function runsOf(slots: readonly number[]): { from: number; to: number }[] {
  const runs: { from: number; to: number }[] = [];
  for (let i = 0; i < slots.length; i++) {
    const last = runs.at(-1);
    if (last !== undefined && slots[i] === slots[i - 1]! + 1) last.to = i + 1;
    else runs.push({ from: i, to: i + 1 });
  }
  return runs;
}

/** Groups of a file that one number stands for: 32 bits. */
const GROUPS_PER_MARK = 32;
const MARKS_PER_FILE = 2 ** 22;

/** Which groups of which files were seen: 40 bytes for 8 MiB of a file. */
class GroupMarks {
  readonly #marks = new Map<number, number>();

  /** @returns false when it was marked already */
  mark(ino: number, group: number): boolean {
    const key = ino * MARKS_PER_FILE + Math.floor(group / GROUPS_PER_MARK);
    const bit = 1 << (group % GROUPS_PER_MARK);
    const known = this.#marks.get(key) ?? 0;
    if ((known & bit) !== 0) return false;
    this.#marks.set(key, known | bit);
    return true;
  }
}
