import { freeClient } from "../lock-clients.js";
import type { RpcCall, SetAsideReply } from "../rpc/call.js";
import type { RpcProcedure, RpcProgram } from "../rpc/program.js";
import type { XdrReader } from "../xdr/reader.js";
import { XdrWriter } from "../xdr/writer.js";
import { type Nlm4Services, type Outcome, outcomeOf } from "./call.js";
import { readCookie, readLock, readName, writeHolder } from "./codec.js";
import { NLM4_PROGRAM, NLM4_VERSION, Nlm4Procedure } from "./procedures.js";
import * as requests from "./requests.js";
import { Nlm4Status } from "./status.js";

type Run = (services: Nlm4Services, call: RpcCall, args: XdrReader) => void | Promise<void>;

interface Procedure extends RpcProcedure {
  readonly run: Run;
}

type Encode = (w: XdrWriter, cookie: Buffer, outcome: Outcome) => void;

/** nlm4_res: cookie and status. */
const encodeResult: Encode = (w, cookie, { status }) => {
  w.opaque(cookie);
  w.u32(status);
};

/** nlm4_testres: a DENIED says who is in the way. */
const encodeTest: Encode = (w, cookie, { status, holder }) => {
  w.opaque(cookie);
  w.u32(status);
  if (status === Nlm4Status.denied && holder !== undefined) writeHolder(w, holder);
};

/** nlm4_shareres: the sequence number means nothing here. */
const encodeShare: Encode = (w, cookie, { status }) => {
  w.opaque(cookie);
  w.u32(status);
  w.u32(0);
};

/**
 * The result is the reply. It is encoded as the change is applied, kept by the file system in the same commit, and sent when that is durable,
 * so that a repetition is answered alike also after a restart.
 */
function answering(name: string, prepare: requests.Prepare, encode: Encode, nonIdempotent = true): Procedure {
  return {
    name,
    nonIdempotent,
    async run(services, call, args) {
      const { cookie, ...prepared } = prepare(services, call, args, false);
      let kept: SetAsideReply | null = null;
      const outcome = await outcomeOf(services, { cookie, ...prepared }, (applied) => {
        begin(call, encode, cookie, applied);
        kept = call.setAside();
        return kept;
      });
      if (kept !== null && outcome.isError === undefined && !isTransient(outcome)) {
        call.finishWith(kept);
        return;
      }
      // A change that was applied and is not durable may be, or not be, the next time: here, or at the partner.
      call.isTransient = kept !== null || isTransient(outcome);
      begin(call, encode, cookie, outcome);
      call.finish();
    },
  };
}

/** What may go better the next time. */
function isTransient({ status }: Outcome): boolean {
  const { failed, deniedNoLocks, deniedGracePeriod } = Nlm4Status;
  return status === failed || status === deniedNoLocks || status === deniedGracePeriod;
}

const REPLY_BYTES = 64;

function begin(call: RpcCall, encode: Encode, cookie: Buffer, outcome: Outcome): void {
  encode(call.begin(cookie.length + REPLY_BYTES), cookie, outcome);
  call.failed = outcome.status !== Nlm4Status.granted && outcome.status !== Nlm4Status.blocked;
}

/** The reply is empty and leaves at once; the result follows as a call to the client (…_RES). Nobody is called for a stranger. */
function messaging(name: string, prepare: requests.Prepare, encode: Encode, resultProcedure: number): Procedure {
  return {
    name,
    async run(services, call, args) {
      const prepared = prepare(services, call, args, true);
      const { address, localAddress } = call.connection.peer;
      nothing(services, call);
      if (!services.exports.knows(call.connection.peer)) return;
      const outcome = await outcomeOf(services, prepared, () => null);
      const w = new XdrWriter();
      encode(w, prepared.cookie, outcome);
      services.grants.answer(address, localAddress, resultProcedure, w.bytes());
    },
  };
}

function nothing(_services: Nlm4Services, call: RpcCall): void {
  call.begin(0);
  call.finish();
}

