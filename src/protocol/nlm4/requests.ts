import { ownCopy } from "../../lib/slab.js";
import type { RpcCall } from "../rpc/call.js";
import type { XdrReader } from "../xdr/reader.js";
import { GRANTED, type Nlm4Services, type Outcome, ownerOf, type Prepared, requestOf, targetOf } from "./call.js";
import { readCookie, readHandle, readLock, readName } from "./codec.js";
import { encodeNote } from "./note.js";
import { Nlm4Status } from "./status.js";

/** What clients ask, decoded: each for the call that is answered in its reply and for the message that is answered by a call back. */
export type Prepare = (services: Nlm4Services, call: RpcCall, args: XdrReader, asMessage: boolean) => Prepared;

const statusOf = (granted: boolean): Outcome => ({ status: granted ? Nlm4Status.granted : Nlm4Status.denied });

/** NLM4_TEST, X/Open XNFS C702 section 10.3: nothing is locked; DENIED says who is in the way. */
export const test: Prepare = (services, call, args) => {
  const cookie = readCookie(args);
  const exclusive = args.bool();
  const lock = readLock(args);
  return {
    cookie,
    run: async () => {
      const target = targetOf(services, call, lock.handle);
      target.mayLock(false);
      const holder = await target.locks.test(target.id, requestOf(call, lock, exclusive));
      return holder === null ? GRANTED : { status: Nlm4Status.denied, holder };
    },
  };
};

/**
 * NLM4_LOCK. A request with `block` that cannot be granted is BLOCKED: it waits, and GRANTED goes to the client when its turn has come.
 * `reclaim` changes nothing: locks survive a restart, so a client that reclaims finds its own, and one that has none gets it if it is free.
 */
export const lock: Prepare = (services, call, args, asMessage) => {
  const cookie = readCookie(args);
  const block = args.bool();
  const exclusive = args.bool();
  const wanted = readLock(args);
  args.bool(); // reclaim
  args.u32(); // state
  return {
    cookie,
    run: async (onApplied) => {
      const target = targetOf(services, call, wanted.handle);
      target.mayLock(exclusive);
      const { localAddress } = call.connection.peer;
      const note = block ? encodeNote({ asMessage, localAddress, handle: wanted.handle }) : null;
      const request = requestOf(call, wanted, exclusive);
      const result = await target.locks.lock(target.id, request, note, ({ status }) => onApplied(LOCKED[status]));
      return LOCKED[result.status];
    },
  };
};

const LOCKED = {
  granted: GRANTED,
  blocked: { status: Nlm4Status.blocked },
  denied: { status: Nlm4Status.denied },
} as const;

/** NM_LOCK, for clients that no status monitor watches: never blocks. The arguments are those of LOCK. */
export const nonMonitoredLock: Prepare = (services, call, args) => {
  const cookie = readCookie(args);
  args.bool(); // block
  const exclusive = args.bool();
  const wanted = readLock(args);
  args.bool(); // reclaim
  args.u32(); // state
  return {
    cookie,
    run: async (onApplied) => {
      const target = targetOf(services, call, wanted.handle);
      target.mayLock(exclusive);
      const request = requestOf(call, wanted, exclusive);
      const result = await target.locks.lock(target.id, request, null, ({ status }) => onApplied(LOCKED[status]));
      return LOCKED[result.status];
    },
  };
};

/** NLM4_CANCEL: DENIED when no such request waits. */
export const cancel: Prepare = (services, call, args) => {
  const cookie = readCookie(args);
  args.bool(); // block
  const exclusive = args.bool();
  const wanted = readLock(args);
  return {
    cookie,
    run: async (onApplied) => {
      const target = targetOf(services, call, wanted.handle);
      const request = requestOf(call, wanted, exclusive);
      return statusOf(await target.locks.cancel(target.id, request, (found) => onApplied(statusOf(found))));
    },
  };
};

/** NLM4_UNLOCK: always granted, also when nothing was locked. */
export const unlock: Prepare = (services, call, args) => {
  const cookie = readCookie(args);
  const wanted = readLock(args);
  return {
    cookie,
    run: async (onApplied) => {
      const target = targetOf(services, call, wanted.handle);
      await target.locks.unlock(target.id, requestOf(call, wanted, false), () => onApplied(GRANTED));
      return GRANTED;
    },
  };
};

/** nlm4_shareargs: fsh4_mode is what others may not do, fsh4_access what the client does; both are bits, 1 read, 2 write. */
function readShare(args: XdrReader) {
  const cookie = readCookie(args);
  const host = readName(args);
  const handle = readHandle(args);
  const oh = ownCopy(args.opaque(1024));
  const deny = args.choice(3);
  const access = args.choice(3);
  args.bool(); // reclaim
  return { cookie, handle, caller: { host, svid: 0, oh }, access, deny };
}

/** NLM4_SHARE, for DOS clients: a reservation of a whole file. */
export const share: Prepare = (services, call, args) => {
  const { cookie, handle, caller, access, deny } = readShare(args);
  return {
    cookie,
    run: async (onApplied) => {
      const target = targetOf(services, call, handle);
      target.mayLock((access & 2) !== 0);
      const request = { owner: ownerOf(call, caller), access, deny };
      return statusOf(await target.locks.share(target.id, request, (done) => onApplied(statusOf(done))));
    },
  };
};

/** NLM4_UNSHARE: always granted. */
export const unshare: Prepare = (services, call, args) => {
  const { cookie, handle, caller } = readShare(args);
  return {
    cookie,
    run: async (onApplied) => {
      const target = targetOf(services, call, handle);
      await target.locks.unshare(target.id, ownerOf(call, caller), () => onApplied(GRANTED));
      return GRANTED;
    },
  };
};
