import { StorageError } from "../../lib/errors.js";
import { attributesOf } from "../attributes.js";
import type { Core } from "../core.js";
import type { Inode } from "../inode.js";
import { requirePermission, Want } from "../permission.js";
import type { Credentials, DirectoryEntry, DirectoryPage, FileId } from "../vfs.js";
import { touchAccessed } from "./data.js";

/** Cookies of the two entries that have no row. The first row of a directory has 3. */
const COOKIE_SELF = 1;
const COOKIE_PARENT = 2;
const NAME_SELF = Buffer.from(".");
const NAME_PARENT = Buffer.from("..");

/** More than any reply holds; what a caller asks for beyond is not worth the memory. */
const ENTRIES_PER_PAGE_MAX = 16_384;

function entryOf(core: Core, ino: number, name: Buffer, cookie: number, withAttributes: boolean): DirectoryEntry {
  if (!withAttributes) return { ino, name, cookie };
  return { ino, name, cookie, attributes: attributesOf(core.inodes.child(ino)) };
}

function dotEntries(core: Core, directory: Inode, cookie: number, withAttributes: boolean): DirectoryEntry[] {
  const entries: DirectoryEntry[] = [];
  if (cookie < COOKIE_SELF) entries.push(entryOf(core, directory.ino, NAME_SELF, COOKIE_SELF, withAttributes));
  if (cookie < COOKIE_PARENT)
    entries.push(entryOf(core, directory.parentIno, NAME_PARENT, COOKIE_PARENT, withAttributes));
  return entries;
}

/**
 * One page of a listing, in the order of creation. Cookies are never given twice, so a listing that goes on after entries came and went
 * shows every entry that lived all the while exactly once. Each page is one index range: a directory is never loaded as a whole.
 * Errors: EACCES EBADCOOKIE EINVAL (limit) EIO ENOTDIR ESTALE.
 */
export function readdir(
  core: Core,
  cred: Credentials,
  directoryId: FileId,
  cookie: number,
  limit: number,
  withAttributes: boolean,
): DirectoryPage {
  const directory = core.directory(directoryId);
  requirePermission(directory, cred, Want.read);
  const given = Number.isSafeInteger(cookie) && cookie >= 0 && cookie < directory.nextCookie;
  if (!given) throw new StorageError("EBADCOOKIE", "a cookie that this directory never gave out");
  if (!(limit >= 1)) throw new StorageError("EINVAL", "a page of no entries");
  const wanted = Math.min(Math.floor(limit), ENTRIES_PER_PAGE_MAX);
  const entries = dotEntries(core, directory, cookie, withAttributes).slice(0, wanted);
  const rowsWanted = wanted - entries.length;
  // One row more than asked for tells whether the directory ends here.
  const rows = core.dirents.page(directory.ino, Math.max(cookie, COOKIE_PARENT), rowsWanted + 1);
  for (const [rowCookie, name, ino] of rows.slice(0, rowsWanted)) {
    entries.push(entryOf(core, ino, name, rowCookie, withAttributes));
  }
  touchAccessed(core, directory);
  const last = entries.at(-1)?.cookie ?? cookie;
  const endOfDirectory = rows.length <= rowsWanted && last !== COOKIE_SELF;
  return { entries, endOfDirectory, attributes: attributesOf(directory) };
}
