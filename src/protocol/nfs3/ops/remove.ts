import type { Change } from "../../../fs/vfs.js";
import type { Operation } from "../call.js";
import { readKeptName, WCC_DATA_BYTES, writeChange } from "../codec.js";
import { failChange } from "../failure.js";
import { NFS3_OK } from "../status.js";

/** NFSv3 REMOVE, RFC 1813 section 3.3.12. Errors: ACCES BADHANDLE INVAL IO ISDIR NAMETOOLONG NOENT NOTDIR ROFS STALE, with wcc data. */
export const remove = removal("REMOVE", "remove");

/** NFSv3 RMDIR, RFC 1813 section 3.3.13. Errors: as REMOVE, and EXIST or NOTEMPTY. */
export const rmdir = removal("RMDIR", "rmdir");

function removal(name: string, how: "remove" | "rmdir"): Operation {
  return {
    name,
    nonIdempotent: true,
    run(call, args) {
      const directory = call.target(args);
      const entry = readKeptName(args);
      directory.mustBeWritable();
      const { fileSystem, credentials } = directory;
      return call.answerOnce<Change>(
        (onApplied) => fileSystem[how](credentials, directory, entry, onApplied),
        (change) => writeChange(call.begin(NFS3_OK, WCC_DATA_BYTES), fileSystem.id, change),
      );
    },
    fail: failChange,
  };
}
