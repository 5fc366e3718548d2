import type { Renamed } from "../../../fs/vfs.js";
import { StorageError } from "../../../lib/errors.js";
import type { Operation } from "../call.js";
import { readKeptName, WCC_DATA_BYTES, writeChange } from "../codec.js";
import { failChanges } from "../failure.js";
import { NFS3_OK } from "../status.js";

/**
 * NFSv3 RENAME, RFC 1813 section 3.3.14. XDEV between two exports, even of one file system: a handle must not leave its export.
 * Errors: ACCES BADHANDLE EXIST INVAL IO ISDIR MLINK NAMETOOLONG NOENT NOSPC NOTDIR NOTEMPTY ROFS STALE XDEV, with both wcc data.
 */
export const rename: Operation = {
  name: "RENAME",
  nonIdempotent: true,
  run(call, args) {
    const from = call.target(args);
    const fromName = readKeptName(args);
    const to = call.target(args);
    const toName = readKeptName(args);
    if (from.entry !== to.entry) throw new StorageError("EXDEV", "rename between exports");
    from.mustBeWritable();
    const { fileSystem, credentials } = from;
    return call.answerOnce<Renamed>(
      (onApplied) => fileSystem.rename(credentials, from, fromName, to, toName, onApplied),
      (change) => {
        const w = call.begin(NFS3_OK, 2 * WCC_DATA_BYTES);
        writeChange(w, fileSystem.id, change.from);
        writeChange(w, fileSystem.id, change.to);
      },
    );
  },
  fail: failChanges,
};
