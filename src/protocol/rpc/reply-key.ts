import { crc32c } from "../../lib/crc32c.js";
import { KIB } from "../../lib/units.js";
import type { XdrReader } from "../xdr/reader.js";
import type { RpcCall } from "./call.js";

/** Arguments up to this size count whole; of larger ones (WRITE) the two ends, which hold all but the middle of the data. */
const CHECKED_BYTES_MAX = 16 * KIB;

/**
 * What makes two calls the same call: client address (a repetition may come over a new connection), xid, program, version, procedure
 * and length and CRC-32C of the credentials and arguments, because clients do reuse xids. The reader stands at the arguments and stays there.
 */
export function replyKey(address: string, call: RpcCall, reader: XdrReader): string {
  const { number } = call.table.program;
  const checksum = checksumOf(reader.buffer, reader.at, reader.at + reader.remaining);
  return `${address} ${call.xid} ${number} ${call.table.version} ${call.procedure} ${reader.remaining} ${checksum}`;
}

function checksumOf(buffer: Buffer, start: number, end: number): number {
  if (end - start <= CHECKED_BYTES_MAX) return crc32c(buffer.subarray(start, end));
  const half = CHECKED_BYTES_MAX / 2;
  return crc32c(buffer.subarray(end - half, end), crc32c(buffer.subarray(start, start + half)));
}
