import { LIMITS, type WriteResult } from "../../../fs/vfs.js";
import { StorageError } from "../../../lib/errors.js";
import { TRANSFER_BYTES_MAX } from "../../limits.js";
import type { Nfs3Call, Operation, Target } from "../call.js";
import { WCC_DATA_BYTES, writeChange } from "../codec.js";
import { failChange } from "../failure.js";
import { NFS3_OK } from "../status.js";

const UNSTABLE = 0;
const FILE_SYNC = 2;

/**
 * NFSv3 WRITE, RFC 1813 section 3.3.7. data: [count bytes], borrowed from the record until the reply. A write of more than 1 MiB is cut,
 * as a short write. It goes through the duplicate-request cache: a late repetition must not undo a later write. DATA_SYNC is served as FILE_SYNC, which promises more. verifier: changes when unflushed data may have been lost; it is
 * taken before the write, so that a loss in between shows at the latest with COMMIT.
 * Errors: ACCES BADHANDLE FBIG INVAL (count is not data's length, not a regular file) IO NOSPC ROFS STALE, with wcc data.
 */
export const write: Operation = {
  name: "WRITE",
  nonIdempotent: true,
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
      (onApplied) => fileSystem.write(credentials, target, offset, source, stability, onApplied),
      (result) => encode(call, target, verifier, result),
    );
  },
  fail: failChange,
};

function encode(call: Nfs3Call, target: Target, verifier: Buffer, result: WriteResult): void {
  const w = call.begin(NFS3_OK, WCC_DATA_BYTES + 16);
  writeChange(w, target.fileSystem.id, result.change);
  w.u32(result.count);
  w.u32(result.stability === "stable" ? FILE_SYNC : UNSTABLE);
  w.fixed(verifier);
}
