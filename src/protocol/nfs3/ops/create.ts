import type { Created, CreateHow } from "../../../fs/vfs.js";
import type { XdrReader } from "../../xdr/reader.js";
import type { Operation } from "../call.js";
import { readKeptName, readSetAttributes } from "../codec.js";
import { encodeCreated } from "../created.js";
import { failChange } from "../failure.js";

const EXCLUSIVE = 2;
const VERIFIER_BYTES = 8;

/**
 * NFSv3 CREATE, RFC 1813 section 3.3.8. UNCHECKED opens what is there, GUARDED refuses it, EXCLUSIVE refuses it unless it was created with
 * the same verifier (a repeated call).
 * Errors: ACCES BADHANDLE EXIST FBIG INVAL IO NAMETOOLONG NOSPC NOTDIR ROFS STALE, with wcc data of the directory.
 */
export const create: Operation = {
  name: "CREATE",
  nonIdempotent: true,
  run(call, args) {
    const directory = call.target(args);
    const name = readKeptName(args);
    const how = readHow(args);
    directory.mustBeWritable();
    const { fileSystem, credentials } = directory;
    return call.answerOnce<Created>(
      (onApplied) => fileSystem.create(credentials, directory, name, how, onApplied),
      (created) => encodeCreated(call, directory, created),
    );
  },
  fail: failChange,
};

/** createhow3 */
function readHow(args: XdrReader): CreateHow {
  const mode = args.choice(EXCLUSIVE);
  if (mode === EXCLUSIVE) return { mode: "exclusive", verifier: Buffer.from(args.fixed(VERIFIER_BYTES)) };
  return { mode: mode === 0 ? "unchecked" : "guarded", attributes: readSetAttributes(args) };
}
