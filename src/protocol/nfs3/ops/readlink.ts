import type { Operation } from "../call.js";
import { POST_OP_ATTR_BYTES, writePostOp } from "../codec.js";
import { failAttributes } from "../failure.js";
import { NFS3_OK } from "../status.js";

/** NFSv3 READLINK, RFC 1813 section 3.3.5. Errors: ACCES BADHANDLE INVAL (not a symlink) IO STALE, with attributes. */
export const readlink: Operation = {
  name: "READLINK",
  run(call, args) {
    const target = call.target(args);
    const link = target.fileSystem.readlink(target.credentials, target);
    const w = call.begin(NFS3_OK, POST_OP_ATTR_BYTES + 8 + link.target.length);
    writePostOp(w, target.fileSystem.id, link.attributes);
    w.opaque(link.target);
    call.end();
  },
  fail: failAttributes,
};
