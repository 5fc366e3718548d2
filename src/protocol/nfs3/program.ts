import { messageOf, StorageError } from "../../lib/errors.js";
import type { RpcCall } from "../rpc/call.js";
import { FairGate } from "../rpc/fair-gate.js";
import type { RpcProgram } from "../rpc/program.js";
import { XdrError, XdrReader } from "../xdr/reader.js";
import { Nfs3Call, type Nfs3Services, type Operation } from "./call.js";
import { access } from "./ops/access.js";
import { commit } from "./ops/commit.js";
import { create } from "./ops/create.js";
import { fsinfo } from "./ops/fsinfo.js";
import { fsstat } from "./ops/fsstat.js";
import { getattr } from "./ops/getattr.js";
import { link } from "./ops/link.js";
import { lookup } from "./ops/lookup.js";
import { mkdir } from "./ops/mkdir.js";
import { mknod } from "./ops/mknod.js";
import { nullOperation } from "./ops/null.js";
import { pathconf } from "./ops/pathconf.js";
import { read } from "./ops/read.js";
import { readdir } from "./ops/readdir.js";
import { readdirplus } from "./ops/readdirplus.js";
import { readlink } from "./ops/readlink.js";
import { remove, rmdir } from "./ops/remove.js";
import { rename } from "./ops/rename.js";
import { setattr } from "./ops/setattr.js";
import { symlink } from "./ops/symlink.js";
import { write } from "./ops/write.js";
import { NFS3_STATUS, NFS3ERR_SERVERFAULT, statusOf } from "./status.js";

/** By procedure number, RFC 1813 section 3.3. */
const OPERATIONS: readonly Operation[] = [
  ...[nullOperation, getattr, setattr, lookup, access, readlink, read, write, create, mkdir, symlink],
  ...[mknod, remove, rmdir, rename, link, readdir, readdirplus, fsstat, fsinfo, pathconf, commit],
];

/**
 * Requests that change names and attributes, at once: each may have changed pages of its own, which one commit then writes in one piece. More do not make the
 * commits larger, which has no more to give; they wait. WRITE has bounds of its own, in the cache.
 */
const CHANGING: readonly Operation[] = [setattr, create, mkdir, symlink, mknod, remove, rmdir, rename, link];
/** By procedure: this is asked for every call. */
const CHANGES: readonly boolean[] = OPERATIONS.map((operation) => CHANGING.includes(operation));
const CHANGES_AT_ONCE_MAX = 512;

/** What may go better the next time. */
const TRANSIENT: ReadonlySet<number> = new Set([
  NFS3_STATUS.EIO,
  NFS3_STATUS.EBUSY,
  NFS3_STATUS.ENOSPC,
  NFS3ERR_SERVERFAULT,
]);

/** NFS version 3, RFC 1813. */
export class Nfs3Program implements RpcProgram {
  readonly name = "nfs";
  readonly number = 100003;
  readonly versionLow = 3;
  readonly versionHigh = 3;

  readonly #changes = new FairGate(CHANGES_AT_ONCE_MAX);

  constructor(private readonly services: Nfs3Services) {}

  procedures(): readonly Operation[] {
    return OPERATIONS;
  }

  invoke(rpc: RpcCall, args: XdrReader): void | Promise<void> {
    const operation = OPERATIONS[rpc.procedure]!;
    return CHANGES[rpc.procedure] === true ? this.#change(operation, rpc, args) : this.#run(operation, rpc, args);
  }

  /** In the piece in which it came, unless too many are under way. */
  #change(operation: Operation, rpc: RpcCall, args: XdrReader): void | Promise<void> {
    const turn = this.#changes.enter(rpc.connection.peer.address);
    if (turn === null) return this.#inside(operation, rpc, args);
    // The reader serves the next record meanwhile.
    const own = new XdrReader(Buffer.from(args.buffer.subarray(args.at, args.at + args.remaining)));
    return turn.then(() => this.#inside(operation, rpc, own));
  }

  #inside(operation: Operation, rpc: RpcCall, args: XdrReader): void | Promise<void> {
    let pending: Promise<void> | undefined;
    try {
      pending = this.#run(operation, rpc, args) ?? undefined;
    } finally {
      if (pending === undefined) this.#changes.leave();
    }
    return pending?.finally(() => this.#changes.leave());
  }

  #run(operation: Operation, rpc: RpcCall, args: XdrReader): void | Promise<void> {
    const call = new Nfs3Call(this.services, rpc);
    try {
      const pending = operation.run(call, args);
      if (pending !== undefined) return this.#guard(operation, call, pending);
    } catch (error) {
      this.#fail(operation, call, error);
    }
  }

  async #guard(operation: Operation, call: Nfs3Call, pending: Promise<void>): Promise<void> {
    try {
      await pending;
    } catch (error) {
      this.#fail(operation, call, error);
    }
  }

  /** Answer an error with the procedure's failure; what does not decode goes on to RPC. */
  #fail(operation: Operation, call: Nfs3Call, error: unknown): void {
    if (error instanceof XdrError) throw error;
    if (!(error instanceof StorageError)) {
      this.services.log.error({ operation: operation.name, error: messageOf(error) }, "nfs3: unexpected error");
      this.services.onUnexpected(error);
    }
    if (!call.rpc.answered) this.#answerFailure(operation, call, statusOf(error));
  }

  /** Nothing has changed, so a repetition after a crash fails as this one did, unless the state changed in between: the next commit keeps the answer. */
  #answerFailure(operation: Operation, call: Nfs3Call, status: number): void {
    if (TRANSIENT.has(status)) call.rpc.isTransient = true;
    operation.fail(call, status);
    const { keptReply } = call.rpc;
    if (keptReply !== null) call.first?.fileSystem.keepReply(keptReply);
  }
}
