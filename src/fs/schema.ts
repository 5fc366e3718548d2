import type Database from "better-sqlite3";

/**
 * Tables of the namespace; the contents layer adds its own. docs/format/filesystem.md describes every column.
 *
 * `dirent` is keyed by name, so that SQLite itself refuses a second entry of one name; the index over the cookies covers a listing.
 * Both hold every column: a lookup and a page of a listing each read one B-tree.
 */
export const SCHEMA_VERSION = 1;

export const NAMESPACE_TABLES = `
  CREATE TABLE meta (
    key TEXT PRIMARY KEY NOT NULL,
    value BLOB NOT NULL
  ) WITHOUT ROWID, STRICT;

  CREATE TABLE inode (
    ino INTEGER PRIMARY KEY,
    generation INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    mode INTEGER NOT NULL,
    nlink INTEGER NOT NULL,
    uid INTEGER NOT NULL,
    gid INTEGER NOT NULL,
    size INTEGER NOT NULL,
    used_blocks INTEGER NOT NULL,
    rdev_major INTEGER NOT NULL,
    rdev_minor INTEGER NOT NULL,
    atime_s INTEGER NOT NULL,
    atime_ns INTEGER NOT NULL,
    mtime_s INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    ctime_s INTEGER NOT NULL,
    ctime_ns INTEGER NOT NULL,
    parent INTEGER NOT NULL,
    parent_cookie INTEGER NOT NULL,
    next_cookie INTEGER NOT NULL,
    verifier BLOB,
    target BLOB
  ) STRICT;

  CREATE TABLE dirent (
    parent INTEGER NOT NULL,
    name BLOB NOT NULL,
    cookie INTEGER NOT NULL,
    ino INTEGER NOT NULL,
    PRIMARY KEY (parent, name)
  ) WITHOUT ROWID, STRICT;

  CREATE UNIQUE INDEX dirent_by_cookie ON dirent (parent, cookie, ino);
`;

export function createNamespaceTables(db: Database.Database): void {
  db.exec(NAMESPACE_TABLES);
}

/** The root directory: made by the format, its own parent. */
export const ROOT_INO = 1;
