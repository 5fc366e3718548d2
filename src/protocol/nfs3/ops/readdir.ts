import type { DirectoryEntry } from "../../../fs/vfs.js";
import { DIRECTORY_BYTES_MAX } from "../../limits.js";
import type { Operation } from "../call.js";
import { putPostOp } from "../codec.js";
import {
  DIRECTORY_HEAD_BYTES,
  ENTRY_BYTES,
  paddedBytes,
  putCookieVerifier,
  putEntry,
  putListEnd,
  readCookie,
} from "../directory.js";
import { failAttributes } from "../failure.js";
import { NFS3_OK, NFS3ERR_TOOSMALL } from "../status.js";

/**
 * NFSv3 READDIR, RFC 1813 section 3.3.16. count: bytes of READDIR3resok at most, cut to 64 KiB; TOOSMALL when not one entry fits.
 * Errors: ACCES BADHANDLE BAD_COOKIE IO NOTDIR STALE TOOSMALL, with attributes.
 */
export const readdir: Operation = {
  name: "READDIR",
  run(call, args) {
    const directory = call.target(args);
    const cookie = readCookie(args, directory);
    const roomBytes = Math.min(args.u32(), DIRECTORY_BYTES_MAX) - DIRECTORY_HEAD_BYTES;
    const { fileSystem, credentials } = directory;
    const limit = Math.max(1, Math.floor(roomBytes / (ENTRY_BYTES + 4)));
    const page = fileSystem.readdir(credentials, directory, cookie, limit, false);
    const fitting = countFitting(page.entries, roomBytes);
    if (roomBytes < 0 || (fitting === 0 && page.entries.length > 0)) return failAttributes(call, NFS3ERR_TOOSMALL);
    const w = call.begin(NFS3_OK, DIRECTORY_HEAD_BYTES + roomBytes);
    let at = putPostOp(w.buffer, w.at, fileSystem.id, page.attributes);
    at = putCookieVerifier(w.buffer, at, directory);
    for (let i = 0; i < fitting; i++) at = putEntry(w.buffer, at, page.entries[i]!);
    w.at = putListEnd(w.buffer, at, page.endOfDirectory && fitting === page.entries.length);
    call.end();
  },
  fail: failAttributes,
};

function countFitting(entries: readonly DirectoryEntry[], roomBytes: number): number {
  let left = roomBytes;
  let count = 0;
  for (const entry of entries) {
    left -= ENTRY_BYTES + paddedBytes(entry.name);
    if (left < 0) return count;
    count++;
  }
  return count;
}
