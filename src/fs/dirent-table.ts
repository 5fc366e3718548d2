import type Database from "better-sqlite3";
import { assert } from "../lib/assert.js";
import { reading } from "./database-error.js";
import type { Inode } from "./inode.js";
import { ABSENT, type Dentry, NameCache } from "./name-cache.js";

/** One entry of a listing. */
export type DirentRow = readonly [cookie: number, name: Buffer, ino: number];

/** Told of every change to the entries, in the same piece: how a running check keeps its counts true. */
export interface DirentWatcher {
  /** @param delta  +1: the entry now exists; -1: it is gone */
  changed(parent: number, cookie: number, child: Inode, delta: 1 | -1): void;
}

interface Statements {
  readonly find: Database.Statement<[number, Buffer], readonly [cookie: number, ino: number]>;
  readonly insert: Database.Statement<[number, Buffer, number, number]>;
  readonly replace: Database.Statement<[number, number, Buffer]>;
  readonly delete: Database.Statement<[number, Buffer]>;
  readonly any: Database.Statement<[number], number>;
  readonly page: Database.Statement<[number, number, number], DirentRow>;
  readonly name: Database.Statement<[number, number], Buffer>;
}

function prepare(db: Database.Database): Statements {
  return {
    find: db
      .prepare<[number, Buffer], readonly [number, number]>(
        "SELECT cookie, ino FROM dirent WHERE parent = ? AND name = ?",
      )
      .raw(),
    insert: db.prepare("INSERT INTO dirent (parent, name, cookie, ino) VALUES (?, ?, ?, ?)"),
    replace: db.prepare("UPDATE dirent SET ino = ? WHERE parent = ? AND name = ?"),
    delete: db.prepare("DELETE FROM dirent WHERE parent = ? AND name = ?"),
    any: db.prepare<[number], number>("SELECT 1 FROM dirent WHERE parent = ? LIMIT 1").pluck(),
    page: db
      .prepare<[number, number, number], DirentRow>(
        "SELECT cookie, name, ino FROM dirent INDEXED BY dirent_by_cookie WHERE parent = ? AND cookie > ? ORDER BY cookie LIMIT ?",
      )
      .raw(),
    name: db.prepare<[number, number], Buffer>("SELECT name FROM dirent WHERE parent = ? AND cookie = ?").pluck(),
  };
}

/** The entries of all directories: rows, with a cache of names before them. It knows no permission and counts no link. */
export class DirentTable {
  readonly names: NameCache;
  watcher: DirentWatcher | null = null;
  readonly #statements: Statements;

  constructor(db: Database.Database, names = new NameCache()) {
    this.#statements = prepare(db);
    this.names = names;
  }

  /** @returns ABSENT when the directory has no such name */
  find(parent: number, name: Buffer): Dentry {
    const key = name.toString("latin1");
    const cached = this.names.get(parent, key);
    if (cached !== undefined) return cached;
    const row = reading(() => this.#statements.find.get(parent, name));
    const dentry = row === undefined ? ABSENT : { cookie: row[0], ino: row[1] };
    this.names.set(parent, key, dentry);
    return dentry;
  }

  /** Add an entry. The caller has looked: the name is free. @returns its cookie; the directory's inode must be marked dirty */
  insert(directory: Inode, name: Buffer, child: Inode): number {
    const cookie = directory.nextCookie++;
    this.#statements.insert.run(directory.ino, name, cookie, child.ino);
    this.names.set(directory.ino, name.toString("latin1"), { ino: child.ino, cookie });
    this.watcher?.changed(directory.ino, cookie, child, 1);
    return cookie;
  }

  /** Let an entry lead to another inode. Its place stays, so that no listing misses the name. */
  replace(directory: Inode, name: Buffer, cookie: number, from: Inode, to: Inode): void {
    const { changes } = this.#statements.replace.run(to.ino, directory.ino, name);
    assert(changes === 1, "the entry to replace exists");
    this.names.set(directory.ino, name.toString("latin1"), { ino: to.ino, cookie });
    this.watcher?.changed(directory.ino, cookie, from, -1);
    this.watcher?.changed(directory.ino, cookie, to, 1);
  }

  remove(directory: Inode, name: Buffer, cookie: number, child: Inode): void {
    const { changes } = this.#statements.delete.run(directory.ino, name);
    assert(changes === 1, "the entry to remove exists");
    this.names.set(directory.ino, name.toString("latin1"), ABSENT);
    this.watcher?.changed(directory.ino, cookie, child, -1);
  }

  isEmpty(parent: number): boolean {
    return reading(() => this.#statements.any.get(parent)) === undefined;
  }

  /** At most `limit` entries whose cookie is above `after`, in the order of their cookies. */
  page(parent: number, after: number, limit: number): DirentRow[] {
    return reading(() => this.#statements.page.all(parent, after, limit));
  }

  /** The name at a cookie; undefined when there is none. */
  nameAt(parent: number, cookie: number): Buffer | undefined {
    return reading(() => this.#statements.name.get(parent, cookie));
  }
}
