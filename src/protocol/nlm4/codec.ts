import { type ByteRange, type LockHolder, type LockOwner, lengthOf } from "../../fs/vfs.js";
import { ownCopy } from "../../lib/slab.js";
import type { XdrReader } from "../xdr/reader.js";
import { XdrWriter } from "../xdr/writer.js";

/** X/Open XNFS (C702) chapter 14: LM_MAXSTRLEN, and MAXNETOBJ_SZ. */
export const NAME_BYTES_MAX = 1024;
const NETOBJ_BYTES_MAX = 1024;

/** The owner of a lock as far as a client says it. */
export type LockCaller = Omit<LockOwner, "address">;

/** nlm4_lock, RFC 1813 section 6.3.3: what is locked, and for whom. */
export interface Nlm4Lock {
  /** nfs_fh3 with its length in front, as it is read by HandleCodec. */
  readonly handle: Buffer;
  readonly caller: LockCaller;
  readonly offset: bigint;
  readonly length: bigint;
}

/** A copy: cookies outlive their record. */
export function readCookie(args: XdrReader): Buffer {
  return Buffer.from(args.opaque(NETOBJ_BYTES_MAX));
}

/** Names are bytes: one character for each, so that two different names stay different. */
export function readName(args: XdrReader): string {
  return args.opaque(NAME_BYTES_MAX).toString("latin1");
}

export function readHandle(args: XdrReader): Buffer {
  const start = args.at;
  args.opaque(NETOBJ_BYTES_MAX);
  return Buffer.from(args.buffer.subarray(start, args.at));
}

export function readLock(args: XdrReader): Nlm4Lock {
  const host = readName(args);
  const handle = readHandle(args);
  const oh = ownCopy(args.opaque(NETOBJ_BYTES_MAX));
  const svid = args.u32();
  return { handle, caller: { host, svid, oh }, offset: readBigU64(args), length: readBigU64(args) };
}

function readBigU64(args: XdrReader): bigint {
  const high = BigInt(args.u32());
  return (high << 32n) | BigInt(args.u32());
}

/** nlm4_testargs of a GRANTED call: which of its requests has its lock. */
export interface GrantedArguments extends ByteRange {
  readonly cookie: Buffer;
  readonly exclusive: boolean;
  readonly handle: Buffer;
  readonly owner: LockOwner;
}

/** @param server  our own name: the caller is the server this time */
export function encodeGranted(server: string, granted: GrantedArguments): Buffer {
  const { cookie, exclusive, handle, owner } = granted;
  const w = new XdrWriter();
  w.opaque(cookie);
  w.bool(exclusive);
  w.opaque(Buffer.from(server, "latin1"));
  w.fixed(handle);
  w.opaque(owner.oh);
  w.u32(owner.svid);
  w.bigU64(granted.first);
  w.bigU64(lengthOf(granted));
  return w.bytes();
}

/** nlm4_holder */
export function writeHolder(w: XdrWriter, holder: LockHolder): void {
  w.bool(holder.exclusive);
  w.u32(holder.owner.svid);
  w.opaque(holder.owner.oh);
  w.bigU64(holder.first);
  w.bigU64(lengthOf(holder));
}
