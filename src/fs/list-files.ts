import type Database from "better-sqlite3";
import type { Time } from "../lib/clock.js";
import { StorageError } from "../lib/errors.js";
import type { Core } from "./core.js";
import { reading } from "./database-error.js";
import { directoryPath } from "./file-names.js";
import { FileKind } from "./vfs.js";

/** One name of one regular file: the table of file metadata (file name, head address, volume, owner, update time). */
export interface FileRow {
  /** Hand it back as `after` to go on behind this row. */
  readonly position: string;
  readonly ino: number;
  readonly name: Buffer;
  /** From the root, beginning with "/"; bytes, as the names are. */
  readonly path: Buffer;
  /** Of the first block, in bytes from the start of the volume; -1 when nothing is allocated. */
  readonly headAddress: number;
  /** Name of the data LU. */
  readonly volume: string;
  readonly ownerUid: number;
  readonly sizeBytes: number;
  readonly updated: Time;
}

export interface ListFilesOptions {
  /** `position` of the last row of the page before; absent: from the start. */
  readonly after?: string;
  readonly limit: number;
}

type ListedRow = readonly [parent: number, cookie: number, name: Buffer, ino: number, kind: number];

/** Entries that are looked at in one piece, of whatever kind: half a millisecond, and as much for those that are files. */
const ENTRIES_PER_SLICE = 64;

export interface FileSlice {
  readonly rows: readonly FileRow[];
  /** Where the next one begins; null: there are no more entries. */
  readonly next: string | null;
}

/**
 * All regular files of a file system, page by page, in the order (directory, cookie): no tree walk, so a page costs the same wherever it
 * is. A file with several links is listed under each name. Names that come and go between two pages do no harm.
 */
export class FileLister {
  readonly #page: Database.Statement<[number, number, number], ListedRow>;

  constructor(
    readonly core: Core,
    readonly volume: string,
  ) {
    // The rows of the inode table lag behind by what is not sealed yet; the kind of a row never changes, and new ones come at the seal.
    this.#page = core.store.db
      .prepare<[number, number, number], ListedRow>(
        `SELECT d.parent, d.cookie, d.name, d.ino, i.kind FROM dirent AS d INDEXED BY dirent_by_cookie
         CROSS JOIN inode AS i ON i.ino = d.ino
         WHERE (d.parent, d.cookie) > (?, ?) ORDER BY d.parent, d.cookie LIMIT ?`,
      )
      .raw();
  }

  /** All in one piece: for few. @throws StorageError EINVAL for a position that no row had, EIO */
  list({ after, limit }: ListFilesOptions): FileRow[] {
    const rows: FileRow[] = [];
    for (let at: string | null | undefined = after; at !== null && rows.length < limit; ) {
      const { rows: more, next } = this.slice(at);
      rows.push(...more.slice(0, limit - rows.length));
      at = next;
    }
    return rows;
  }

  /** What is file among the next few entries, be it none. @throws StorageError EINVAL for a position that no row had, EIO */
  slice(after: string | undefined): FileSlice {
    this.core.requireAlive();
    this.core.apply(() => this.core.inodes.flushDirty());
    const [parent, cookie] = parsePosition(after);
    const entries = reading(() => this.#page.all(parent, cookie, ENTRIES_PER_SLICE));
    const paths = new Map<number, Buffer>();
    const files = entries.filter(([, , , , kind]) => kind === FileKind.file);
    const last = entries.length < ENTRIES_PER_SLICE ? undefined : entries.at(-1);
    return {
      rows: files.map((row) => this.#row(row, paths)),
      next: last === undefined ? null : `${last[0]}.${last[1]}`,
    };
  }

  #row(row: ListedRow, paths: Map<number, Buffer>): FileRow {
    const [parent, cookie, name, ino] = row;
    const inode = this.core.inodes.child(ino);
    return {
      position: `${parent}.${cookie}`,
      ino,
      name,
      path: Buffer.concat([directoryPath(this.core, parent, paths), name]),
      headAddress: this.core.contents.headAddress(ino),
      volume: this.volume,
      ownerUid: inode.uid,
      sizeBytes: inode.sizeBytes,
      updated: { seconds: inode.mtimeSeconds, nanoseconds: inode.mtimeNanoseconds },
    };
  }
}

function parsePosition(after: string | undefined): readonly [parent: number, cookie: number] {
  if (after === undefined) return [0, 0];
  const match = /^(\d{1,15})\.(\d{1,15})$/.exec(after);
  if (match === null) throw new StorageError("EINVAL", "not a position of this list");
  return [Number(match[1]), Number(match[2])];
}
