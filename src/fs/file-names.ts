import type Database from "better-sqlite3";
import { isStorageError, StorageError } from "../lib/errors.js";
import { nextTurn } from "../lib/next-turn.js";
import { printable } from "../lib/printable.js";
import type { FileLabels } from "./contents/data-inspector.js";
import { reading } from "./database-error.js";
import type { DirentTable } from "./dirent-table.js";
import type { Inode } from "./inode.js";
import type { InodeTable } from "./inode-table.js";

/** Entries of one piece of a search, a millisecond. */
const ENTRIES_PER_SLICE = 4096;
/** Directories above a file that are named: whoever nests them deeper gets "…" for the rest, and nobody waits for the walk. */
const DEPTH_SHOWN_MAX = 128;
/** Files whose entry is remembered: faults come many to a file. */
const REMEMBERED_MAX = 256;

interface Place {
  readonly parent: number;
  readonly cookie: number;
}

export interface NameTables {
  readonly inodes: InodeTable;
  readonly dirents: DirentTable;
}

/**
 * From the root, beginning and ending with "/"; from "/…/" on when it lies very deep.
 * @param paths  directories that were looked up before, by inode number; those on the way are added
 * @throws StorageError EIO when the tree is damaged
 */
export function directoryPath({ inodes, dirents }: NameTables, directory: number, paths: Map<number, Buffer>): Buffer {
  const chain: Inode[] = [];
  let inode = inodes.child(directory);
  while (inode.parentIno !== inode.ino && !paths.has(inode.ino) && chain.length < DEPTH_SHOWN_MAX) {
    chain.push(inode);
    inode = inodes.child(inode.parentIno);
  }
  const isRoot = inode.parentIno === inode.ino;
  let path = paths.get(inode.ino) ?? Buffer.from(isRoot ? "/" : "/…/");
  for (const step of chain.reverse()) {
    const name = dirents.nameAt(step.parentIno, step.parentCookie);
    if (name === undefined) {
      throw new StorageError("EIO", "a directory has no entry in its parent", { ino: step.ino });
    }
    path = Buffer.concat([path, name, Buffer.from("/")]);
    paths.set(step.ino, path);
  }
  return path;
}

/**
 * What files are called, by inode number. There is no index for that: a search goes over the entries of all directories, half a
 * second for a million of them, in pieces with turns for others in between. Found places are remembered.
 */
export class FileNames implements FileLabels {
  readonly #db: Database.Database;
  readonly #tables: NameTables;
  readonly #remembered = new Map<number, Place>();
  readonly #searches = new Map<number, Promise<Place | null>>();
  readonly #sliceEnd: Database.Statement<[number, number], Place>;
  readonly #inSlice: Database.Statement<[number, number, number, number, number], Place>;
  readonly #name: Database.Statement<[number, number, number], Buffer>;

  constructor(db: Database.Database, tables: NameTables) {
    this.#db = db;
    this.#tables = tables;
    const from = "FROM dirent INDEXED BY dirent_by_cookie WHERE";
    this.#sliceEnd = db.prepare(
      `SELECT parent, cookie ${from} (parent, cookie) > (?, ?) ORDER BY parent, cookie LIMIT 1 OFFSET ${ENTRIES_PER_SLICE}`,
    );
    this.#inSlice = db.prepare(
      `SELECT parent, cookie ${from} (parent, cookie) > (?, ?) AND (parent, cookie) <= (?, ?) AND ino = ? LIMIT 1`,
    );
    this.#name = db
      .prepare<[number, number, number], Buffer>(`SELECT name FROM dirent WHERE parent = ? AND cookie = ? AND ino = ?`)
      .pluck();
  }

  /** `/dir/file (block 17)`; of several links one. Never rejects: without a name it is the inode's number. */
  async labelOf(ino: number, block: number): Promise<string> {
    return `${await this.nameOf(ino)} (block ${block})`;
  }

  /** `/dir/file`; of several links one. Never rejects. */
  async nameOf(ino: number): Promise<string> {
    try {
      if (!this.#db.open) return `inode ${ino}`;
      if (this.#tables.inodes.load(ino) === null) return `removed file, inode ${ino}`;
      return (await this.#pathOf(ino)) ?? `inode ${ino}`;
    } catch (error) {
      if (isStorageError(error)) return `inode ${ino}`;
      throw error;
    }
  }

  async #pathOf(ino: number): Promise<string | null> {
    const place = this.#rememberedPlace(ino) ?? (await this.#search(ino));
    if (place === null || !this.#db.open) return null;
    const name = reading(() => this.#name.get(place.parent, place.cookie, ino));
    if (name === undefined) return null;
    return printable(Buffer.concat([directoryPath(this.#tables, place.parent, new Map()), name]));
  }

  #rememberedPlace(ino: number): Place | null {
    const place = this.#remembered.get(ino);
    if (place === undefined) return null;
    return reading(() => this.#name.get(place.parent, place.cookie, ino)) === undefined ? null : place;
  }

  /** Shared by all who look for the same file. */
  #search(ino: number): Promise<Place | null> {
    const running = this.#searches.get(ino);
    if (running !== undefined) return running;
    const search = this.#searchAll(ino).finally(() => this.#searches.delete(ino));
    this.#searches.set(ino, search);
    return search;
  }

  async #searchAll(ino: number): Promise<Place | null> {
    let after: Place = { parent: 0, cookie: 0 };
    while (this.#db.open) {
      const { parent, cookie } = after;
      const end = reading(() => this.#sliceEnd.get(parent, cookie));
      const to = end ?? { parent: Number.MAX_SAFE_INTEGER, cookie: 0 };
      const found = reading(() => this.#inSlice.get(parent, cookie, to.parent, to.cookie, ino));
      if (found !== undefined) this.#remember(ino, found);
      if (found !== undefined || end === undefined) return found ?? null;
      after = end;
      await nextTurn();
    }
    return null;
  }

  #remember(ino: number, place: Place): void {
    this.#remembered.delete(ino);
    this.#remembered.set(ino, place);
    for (const oldest of this.#remembered.keys()) {
      if (this.#remembered.size <= REMEMBERED_MAX) return;
      this.#remembered.delete(oldest);
    }
  }
}
