import { LIMITS } from "../../../fs/vfs.js";
import { BLOCK_BYTES } from "../../../lib/units.js";
import { DIRECTORY_BYTES_MAX, TRANSFER_BYTES_MAX } from "../../limits.js";
import type { Operation } from "../call.js";
import { POST_OP_ATTR_BYTES, writePostOp } from "../codec.js";
import { failAttributes } from "../failure.js";
import { NFS3_OK } from "../status.js";

/** FSF3_LINK, FSF3_SYMLINK, FSF3_HOMOGENEOUS, FSF3_CANSETTIME. */
const PROPERTIES = 0x01 | 0x02 | 0x08 | 0x10;

/** NFSv3 FSINFO, RFC 1813 section 3.3.19. Times are exact to 1 ns. */
export const fsinfo: Operation = {
  name: "FSINFO",
  run(call, args) {
    const target = call.target(args);
    const attributes = target.fileSystem.getattr(target);
    const w = call.begin(NFS3_OK, POST_OP_ATTR_BYTES + 48);
    writePostOp(w, target.fileSystem.id, attributes);
    for (let i = 0; i < 2; i++) {
      w.u32(TRANSFER_BYTES_MAX); // rtmax, wtmax
      w.u32(TRANSFER_BYTES_MAX); // rtpref, wtpref
      w.u32(BLOCK_BYTES); // rtmult, wtmult
    }
    w.u32(DIRECTORY_BYTES_MAX); // dtpref
    w.u64(LIMITS.fileBytesMax);
    w.u32(0); // time_delta: seconds,
    w.u32(1); // nanoseconds
    w.u32(PROPERTIES);
    call.end();
  },
  fail: failAttributes,
};
