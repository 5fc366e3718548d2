import type { Created } from "../../../fs/vfs.js";
import type { Operation } from "../call.js";
import { readKeptName, readSetAttributes } from "../codec.js";
import { encodeCreated } from "../created.js";
import { failChange } from "../failure.js";

/** NFSv3 MKDIR, RFC 1813 section 3.3.9. Errors: as CREATE, and MLINK. */
export const mkdir: Operation = {
  name: "MKDIR",
  nonIdempotent: true,
  run(call, args) {
    const directory = call.target(args);
    const name = readKeptName(args);
    const set = readSetAttributes(args);
    directory.mustBeWritable();
    const { fileSystem, credentials } = directory;
    return call.answerOnce<Created>(
      (onApplied) => fileSystem.mkdir(credentials, directory, name, set, onApplied),
      (created) => encodeCreated(call, directory, created),
    );
  },
  fail: failChange,
};
