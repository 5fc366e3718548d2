import { crc32c } from "../../lib/crc32c.js";
import type { XdrReader } from "../xdr/reader.js";
import type { RpcCall } from "./call.js";

/**
 * What makes two calls the same call: client address (a repetition may come over a new connection), xid, program, version, procedure
 * and a CRC-32C of the arguments, because clients do reuse xids. The reader stands at the arguments and stays there.
 */
export function replyKey(address: string, call: RpcCall, reader: XdrReader): string {
  const checksum = crc32c(reader.buffer.subarray(reader.at, reader.at + reader.remaining));
  const { number } = call.table.program;
  return `${address} ${call.xid} ${number} ${call.table.version} ${call.procedure} ${checksum}`;
}
