import type { XdrReader } from "../xdr/reader.js";
import type { RpcCall } from "./call.js";

export interface RpcProcedure {
  readonly name: string;
  /** Repeating it may answer otherwise: it goes through the duplicate-request cache. */
  readonly nonIdempotent?: boolean;
  /**
   * CRC-32C of all arguments, for a procedure that makes something more of them in the same pass. The reader stands at them, and stays there.
   * Default: crc32c of the bytes.
   */
  checksum?(call: RpcCall, args: XdrReader): number;
  /** Not over UDP: its reply is large, and nobody has shown that he is where he says. */
  readonly streamOnly?: boolean;
}

/** One program on the server's port. */
export interface RpcProgram {
  readonly name: string;
  readonly number: number;
  readonly versionLow: number;
  readonly versionHigh: number;
  /** Also served over UDP: calls and replies are small. */
  readonly datagrams?: boolean;
  /** By procedure number; a gap is PROC_UNAVAIL. */
  procedures(version: number): readonly (RpcProcedure | undefined)[];
  /**
   * Answer the call: decode the arguments (before the first await: the reader is shared), then write one reply through `call`, now or
   * later. XdrError means GARBAGE_ARGS, any other error SYSTEM_ERR.
   */
  invoke(call: RpcCall, args: XdrReader): void | Promise<void>;
}
