import type { Operation } from "../call.js";
import { FATTR_BYTES, putAttributes } from "../codec.js";
import { failPlain } from "../failure.js";
import { NFS3_OK } from "../status.js";

/** NFSv3 GETATTR, RFC 1813 section 3.3.1. Errors: BADHANDLE IO STALE SERVERFAULT. */
export const getattr: Operation = {
  name: "GETATTR",
  run(call, args) {
    const target = call.target(args);
    const attributes = target.fileSystem.getattr(target);
    const w = call.begin(NFS3_OK, FATTR_BYTES);
    w.at = putAttributes(w.buffer, w.at, target.fileSystem.id, attributes);
    call.end();
  },
  fail: failPlain,
};
