import { type FileId, FileKind, ROOT_CREDENTIALS } from "../../fs/vfs.js";
import { messageOf, StorageError } from "../../lib/errors.js";
import type { Logger } from "../../lib/log.js";
import { printable } from "../../lib/printable.js";
import type { ExportEntry, ExportPlace, ExportTable } from "../exports.js";
import type { HandleCodec } from "../handle.js";
import { HANDLE } from "../handle.js";
import type { RpcCall } from "../rpc/call.js";
import { AuthFlavor } from "../rpc/message.js";
import type { Peer } from "../rpc/peer.js";
import type { RpcProcedure, RpcProgram } from "../rpc/program.js";
import type { XdrReader } from "../xdr/reader.js";
import type { MountList } from "./mount-list.js";
import { MNT3_OK, mountStatusOf } from "./status.js";

/** RFC 1813 section 5.1.4: MNTPATHLEN. */
const PATH_BYTES_MAX = 1024;
const SLASH = 0x2f;
const PARENT = Buffer.from("..");

/** For an event: who was refused what, and why. Whoever takes it bounds how often it is told. */
export interface RefusedMount {
  readonly address: string;
  /** Printable. */
  readonly path: string;
  readonly why: string;
}

export interface Mount3Services {
  readonly exports: ExportTable;
  readonly handles: HandleCodec;
  readonly mounts: MountList;
  readonly log: Logger;
  readonly onRefused?: ((refused: RefusedMount) => void) | undefined;
}

interface Procedure extends RpcProcedure {
  run(services: Mount3Services, call: RpcCall, args: XdrReader): void;
}

/** MOUNT version 3, RFC 1813 section 5. It gives out the first handle; whether it may be used is checked again with every call. */
export class Mount3Program implements RpcProgram {
  readonly name = "mount";
  readonly number = 100005;
  readonly versionLow = 3;
  readonly versionHigh = 3;
  readonly datagrams = true;

  constructor(private readonly services: Mount3Services) {}

  procedures(): readonly Procedure[] {
    return PROCEDURES;
  }

  invoke(call: RpcCall, args: XdrReader): void {
    PROCEDURES[call.procedure]?.run(this.services, call, args);
  }
}

function mountNull(_services: Mount3Services, call: RpcCall): void {
  call.begin(0);
  call.finish();
}

/** MNT, RFC 1813 section 5.2.1: an export, or a directory below one. */
function mount(services: Mount3Services, call: RpcCall, args: XdrReader): void {
  const asked = Buffer.from(args.opaque(PATH_BYTES_MAX));
  const { peer } = call.connection;
  try {
    const { entry, id, path } = resolve(services, peer, asked);
    const w = call.begin(4 + 4 + HANDLE.end + 12);
    w.u32(MNT3_OK);
    w.at = services.handles.put(w.buffer, w.at, entry, id);
    w.u32(2);
    w.u32(AuthFlavor.sys);
    w.u32(AuthFlavor.none);
    call.finish();
    services.mounts.add(peer.address, path);
  } catch (error) {
    const path = printable(asked);
    if (error instanceof StorageError) services.onRefused?.({ address: peer.address, path, why: error.message });
    else services.log.error({ path, error: messageOf(error) }, "mount3: unexpected error");
    call.failed = true;
    call.begin(4).u32(mountStatusOf(error));
    call.finish();
  }
}

/**
 * @throws StorageError ENOENT for what is not exported, EBUSY for what is not served now, EACCES for a client that may not, EINVAL for "..", ENOTDIR for what is no directory.
 * Symbolic links are not followed: they are the client's to interpret.
 */
function resolve({ exports }: Mount3Services, peer: Peer, asked: Buffer): ExportPlace & { readonly id: FileId } {
  const place = exports.findByPath(asked);
  if (place === null && exports.isPathAwaited(asked))
    throw new StorageError("EBUSY", "its file system is not served now");
  if (asked[0] !== SLASH || place === null) throw new StorageError("ENOENT", "nothing is exported there");
  const { entry, below } = place;
  requireRule(entry, peer);
  let id: FileId = entry.fileSystem.root;
  for (const part of below) {
    if (part.equals(PARENT)) throw new StorageError("EINVAL", 'the path has ".." in it');
    const attributes = entry.fileSystem.lookup(ROOT_CREDENTIALS, id, part);
    if (attributes.kind !== FileKind.directory) throw new StorageError("ENOTDIR", "it is no directory");
    id = attributes;
  }
  return { ...place, id };
}

/** @throws StorageError EACCES */
function requireRule(entry: ExportEntry, peer: Peer): void {
  if (entry.ruleFor(peer) !== null) return;
  const why = entry.names(peer)
    ? `the export wants a port below 1024, and this came from port ${peer.port}`
    : "no rule of the export names this address";
  throw new StorageError("EACCES", why);
}

/** DUMP, RFC 1813 section 5.2.2. A stranger sees an empty list. */
function dump(services: Mount3Services, call: RpcCall): void {
  const w = call.begin(4);
  const isKnown = services.exports.knows(call.connection.peer);
  for (const { host, path } of isKnown ? services.mounts.list() : []) {
    w.u32(1);
    w.text(host);
    w.opaque(path);
  }
  w.u32(0);
  call.finish();
}

/** UMNT, RFC 1813 section 5.2.3. */
function unmount(services: Mount3Services, call: RpcCall, args: XdrReader): void {
  const asked = args.opaque(PATH_BYTES_MAX);
  // What was exported once may have been mounted.
  const path = services.exports.findByPath(asked)?.path ?? Buffer.from(asked);
  services.mounts.remove(call.connection.peer.address, path);
  mountNull(services, call);
}

/** UMNTALL, RFC 1813 section 5.2.4. */
function unmountAll(services: Mount3Services, call: RpcCall): void {
  services.mounts.removeAll(call.connection.peer.address);
  mountNull(services, call);
}

/** EXPORT, RFC 1813 section 5.2.5: every export with its client lists as groups. A stranger sees none. */
function exportList(services: Mount3Services, call: RpcCall): void {
  const w = call.begin(4);
  const isKnown = services.exports.knows(call.connection.peer);
  for (const entry of isKnown ? services.exports.list() : []) {
    w.u32(1);
    w.text(entry.path);
    for (const rule of entry.rules) {
      w.u32(1);
      w.text(rule.clients);
    }
    w.u32(0);
  }
  w.u32(0);
  call.finish();
}

const PROCEDURES: readonly Procedure[] = [
  { name: "NULL", run: mountNull },
  { name: "MNT", run: mount },
  { name: "DUMP", run: dump, streamOnly: true },
  { name: "UMNT", run: unmount },
  { name: "UMNTALL", run: unmountAll },
  { name: "EXPORT", run: exportList, streamOnly: true },
];
