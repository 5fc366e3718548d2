import { Access } from "../../../fs/vfs.js";
import type { Operation } from "../call.js";
import { POST_OP_ATTR_BYTES, putPostOp } from "../codec.js";
import { failAttributes } from "../failure.js";
import { NFS3_OK } from "../status.js";

const ALL = Access.read | Access.lookup | Access.modify | Access.extend | Access.delete | Access.execute;
const WITHOUT_CHANGES = Access.read | Access.lookup | Access.execute;

/** NFSv3 ACCESS, RFC 1813 section 3.3.4. Bits that we do not know are not granted; a read-only export grants no change. */
export const access: Operation = {
  name: "ACCESS",
  run(call, args) {
    const target = call.target(args);
    const wanted = args.u32() & (target.readOnly ? WITHOUT_CHANGES : ALL);
    const { granted, attributes } = target.fileSystem.access(target.credentials, target, wanted);
    const w = call.begin(NFS3_OK, POST_OP_ATTR_BYTES + 4);
    w.at = putPostOp(w.buffer, w.at, target.fileSystem.id, attributes);
    w.u32(granted & wanted);
    call.end();
  },
  fail: failAttributes,
};
