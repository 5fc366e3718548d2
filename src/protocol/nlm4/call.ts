import {
  Access,
  type FileId,
  type FileSystem,
  type LockHolder,
  type LockOwner,
  type LockRequest,
  type OnApplied,
  rangeOf,
} from "../../fs/vfs.js";
import { messageOf, StorageError } from "../../lib/errors.js";
import type { Logger } from "../../lib/log.js";
import type { Admission, ExportTable } from "../exports.js";
import type { HandleCodec } from "../handle.js";
import type { RpcCall } from "../rpc/call.js";
import { XdrError, XdrReader } from "../xdr/reader.js";
import type { LockCaller, Nlm4Lock } from "./codec.js";
import type { GrantSender } from "./grant-sender.js";
import { lockStatusOf, Nlm4Status } from "./status.js";

export interface Nlm4Services {
  readonly exports: ExportTable;
  readonly handles: HandleCodec;
  readonly grants: GrantSender;
  readonly log: Logger;
  /** An error that is neither bad input nor a StorageError. */
  readonly onUnexpected: (error: unknown) => void;
}

/** What a procedure came to: nlm4_stats, and who is in the way of a TEST. */
export interface Outcome {
  readonly status: number;
  readonly holder?: LockHolder;
  /** It ended with an error: what was applied, if anything was, is not durable. */
  readonly isError?: true;
}

/** A decoded request, ready to be done. `onApplied` is called in the piece in which the change is applied. */
export interface Prepared {
  readonly cookie: Buffer;
  run(onApplied: OnApplied<Outcome>): Outcome | Promise<Outcome>;
}

/** The file that a request is about, with who asks. */
export class LockTarget {
  constructor(
    readonly id: FileId,
    readonly fileSystem: FileSystem,
    private readonly admission: Admission,
  ) {}

  get locks() {
    return this.fileSystem.locks;
  }

  /**
   * As the Linux server does: whoever may read or write the file may lock it, and its owner always may.
   * @throws StorageError EACCES, EROFS for an exclusive lock through a read-only export, ESTALE
   */
  mayLock(exclusive: boolean): void {
    const { credentials, readOnly } = this.admission;
    if (credentials === null) throw new StorageError("EACCES", "client may not use this export");
    if (readOnly && exclusive) throw new StorageError("EROFS", "export is read-only");
    const wanted = Access.read | Access.modify | Access.extend;
    const { granted, attributes } = this.fileSystem.access(credentials, this.id, wanted);
    if (granted === 0 && attributes.uid !== credentials.uid) throw new StorageError("EACCES", "may not be locked");
  }
}

/** @throws StorageError EBADHANDLE, EACCES */
export function targetOf({ handles, exports }: Nlm4Services, call: RpcCall, handle: Buffer): LockTarget {
  const decoded = decodeHandle(handles, handle);
  const admission = exports.admit(decoded.entry, call.connection.peer, call.auth);
  if (admission.credentials === null) throw new StorageError("EACCES", "client may not use this export");
  return new LockTarget(decoded, decoded.entry.fileSystem, admission);
}

function decodeHandle(handles: HandleCodec, handle: Buffer) {
  try {
    return handles.read(new XdrReader(handle));
  } catch (error) {
    // The arguments did decode; what is in the handle is not NFSv3's.
    if (error instanceof XdrError) throw new StorageError("EBADHANDLE", "no NFSv3 file handle", {}, error);
    throw error;
  }
}

/** Who asks is what the client says, at the address that it says it from. */
export function ownerOf(call: RpcCall, caller: LockCaller): LockOwner {
  return { address: call.connection.peer.address, ...caller };
}

/** @throws StorageError EFBIG for a range that passes 2^64 */
export function requestOf(call: RpcCall, { caller, offset, length }: Nlm4Lock, exclusive: boolean): LockRequest {
  const range = rangeOf(offset, length);
  if (range === null) throw new StorageError("EFBIG", "the range passes 2^64");
  return { owner: ownerOf(call, caller), ...range, exclusive };
}

/** Never rejects: an error becomes a status. */
export async function outcomeOf(
  { log, onUnexpected }: Nlm4Services,
  prepared: Prepared,
  onApplied: OnApplied<Outcome>,
): Promise<Outcome> {
  try {
    return await prepared.run(onApplied);
  } catch (error) {
    if (!(error instanceof StorageError)) {
      log.error({ error: messageOf(error) }, "nlm4: unexpected error");
      onUnexpected(error);
    }
    return { status: lockStatusOf(error), isError: true };
  }
}

export const GRANTED: Outcome = { status: Nlm4Status.granted };
