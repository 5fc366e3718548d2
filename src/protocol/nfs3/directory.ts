import type { DirectoryEntry } from "../../fs/vfs.js";
import { StorageError } from "../../lib/errors.js";
import type { XdrReader } from "../xdr/reader.js";
import { putOpaque, putU32, putU64 } from "../xdr/writer.js";
import type { Target } from "./call.js";
import { POST_OP_ATTR_BYTES } from "./codec.js";

/** What READDIR and READDIRPLUS share (RFC 1813 sections 3.3.16 and 3.3.17). */
export const COOKIE_VERIFIER_BYTES = 8;
/** READDIR3resok without entries: attributes, verifier, end of the list, eof. */
export const DIRECTORY_HEAD_BYTES = POST_OP_ATTR_BYTES + COOKIE_VERIFIER_BYTES + 8;
/** "Another entry follows", fileid, length of the name, cookie. */
export const ENTRY_BYTES = 4 + 8 + 4 + 8;
const VERIFIER_MAGIC = 0x53574401;

/**
 * Cookie and its verifier. Cookies are stable for as long as an entry lives, so the verifier is a constant of the directory's generation
 * and says only that the cookie was given out for this directory at all.
 * @throws StorageError EBADCOOKIE
 */
export function readCookie(args: XdrReader, directory: Target): number {
  const cookie = args.u64();
  const magic = args.u32();
  const generation = args.u32();
  if (cookie === 0) return 0;
  const known = magic === VERIFIER_MAGIC && generation === directory.generation % 2 ** 32;
  if (!known || cookie > Number.MAX_SAFE_INTEGER) throw new StorageError("EBADCOOKIE", "cookie of another directory");
  return cookie;
}

export function putCookieVerifier(b: Buffer, at: number, directory: Target): number {
  putU32(b, at, VERIFIER_MAGIC);
  putU32(b, at + 4, directory.generation);
  return at + COOKIE_VERIFIER_BYTES;
}

/** Bytes of a name with its padding. */
export function paddedBytes(name: Buffer): number {
  return (name.length + 3) & ~3;
}

/** entry3, or entryplus3 up to its cookie. */
export function putEntry(b: Buffer, at: number, entry: DirectoryEntry): number {
  putU32(b, at, 1);
  putU64(b, at + 4, entry.ino);
  const next = putOpaque(b, at + 12, entry.name);
  putU64(b, next, entry.cookie);
  return next + 8;
}

/** End of the list, eof. */
export function putListEnd(b: Buffer, at: number, endOfDirectory: boolean): number {
  putU32(b, at, 0);
  putU32(b, at + 4, endOfDirectory ? 1 : 0);
  return at + 8;
}
