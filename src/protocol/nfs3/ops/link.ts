import type { Linked } from "../../../fs/vfs.js";
import { StorageError } from "../../../lib/errors.js";
import type { Operation } from "../call.js";
import { POST_OP_ATTR_BYTES, readKeptName, WCC_DATA_BYTES, writeChange, writePostOp } from "../codec.js";
import { failAttributesAndChange } from "../failure.js";
import { NFS3_OK } from "../status.js";

/**
 * NFSv3 LINK, RFC 1813 section 3.3.15. XDEV between two exports. Errors: ACCES BADHANDLE EXIST INVAL IO ISDIR MLINK NAMETOOLONG NOSPC
 * NOTDIR ROFS STALE XDEV, with the file's attributes and the directory's wcc data.
 */
export const link: Operation = {
  name: "LINK",
  nonIdempotent: true,
  run(call, args) {
    const file = call.target(args);
    const directory = call.target(args);
    const name = readKeptName(args);
    if (file.entry !== directory.entry) throw new StorageError("EXDEV", "link between exports");
    file.mustBeWritable();
    const { fileSystem, credentials } = file;
    return call.answerOnce<Linked>(
      (onApplied) => fileSystem.link(credentials, file, directory, name, onApplied),
      (linked) => {
        const w = call.begin(NFS3_OK, POST_OP_ATTR_BYTES + WCC_DATA_BYTES);
        writePostOp(w, fileSystem.id, linked.file);
        writeChange(w, fileSystem.id, linked.directory);
      },
    );
  },
  fail: failAttributesAndChange,
};
