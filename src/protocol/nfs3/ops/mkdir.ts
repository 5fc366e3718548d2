import type { Operation } from "../call.js";
import { readKeptName, readSetAttributes } from "../codec.js";
import { replyCreated } from "../created.js";
import { failChange } from "../failure.js";

/** NFSv3 MKDIR, RFC 1813 section 3.3.9. Errors: as CREATE, and MLINK. */
export const mkdir: Operation = {
  name: "MKDIR",
  nonIdempotent: true,
  async run(call, args) {
    const directory = call.target(args);
    const name = readKeptName(args);
    const set = readSetAttributes(args);
    directory.mustBeWritable();
    replyCreated(call, directory, await directory.fileSystem.mkdir(directory.credentials, directory, name, set));
  },
  fail: failChange,
};
