import { LIMITS } from "../../../fs/vfs.js";
import type { Operation } from "../call.js";
import { POST_OP_ATTR_BYTES, writePostOp } from "../codec.js";
import { failAttributes } from "../failure.js";
import { NFS3_OK } from "../status.js";

/** NFSv3 PATHCONF, RFC 1813 section 3.3.20. Names are bytes: too long ones are refused, their case counts and stays. */
export const pathconf: Operation = {
  name: "PATHCONF",
  run(call, args) {
    const target = call.target(args);
    const attributes = target.fileSystem.getattr(target);
    const w = call.begin(NFS3_OK, POST_OP_ATTR_BYTES + 24);
    writePostOp(w, target.fileSystem.id, attributes);
    w.u32(LIMITS.linksMax);
    w.u32(LIMITS.nameBytesMax);
    w.bool(true); // no_trunc
    w.bool(true); // chown_restricted
    w.bool(false); // case_insensitive
    w.bool(true); // case_preserving
    call.end();
  },
  fail: failAttributes,
};
