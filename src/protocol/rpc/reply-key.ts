import { crc32c } from "../../lib/crc32c.js";
import type { XdrReader } from "../xdr/reader.js";
import type { RpcCall } from "./call.js";

/**
 * What makes two calls the same call: client address (a repetition may come over a new connection), xid, program, version, procedure, who
 * calls, and length and CRC-32C of all arguments, because clients do reuse xids, and so do two users of one host. The reader stands at the
 * arguments and stays there.
 */
export function replyKey(address: string, call: RpcCall, reader: XdrReader): string {
  const { auth, procedure, table, xid } = call;
  const checksum = table.procedures[procedure]?.checksum?.(call, reader) ?? checksumOf(reader);
  const what = pair(table.program.number, (table.version << 16) | procedure);
  return address + what + pair(xid, reader.remaining) + pair(auth.checksum, checksum);
}

/** Two words, byte by byte in Latin-1: made and hashed faster than decimals. */
function pair(a: number, b: number): string {
  return String.fromCharCode(
    a & 0xff,
    (a >>> 8) & 0xff,
    (a >>> 16) & 0xff,
    a >>> 24,
    b & 0xff,
    (b >>> 8) & 0xff,
    (b >>> 16) & 0xff,
    b >>> 24,
  );
}

function checksumOf({ buffer, at, remaining }: XdrReader): number {
  return crc32c(buffer.subarray(at, at + remaining));
}
