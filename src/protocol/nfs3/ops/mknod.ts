import { type Created, FileKind } from "../../../fs/vfs.js";
import type { Operation } from "../call.js";
import { readKeptName, readSetAttributes } from "../codec.js";
import { encodeCreated } from "../created.js";
import { failChange } from "../failure.js";
import { NFS3ERR_BADTYPE } from "../status.js";

const FTYPE_MAX = FileKind.fifo;
const NO_DEVICE = { major: 0, minor: 0 };
const SPECIAL: readonly FileKind[] = [FileKind.block, FileKind.character, FileKind.socket, FileKind.fifo];

/**
 * NFSv3 MKNOD, RFC 1813 section 3.3.11: block and character devices, sockets and FIFOs; another type is BADTYPE.
 * Errors: as CREATE, and BADTYPE.
 */
export const mknod: Operation = {
  name: "MKNOD",
  nonIdempotent: true,
  run(call, args) {
    const directory = call.target(args);
    const name = readKeptName(args);
    const ftype = args.choice(FTYPE_MAX);
    const kind = SPECIAL.find((candidate) => candidate === ftype);
    if (kind === undefined) return failChange(call, NFS3ERR_BADTYPE);
    const set = readSetAttributes(args);
    const device = kind === FileKind.block || kind === FileKind.character;
    const rdev = device ? { major: args.u32(), minor: args.u32() } : NO_DEVICE;
    directory.mustBeWritable();
    const { fileSystem, credentials } = directory;
    return call.answerOnce<Created>(
      (onApplied) => fileSystem.mknod(credentials, directory, name, kind, rdev, set, onApplied),
      (created) => encodeCreated(call, directory, created),
    );
  },
  fail: failChange,
};
