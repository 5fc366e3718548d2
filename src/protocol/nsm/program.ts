import type { Logger } from "../../lib/log.js";
import type { ExportTable } from "../exports.js";
import { freeClient } from "../lock-clients.js";
import type { RpcCall } from "../rpc/call.js";
import type { RpcProcedure, RpcProgram } from "../rpc/program.js";
import type { XdrReader } from "../xdr/reader.js";

export interface NsmServices {
  readonly exports: ExportTable;
  readonly log: Logger;
}

interface Procedure extends RpcProcedure {
  run(services: NsmServices, call: RpcCall, args: XdrReader): void | Promise<void>;
}

/** X/Open XNFS (C702) chapter 12: SM_MAXSTRLEN. */
const NAME_BYTES_MAX = 1024;
const STAT_FAIL = 1;

/**
 * Our state number: odd while a host is up, and higher after each time that it has lost its locks. Ours survive a restart and a takeover as
 * rows of the file system, so it never rises, and no SM_NOTIFY is ever sent: a client that was told so would reclaim what it has.
 */
const STATE = 1;

/** rpc.statd gives its privileges up: it sends from any port, also to exports that want a privileged one. */
const PRIVILEGED_PORT = 1;

/** The last news of so many hosts are remembered, to know a repetition. */
const NEWS_KEPT_MAX = 4096;

/**
 * Network Status Monitor version 1: it hears which clients have started again, so that their locks go. It monitors nobody for others: a
 * lock manager asks the status monitor of its own host, and that is not this one.
 */
export class NsmProgram implements RpcProgram {
  readonly name = "status";
  readonly number = 100024;
  readonly versionLow = 1;
  readonly versionHigh = 1;
  readonly datagrams = true;
  /** By address and host name: the state number that it last came with. */
  readonly #news = new Map<string, number>();
  readonly #procedures: readonly Procedure[] = [
    { name: "NULL", run: nothing },
    { name: "STAT", run: refuse },
    { name: "MON", run: refuse },
    { name: "UNMON", run: state },
    { name: "UNMON_ALL", run: state },
    { name: "SIMU_CRASH", run: nothing },
    { name: "NOTIFY", run: (_services, call, args) => this.#notify(call, args) },
  ];

  constructor(private readonly services: NsmServices) {}

  procedures(): readonly Procedure[] {
    return this.#procedures;
  }

  invoke(call: RpcCall, args: XdrReader): void | Promise<void> {
    return this.#procedures[call.procedure]?.run(this.services, call, args);
  }

  /**
   * SM_NOTIFY, sent by a client that has started again: its locks go. It is sent until it is answered, so that a repetition may come when the
   * client has new locks already; the state number tells. The reply leaves when the locks are gone for good.
   */
  async #notify(call: RpcCall, args: XdrReader): Promise<void> {
    const name = args.opaque(NAME_BYTES_MAX).toString("latin1");
    const newState = args.u32();
    const { peer } = call.connection;
    const key = `${peer.address} ${name}`;
    if (this.#news.get(key) !== newState) {
      const freed = await freeClient(this.services, peer, name, PRIVILEGED_PORT);
      this.services.log.info(
        { client: name, address: peer.address, state: newState, ...freed },
        "client started again",
      );
      // Without an answer it is sent again.
      if (!freed.complete) return;
      this.#remember(key, newState);
    }
    nothing(this.services, call);
  }

  #remember(key: string, newState: number): void {
    this.#news.delete(key);
    this.#news.set(key, newState);
    if (this.#news.size <= NEWS_KEPT_MAX) return;
    for (const oldest of this.#news.keys()) {
      this.#news.delete(oldest);
      return;
    }
  }
}

function nothing(_services: NsmServices, call: RpcCall): void {
  call.begin(0);
  call.finish();
}

/** sm_stat_res: this monitor does not watch the host. */
function refuse(_services: NsmServices, call: RpcCall): void {
  const w = call.begin(8);
  w.u32(STAT_FAIL);
  w.u32(STATE);
  call.finish();
}

/** sm_stat */
function state(_services: NsmServices, call: RpcCall): void {
  call.begin(4).u32(STATE);
  call.finish();
}
