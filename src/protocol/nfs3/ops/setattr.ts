import type { Change } from "../../../fs/vfs.js";
import type { Operation } from "../call.js";
import { readSetAttributes, readTime, WCC_DATA_BYTES, writeChange } from "../codec.js";
import { failChange } from "../failure.js";
import { NFS3_OK } from "../status.js";

/**
 * NFSv3 SETATTR, RFC 1813 section 3.3.2. sattrguard3: the change is made only when ctime is still the one given (NOT_SYNC otherwise).
 * Errors: ACCES BADHANDLE DQUOT FBIG INVAL IO NOSPC NOT_SYNC PERM ROFS STALE, with wcc data.
 */
export const setattr: Operation = {
  name: "SETATTR",
  nonIdempotent: true,
  run(call, args) {
    const target = call.target(args);
    const set = readSetAttributes(args);
    const guard = args.bool() ? readTime(args) : undefined;
    target.mustBeWritable();
    const { fileSystem, credentials } = target;
    return call.answerOnce<Change>(
      (onApplied) => fileSystem.setattr(credentials, target, set, guard, onApplied),
      (change) => writeChange(call.begin(NFS3_OK, WCC_DATA_BYTES), fileSystem.id, change),
    );
  },
  fail: failChange,
};
