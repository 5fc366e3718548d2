import type { DirectoryEntry } from "../../../fs/vfs.js";
import { HANDLE } from "../../handle.js";
import { DIRECTORY_BYTES_MAX } from "../../limits.js";
import { putU32 } from "../../xdr/writer.js";
import type { Nfs3Call, Operation, Target } from "../call.js";
import { POST_OP_ATTR_BYTES, putPostOp } from "../codec.js";
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

/** What an entry has more than one of READDIR: post_op_attr and post_op_fh3. */
const PLUS_BYTES = POST_OP_ATTR_BYTES + 8 + HANDLE.end;

/**
 * NFSv3 READDIRPLUS, RFC 1813 section 3.3.17. maxcount: bytes of READDIRPLUS3resok at most, cut to 64 KiB; TOOSMALL when not one entry fits.
 * dircount: bytes of names, fileids and cookies; a hint, so one entry goes through whatever it says (some clients send 0).
 * Errors: ACCES BADHANDLE BAD_COOKIE IO NOTDIR STALE TOOSMALL, with attributes.
 */
export const readdirplus: Operation = {
  name: "READDIRPLUS",
  run(call, args) {
    const directory = call.target(args);
    const cookie = readCookie(args, directory);
    const dirBytes = args.u32();
    const roomBytes = Math.min(args.u32(), DIRECTORY_BYTES_MAX) - DIRECTORY_HEAD_BYTES;
    const { fileSystem, credentials } = directory;
    const byRoom = Math.floor(roomBytes / (ENTRY_BYTES + PLUS_BYTES + 4));
    const limit = Math.max(1, Math.min(byRoom, Math.ceil(dirBytes / ENTRY_BYTES)));
    const page = fileSystem.readdir(credentials, directory, cookie, limit, true);
    const fitting = countFitting(page.entries, roomBytes, dirBytes);
    if (roomBytes < 0 || (fitting === 0 && page.entries.length > 0)) return failAttributes(call, NFS3ERR_TOOSMALL);
    const w = call.begin(NFS3_OK, DIRECTORY_HEAD_BYTES + roomBytes);
    let at = putPostOp(w.buffer, w.at, fileSystem.id, page.attributes);
    at = putCookieVerifier(w.buffer, at, directory);
    for (let i = 0; i < fitting; i++) at = putEntryPlus(call, directory, w.buffer, at, page.entries[i]!);
    w.at = putListEnd(w.buffer, at, page.endOfDirectory && fitting === page.entries.length);
    call.end();
  },
  fail: failAttributes,
};

function countFitting(entries: readonly DirectoryEntry[], roomBytes: number, dirBytes: number): number {
  let left = roomBytes;
  let dirLeft = dirBytes;
  let count = 0;
  for (const entry of entries) {
    const entryBytes = ENTRY_BYTES + paddedBytes(entry.name);
    left -= entryBytes + PLUS_BYTES;
    dirLeft -= entryBytes;
    if (left < 0 || (dirLeft < 0 && count > 0)) return count;
    count++;
  }
  return count;
}

/** entryplus3: an entry whose attributes are not known has no handle either; the client looks it up. */
function putEntryPlus(call: Nfs3Call, directory: Target, b: Buffer, at: number, entry: DirectoryEntry): number {
  const attributes = entry.attributes ?? null;
  const next = putPostOp(b, putEntry(b, at, entry), directory.fileSystem.id, attributes);
  putU32(b, next, attributes === null ? 0 : 1);
  return attributes === null ? next + 4 : call.services.handles.put(b, next + 4, directory.entry, attributes);
}
