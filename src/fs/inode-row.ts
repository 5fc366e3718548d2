import type Database from "better-sqlite3";
import { StorageError } from "../lib/errors.js";
import { Inode } from "./inode.js";
import { FileKind } from "./vfs.js";

/** In the order of InodeRow. */
export const INODE_COLUMNS =
  "ino, generation, kind, mode, nlink, uid, gid, size, used_blocks, rdev_major, rdev_minor, atime_s, atime_ns, " +
  "mtime_s, mtime_ns, ctime_s, ctime_ns, parent, parent_cookie, next_cookie, verifier, target";

/** One row of the inode table, in the order of INODE_COLUMNS. */
export type InodeRow = readonly [
  ino: number,
  generation: number,
  kind: number,
  mode: number,
  nlink: number,
  uid: number,
  gid: number,
  size: number,
  usedBlocks: number,
  rdevMajor: number,
  rdevMinor: number,
  atimeSeconds: number,
  atimeNanoseconds: number,
  mtimeSeconds: number,
  mtimeNanoseconds: number,
  ctimeSeconds: number,
  ctimeNanoseconds: number,
  parent: number,
  parentCookie: number,
  nextCookie: number,
  verifier: Buffer | null,
  target: Buffer | null,
];

export interface InodeStatements {
  readonly select: Database.Statement<[number], InodeRow>;
  /** Insert, or replace as a whole: the table has no other index, so a replacement rewrites one cell. */
  readonly put: Database.Statement<[...InodeRow]>;
  readonly delete: Database.Statement<[number]>;
}

export function prepareInodeStatements(db: Database.Database): InodeStatements {
  const marks = INODE_COLUMNS.split(",").map(() => "?");
  return {
    select: db.prepare<[number], InodeRow>(`SELECT ${INODE_COLUMNS} FROM inode WHERE ino = ?`).raw(),
    put: db.prepare<[...InodeRow]>(`REPLACE INTO inode (${INODE_COLUMNS}) VALUES (${marks.join(", ")})`),
    delete: db.prepare<[number]>("DELETE FROM inode WHERE ino = ?"),
  };
}

function kindOf(value: number, ino: number): FileKind {
  if (value >= FileKind.file && value <= FileKind.fifo) return value as FileKind;
  throw new StorageError("EIO", "an inode row has no known kind", { ino, kind: value });
}

export function inodeFromRow(row: InodeRow): Inode {
  const inode = new Inode(row[0], row[1], kindOf(row[2], row[0]));
  inode.mode = row[3];
  inode.nlink = row[4];
  inode.uid = row[5];
  inode.gid = row[6];
  inode.sizeBytes = row[7];
  inode.durableSizeBytes = row[7];
  inode.usedBlocks = row[8];
  inode.rdevMajor = row[9];
  inode.rdevMinor = row[10];
  inode.atimeSeconds = row[11];
  inode.atimeNanoseconds = row[12];
  inode.mtimeSeconds = row[13];
  inode.mtimeNanoseconds = row[14];
  inode.ctimeSeconds = row[15];
  inode.ctimeNanoseconds = row[16];
  inode.parentIno = row[17];
  inode.parentCookie = row[18];
  inode.nextCookie = row[19];
  inode.exclusiveVerifier = row[20]?.toString("latin1") ?? null;
  inode.linkTarget = row[21]?.toString("latin1") ?? null;
  return inode;
}

/** The row says the durable size of a regular file: what unstable writes have added comes with their data. */
export function putInode(statements: InodeStatements, inode: Inode): void {
  statements.put.run(
    inode.ino,
    inode.generation,
    inode.kind,
    inode.mode,
    inode.nlink,
    inode.uid,
    inode.gid,
    inode.kind === FileKind.file ? inode.durableSizeBytes : inode.sizeBytes,
    inode.usedBlocks,
    inode.rdevMajor,
    inode.rdevMinor,
    inode.atimeSeconds,
    inode.atimeNanoseconds,
    inode.mtimeSeconds,
    inode.mtimeNanoseconds,
    inode.ctimeSeconds,
    inode.ctimeNanoseconds,
    inode.parentIno,
    inode.parentCookie,
    inode.nextCookie,
    bytesOf(inode.exclusiveVerifier),
    bytesOf(inode.linkTarget),
  );
}

function bytesOf(text: string | null): Buffer | null {
  return text === null ? null : Buffer.from(text, "latin1");
}