/**
 * GRANTED and GRANTED_MSG are for clients. This server is none: whoever takes it for one, which happens when client and server share a host
 * and its port mapper, learns that nobody waits here, gives the lock back, and the client gets it when it asks again.
 */
function granted(_services: Nlm4Services, call: RpcCall, args: XdrReader): void {
  const cookie = readCookie(args);
  args.bool();
  readLock(args);
  const w = call.begin(cookie.length + REPLY_BYTES);
  encodeResult(w, cookie, { status: Nlm4Status.denied });
  call.finish();
}

function grantedMessage(services: Nlm4Services, call: RpcCall, args: XdrReader): void {
  const cookie = readCookie(args);
  args.bool();
  readLock(args);
  nothing(services, call);
  if (!services.exports.knows(call.connection.peer)) return;
  const w = new XdrWriter();
  encodeResult(w, cookie, { status: Nlm4Status.denied });
  const { address, localAddress } = call.connection.peer;
  services.grants.answer(address, localAddress, Nlm4Procedure.grantedResult, w.bytes());
}

/** GRANTED_RES: a client answers our GRANTED_MSG. */
function grantedResult(services: Nlm4Services, call: RpcCall, args: XdrReader): void {
  const cookie = readCookie(args);
  const status = args.u32();
  nothing(services, call);
  services.grants.answered(call.connection.peer.address, cookie, status);
}

/** FREE_ALL: a client that was not monitored has started again. */
async function freeAll(services: Nlm4Services, call: RpcCall, args: XdrReader): Promise<void> {
  const name = readName(args);
  args.u32(); // state
  const { peer } = call.connection;
  const freed = await freeClient(services, peer, name);
  services.log.info({ client: name, address: peer.address, ...freed }, "nlm4: a client gave up all its locks");
  nothing(services, call);
}

const { test, lock, cancel, unlock, share, unshare, nonMonitoredLock } = requests;

/** By number; 16 to 19 were never given out. */
const PROCEDURES: readonly (Procedure | undefined)[] = [
  { name: "NULL", run: nothing },
  answering("TEST", test, encodeTest, false),
  answering("LOCK", lock, encodeResult),
  answering("CANCEL", cancel, encodeResult),
  answering("UNLOCK", unlock, encodeResult),
  { name: "GRANTED", run: granted },
  messaging("TEST_MSG", test, encodeTest, Nlm4Procedure.testResult),
  messaging("LOCK_MSG", lock, encodeResult, Nlm4Procedure.lockResult),
  messaging("CANCEL_MSG", cancel, encodeResult, Nlm4Procedure.cancelResult),
  messaging("UNLOCK_MSG", unlock, encodeResult, Nlm4Procedure.unlockResult),
  { name: "GRANTED_MSG", run: grantedMessage },
  // Answers to messages that this server never sends.
  ...["TEST_RES", "LOCK_RES", "CANCEL_RES", "UNLOCK_RES"].map((name) => ({ name, run: nothing })),
  { name: "GRANTED_RES", run: grantedResult },
  ...[undefined, undefined, undefined, undefined],
  answering("SHARE", share, encodeShare),
  answering("UNSHARE", unshare, encodeShare),
  answering("NM_LOCK", nonMonitoredLock, encodeResult),
  { name: "FREE_ALL", run: freeAll },
];

/**
 * Network Lock Manager version 4: byte-range locks for NFSv3. Versions 1 and 3 belong to NFSv2 and are not served.
 *
 * The duplicate-request cache answers what is repeated; nearly everything would also come out the same twice.
 */
export class Nlm4Program implements RpcProgram {
  readonly name = "nlm";
  readonly number = NLM4_PROGRAM;
  readonly versionLow = NLM4_VERSION;
  readonly versionHigh = NLM4_VERSION;
  readonly datagrams = true;

  constructor(private readonly services: Nlm4Services) {}

  procedures(): readonly (Procedure | undefined)[] {
    return PROCEDURES;
  }

  invoke(call: RpcCall, args: XdrReader): void | Promise<void> {
    return PROCEDURES[call.procedure]?.run(this.services, call, args);
  }
}
