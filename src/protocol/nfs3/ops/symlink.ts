import { type Created, LIMITS } from "../../../fs/vfs.js";
import { StorageError } from "../../../lib/errors.js";
import type { XdrReader } from "../../xdr/reader.js";
import type { Operation } from "../call.js";
import { readKeptName, readSetAttributes } from "../codec.js";
import { encodeCreated } from "../created.js";
import { failChange } from "../failure.js";

/** NFSv3 SYMLINK, RFC 1813 section 3.3.10. The target is any bytes but NUL, up to 4095. Errors: as CREATE. */
export const symlink: Operation = {
  name: "SYMLINK",
  nonIdempotent: true,
  run(call, args) {
    const directory = call.target(args);
    const name = readKeptName(args);
    const set = readSetAttributes(args);
    const link = readLinkTarget(args);
    directory.mustBeWritable();
    const { fileSystem, credentials } = directory;
    return call.answerOnce<Created>(
      (onApplied) => fileSystem.symlink(credentials, directory, name, link, set, onApplied),
      (created) => encodeCreated(call, directory, created),
    );
  },
  fail: failChange,
};

/** nfspath3. @returns a copy */
function readLinkTarget(args: XdrReader): Buffer {
  const link = args.opaque(args.remaining);
  if (link.length > LIMITS.linkTargetBytesMax) throw new StorageError("ENAMETOOLONG", "link target too long");
  if (link.length === 0 || link.includes(0)) throw new StorageError("EINVAL", "link target is empty or has a NUL");
  return Buffer.from(link);
}
