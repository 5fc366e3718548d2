import { LIMITS } from "../../../fs/vfs.js";
import type { Operation } from "../call.js";
import { WCC_DATA_BYTES, writeChange } from "../codec.js";
import { failChange } from "../failure.js";
import { NFS3_OK } from "../status.js";

/**
 * NFSv3 COMMIT, RFC 1813 section 3.3.21. count 0: to the end. The verifier is the one after the flush: when it changed, the client sees that
 * it must write again. Errors: BADHANDLE INVAL IO ROFS STALE, with wcc data.
 */
export const commit: Operation = {
  name: "COMMIT",
  async run(call, args) {
    const target = call.target(args);
    const offset = Math.min(args.u64(), LIMITS.fileBytesMax);
    const count = args.u32();
    target.mustBeWritable();
    const { fileSystem, credentials } = target;
    const change = await fileSystem.commit(credentials, target, offset, count);
    const w = call.begin(NFS3_OK, WCC_DATA_BYTES + 8);
    writeChange(w, fileSystem.id, change);
    w.fixed(fileSystem.writeVerifier);
    call.end();
  },
  fail: failChange,
};
