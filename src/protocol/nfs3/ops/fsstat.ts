import type { Operation } from "../call.js";
import { POST_OP_ATTR_BYTES, writePostOp } from "../codec.js";
import { failAttributes } from "../failure.js";
import { NFS3_OK } from "../status.js";

/** NFSv3 FSSTAT, RFC 1813 section 3.3.18. invarsec 0: the figures change at any time. */
export const fsstat: Operation = {
  name: "FSSTAT",
  run(call, args) {
    const target = call.target(args);
    const attributes = target.fileSystem.getattr(target);
    const space = target.fileSystem.space();
    const w = call.begin(NFS3_OK, POST_OP_ATTR_BYTES + 52);
    writePostOp(w, target.fileSystem.id, attributes);
    w.u64(space.totalBytes);
    w.u64(space.freeBytes);
    w.u64(space.availableBytes);
    w.u64(space.totalFiles);
    w.u64(space.freeFiles);
    w.u64(space.freeFiles);
    w.u32(0);
    call.end();
  },
  fail: failAttributes,
};
