import type { Created } from "../../fs/vfs.js";
import { HANDLE } from "../handle.js";
import { putU32 } from "../xdr/writer.js";
import type { Nfs3Call, Target } from "./call.js";
import { POST_OP_ATTR_BYTES, putChange, putPostOp, WCC_DATA_BYTES } from "./codec.js";
import { NFS3_OK } from "./status.js";

/** Begin the reply of CREATE, MKDIR, SYMLINK and MKNOD, and write it: post_op_fh3, post_op_attr, wcc_data of the directory. */
export function encodeCreated(call: Nfs3Call, directory: Target, created: Created): void {
  const { id } = directory.fileSystem;
  const w = call.begin(NFS3_OK, 8 + HANDLE.end + POST_OP_ATTR_BYTES + WCC_DATA_BYTES);
  putU32(w.buffer, w.at, 1);
  let at = call.services.handles.put(w.buffer, w.at + 4, directory.entry, created.attributes);
  at = putPostOp(w.buffer, at, id, created.attributes);
  w.at = putChange(w.buffer, at, id, created.directory);
}
