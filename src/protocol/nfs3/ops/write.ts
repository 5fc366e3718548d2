import { LIMITS, type WriteResult } from "../../../fs/vfs.js";
import { checksumWithBlocks } from "../../../lib/block-checksums.js";
import { crc32c } from "../../../lib/crc32c.js";
import { StorageError } from "../../../lib/errors.js";
import { KIB } from "../../../lib/units.js";
import { TRANSFER_BYTES_MAX } from "../../limits.js";
import type { RpcCall } from "../../rpc/call.js";
import { XdrError, type XdrReader } from "../../xdr/reader.js";
import type { Nfs3Call, Operation, Target } from "../call.js";
import { WCC_DATA_BYTES, writeChange } from "../codec.js";
import { failChange } from "../failure.js";
import { FILE_SYNC, UNSTABLE } from "../stable-how.js";
import { NFS3_OK } from "../status.js";

/** RFC 1813 section 2.4 */
const HANDLE_BYTES_MAX = 64;

/**
 * NFSv3 WRITE, RFC 1813 section 3.3.7. data: [count bytes], borrowed from the record until the reply. A write of more than 1 MiB is cut,
 * as a short write. It goes through the duplicate-request cache: a late repetition must not undo a later write. DATA_SYNC is served as FILE_SYNC, which promises more. verifier: changes when unflushed data may have been lost; it is
 * taken before the write, so that a loss in between shows at the latest with COMMIT.
 * Errors: ACCES BADHANDLE FBIG INVAL (count is not data's length, not a regular file) IO NOSPC ROFS STALE, with wcc data.
 */
export const write: Operation = {
  name: "WRITE",
  nonIdempotent: true,
  checksum: checksumOfArguments,
  run(call, args) {
    const target = call.target(args);
    const offset = args.u64();
    const count = args.u32();
    const stable = args.choice(FILE_SYNC);
    const data = args.opaque(args.remaining);
    target.mustBeWritable();
    if (count !== data.length) throw new StorageError("EINVAL", "count is not the length of the data");
    if (offset + count > LIMITS.fileBytesMax) throw new StorageError("EFBIG", "write past the largest file");
    const { fileSystem, credentials } = target;
    const verifier = fileSystem.writeVerifier;
    const source = count > TRANSFER_BYTES_MAX ? data.subarray(0, TRANSFER_BYTES_MAX) : data;
    const stability = stable === UNSTABLE ? "unstable" : "stable";
    return call.answerOnce<WriteResult>(
      (onApplied) =>
        fileSystem.write(credentials, target, offset, source, stability, onApplied, call.rpc.blockChecksums),
      (result) => encode(call, target, verifier, result),
    );
  },
  fail: failChange,
};

/** Below this the content is checked again when it is stored: finding its blocks would cost more. */
const BLOCKS_FROM_BYTES = 16 * KIB;

/** Of a large write, by way of its blocks: their checksums are stored beside them, so that all of it is checked once. */
function checksumOfArguments(call: RpcCall, args: XdrReader): number {
  const { buffer, at: start, remaining } = args;
  const end = start + remaining;
  const place = remaining < BLOCKS_FROM_BYTES ? null : placeOfData(args);
  args.at = start;
  if (place === null) return crc32c(buffer.subarray(start, end));
  const { checksum, blocks } = checksumWithBlocks(buffer, { start, ...place, end }, place.offset);
  call.blockChecksums = blocks;
  return checksum;
}

/** null: it is no WRITE. */
function placeOfData(args: XdrReader): { offset: number; dataStart: number; dataEnd: number } | null {
  try {
    args.opaque(HANDLE_BYTES_MAX);
    const offset = args.u64();
    args.u32(); // count
    args.u32(); // stable
    const { length } = args.opaque(args.remaining);
    const dataStart = args.at - ((length + 3) & ~3);
    return offset > LIMITS.fileBytesMax ? null : { offset, dataStart, dataEnd: dataStart + length };
  } catch (error) {
    if (error instanceof XdrError) return null;
    throw error;
  }
}

function encode(call: Nfs3Call, target: Target, verifier: Buffer, result: WriteResult): void {
  const w = call.begin(NFS3_OK, WCC_DATA_BYTES + 16);
  writeChange(w, target.fileSystem.id, result.change);
  w.u32(result.count);
  w.u32(result.stability === "stable" ? FILE_SYNC : UNSTABLE);
  w.fixed(verifier);
}
