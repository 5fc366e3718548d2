import { type FileId, FileKind, ROOT_CREDENTIALS } from "../../fs/vfs.js";
import { messageOf, StorageError } from "../../lib/errors.js";
import type { Logger } from "../../lib/log.js";
import type { ExportEntry, ExportTable } from "../exports.js";
import type { HandleCodec } from "../handle.js";
import { HANDLE } from "../handle.js";
import type { RpcCall } from "../rpc/call.js";
import { AuthFlavor } from "../rpc/message.js";
import type { RpcProcedure, RpcProgram } from "../rpc/program.js";
import type { XdrReader } from "../xdr/reader.js";
import type { MountList } from "./mount-list.js";
import { MNT3_OK, mountStatusOf } from "./status.js";

/** RFC 1813 section 5.1.4: MNTPATHLEN. */
const PATH_BYTES_MAX = 1024;

export interface Mount3Services {
  readonly exports: ExportTable;
  readonly handles: HandleCodec;
  readonly mounts: MountList;
  readonly log: Logger;
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
  const path = args.opaque(PATH_BYTES_MAX).toString("utf8");
  try {
    const { entry, id } = resolve(services, call, path);
    const w = call.begin(4 + 4 + HANDLE.end + 12);
    w.u32(MNT3_OK);
    w.at = services.handles.put(w.buffer, w.at, entry, id);
    w.u32(2);
    w.u32(AuthFlavor.sys);
    w.u32(AuthFlavor.none);
    call.finish();
    services.mounts.add(call.connection.peer.address, path);
  } catch (error) {
    if (!(error instanceof StorageError))
      services.log.error({ path, error: messageOf(error) }, "mount3: unexpected error");
    call.failed = true;
    call.begin(4).u32(mountStatusOf(error));
    call.finish();
  }
}

/**
 * @throws StorageError ENOENT for what is not exported, EACCES for a client that may not, EINVAL for "..", ENOTDIR for what is no directory.
 * Symbolic links are not followed: they are the client's to interpret.
 */
function resolve(services: Mount3Services, call: RpcCall, path: string): { entry: ExportEntry; id: FileId } {
  const found = services.exports.findByPath(path);
  if (!path.startsWith("/") || found === null) throw new StorageError("ENOENT", "not exported", { path });
  const { entry, below } = found;
  const { fileSystem } = entry;
  if (entry.ruleFor(call.connection.peer) === null) throw new StorageError("EACCES", "client may not mount", { path });
  let id: FileId = fileSystem.root;
  for (const part of below) {
    if (part === "..") throw new StorageError("EINVAL", "path with ..", { path });
    const attributes = fileSystem.lookup(ROOT_CREDENTIALS, id, Buffer.from(part, "utf8"));
    if (attributes.kind !== FileKind.directory) throw new StorageError("ENOTDIR", "not a directory", { path });
    id = attributes;
  }
  return { entry, id };
}

/** DUMP, RFC 1813 section 5.2.2. */
function dump(services: Mount3Services, call: RpcCall): void {
  const w = call.begin(4);
  for (const { host, path } of services.mounts.list()) {
    w.u32(1);
    w.text(host);
    w.text(path);
  }
  w.u32(0);
  call.finish();
}

/** UMNT, RFC 1813 section 5.2.3. */
function unmount(services: Mount3Services, call: RpcCall, args: XdrReader): void {
  const path = args.opaque(PATH_BYTES_MAX).toString("utf8");
  services.mounts.remove(call.connection.peer.address, path);
  mountNull(services, call);
}

/** UMNTALL, RFC 1813 section 5.2.4. */
function unmountAll(services: Mount3Services, call: RpcCall): void {
  services.mounts.removeAll(call.connection.peer.address);
  mountNull(services, call);
}

/** EXPORT, RFC 1813 section 5.2.5: every export with its client lists as groups. */
function exportList(services: Mount3Services, call: RpcCall): void {
  const w = call.begin(4);
  for (const entry of services.exports.list()) {
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
  { name: "DUMP", run: dump },
  { name: "UMNT", run: unmount },
  { name: "UMNTALL", run: unmountAll },
  { name: "EXPORT", run: exportList },
];
