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
  const { number } = table.program;
  const checksum = table.procedures[procedure]?.checksum?.(call, reader) ?? checksumOf(reader);
  return `${address} ${xid} ${number} ${table.version} ${procedure} ${auth.checksum} ${reader.remaining} ${checksum}`;
}

function checksumOf({ buffer, at, remaining }: XdrReader): number {
  return crc32c(buffer.subarray(at, at + remaining));
}
