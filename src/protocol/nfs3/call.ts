import type { Attributes, Credentials, FileId, FileSystem, OnApplied } from "../../fs/vfs.js";
import { StorageError } from "../../lib/errors.js";
import type { Logger } from "../../lib/log.js";
import type { ExportEntry, ExportTable } from "../exports.js";
import type { HandleCodec } from "../handle.js";
import type { RpcCall, SetAsideReply } from "../rpc/call.js";
import type { RpcProcedure } from "../rpc/program.js";
import type { ReplyQueue } from "../rpc/reply-queue.js";
import type { XdrReader } from "../xdr/reader.js";
import type { ScratchPool } from "./scratch.js";
import { NFS3_OK } from "./status.js";

/** What every operation uses. */
export interface Nfs3Services {
  readonly exports: ExportTable;
  readonly handles: HandleCodec;
  readonly scratch: ScratchPool;
  readonly log: Logger;
  /** An error that is neither bad input nor a StorageError. */
  readonly onUnexpected: (error: unknown) => void;
}

/** The object that a handle names, and what the caller may do with it. It is the FileId that the file system gets. */
export class Target implements FileId {
  constructor(
    readonly ino: number,
    readonly generation: number,
    readonly entry: ExportEntry,
    readonly fileSystem: FileSystem,
    readonly credentials: Credentials,
    readonly readOnly: boolean,
  ) {}

  /** For post_op_attr of a failure; null when the inode is gone. */
  attributes(): Attributes | null {
    try {
      return this.fileSystem.getattr(this);
    } catch {
      return null;
    }
  }

  /** @throws StorageError EROFS */
  mustBeWritable(): void {
    if (this.readOnly) throw new StorageError("EROFS", "export is read-only");
  }
}

/**
 * One procedure. `run` decodes, works and replies; it throws (or rejects with) StorageError and leaves the reply to `fail`, which knows the
 * shape of the procedure's failure. All arguments are decoded before the first await.
 */
export interface Operation extends RpcProcedure {
  run(call: Nfs3Call, args: XdrReader): void | Promise<void>;
  fail(call: Nfs3Call, status: number): void;
}

/** One NFSv3 request. */
export class Nfs3Call {
  /** The first and second object of the arguments, once they are decoded: a failure reports their attributes. */
  first: Target | null = null;
  second: Target | null = null;

  constructor(
    readonly services: Nfs3Services,
    readonly rpc: RpcCall,
  ) {}

  /**
   * Decode a handle and check who asks.
   * @throws StorageError EBADHANDLE, EACCES when the caller may not use the export
   */
  target(args: XdrReader): Target {
    const { handles, exports } = this.services;
    const handle = handles.read(args);
    const { entry } = handle;
    const { connection, auth } = this.rpc;
    const admission = exports.admit(entry, connection.peer, auth);
    const { credentials, readOnly } = admission;
    if (credentials === null) throw new StorageError("EACCES", "client may not use this export");
    const target = new Target(handle.ino, handle.generation, entry, entry.fileSystem, credentials, readOnly);
    if (this.first === null) this.first = target;
    else this.second = target;
    return target;
  }

  /** Begin a reply with its status and room for `bodyBytes` behind it. */
  begin(status: number, bodyBytes: number): ReplyQueue {
    const w = this.rpc.begin(4 + bodyBytes);
    w.u32(status);
    if (status !== NFS3_OK) this.rpc.failed = true;
    return w;
  }

  end(): void {
    this.rpc.finish();
  }

  /**
   * Do a change and answer it exactly once: the reply is encoded as the change is applied, kept by the file system in the same commit, and sent when that
   * is durable.
   * @param change  calls the file system with the callback that it is given
   * @param encode  from `begin` to the last byte of the body, without `end`
   */
  answerOnce<T>(
    change: (onApplied: OnApplied<T>) => T | Promise<T>,
    encode: (result: T) => void,
  ): void | Promise<void> {
    let kept: SetAsideReply | null = null;
    const result = change((applied) => {
      encode(applied);
      kept = this.rpc.setAside();
      return kept;
    });
    return result instanceof Promise
      ? result.then((settled) => this.#conclude(kept, settled, encode))
      : this.#conclude(kept, result, encode);
  }

  #conclude<T>(kept: SetAsideReply | null, result: T, encode: (result: T) => void): void {
    if (kept !== null) this.rpc.finishWith(kept);
    else {
      encode(result);
      this.end();
    }
  }
}
