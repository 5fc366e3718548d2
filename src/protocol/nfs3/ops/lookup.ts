import { HANDLE } from "../../handle.js";
import type { Operation } from "../call.js";
import { POST_OP_ATTR_BYTES, putPostOp, readName } from "../codec.js";
import { failAttributes } from "../failure.js";
import { NFS3_OK } from "../status.js";

/**
 * NFSv3 LOOKUP, RFC 1813 section 3.3.3. The reply has the object's handle and attributes, and the directory's attributes.
 * Errors: ACCES BADHANDLE INVAL IO NAMETOOLONG NOENT NOTDIR STALE, with the directory's attributes.
 */
export const lookup: Operation = {
  name: "LOOKUP",
  run(call, args) {
    const directory = call.target(args);
    const name = readName(args);
    const { fileSystem } = directory;
    const found = fileSystem.lookup(directory.credentials, directory, name);
    const attributes = directory.attributes();
    const w = call.begin(NFS3_OK, 4 + HANDLE.end + 2 * POST_OP_ATTR_BYTES);
    let at = call.services.handles.put(w.buffer, w.at, directory.entry, found);
    at = putPostOp(w.buffer, at, fileSystem.id, found);
    w.at = putPostOp(w.buffer, at, fileSystem.id, attributes);
    call.end();
  },
  fail: failAttributes,
};
