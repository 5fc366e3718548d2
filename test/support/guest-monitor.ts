/**
 * What a Linux guest needs beside its kernel to lock over NFSv3: a port mapper that lets the kernel's lock manager register (it does not
 * start otherwise), and a status monitor (rpc.statd) that the kernel asks to watch each server. Both run here, on the host; a line of shell
 * in the guest carries its own 127.0.0.1:111 to them.
 */
import { SystemClock } from "../../src/lib/clock.js";
import { SILENT } from "../../src/lib/log.js";
import { DEFAULT_LIMITS } from "../../src/protocol/limits.js";
import type { RpcCall } from "../../src/protocol/rpc/call.js";
import type { RpcProgram } from "../../src/protocol/rpc/program.js";
import { RpcServer } from "../../src/protocol/rpc/server.js";
import { newReplyCache } from "../../src/protocol/server.js";
import type { XdrReader } from "../../src/protocol/xdr/reader.js";
import { NSM } from "./nlm-client.js";

const GUEST_PORT = 111;

export class GuestMonitor {
  /** Hosts that the guest's kernel wants watched. */
  readonly monitored: string[] = [];
  /** Programs that it has registered. */
  readonly registered = new Set<number>();
  readonly #rpc: RpcServer;
  port = 0;

  private constructor() {
    const clock = new SystemClock();
    this.#rpc = new RpcServer({
      ...{ limits: DEFAULT_LIMITS, clock, log: SILENT, replyCache: newReplyCache(clock) },
      programs: [this.#portmap(), this.#nsm()],
    });
  }

  static async start(): Promise<GuestMonitor> {
    const monitor = new GuestMonitor();
    monitor.port = (await monitor.#rpc.listen({ host: "127.0.0.1", port: 0 })).port;
    return monitor;
  }

  /** For a script in the guest: its port 111 is ours from now on. */
  get relay(): string {
    return `nc -ll -p ${GUEST_PORT} -e nc 10.0.2.2 ${this.port} </dev/null >/dev/null 2>&1 &\nsleep 0.5`;
  }

  close(): Promise<void> {
    return this.#rpc.close({ drainMs: 0 });
  }

  #portmap(): RpcProgram {
    return program("portmap", 100000, 2, 4, (call, args) => {
      const { procedure, version } = call;
      const wanted = procedure === 0 || procedure === 4 ? 0 : args.u32();
      if (procedure === 1) this.registered.add(wanted);
      const known = wanted === NSM ? GUEST_PORT : 0;
      if (procedure === 3 && version > 2) call.begin(4).text(known === 0 ? "" : `127.0.0.1.0.${known}`);
      else if (procedure === 0) call.begin(0);
      else call.begin(4).u32(procedure === 3 ? known : 1);
      call.finish();
    });
  }

  #nsm(): RpcProgram {
    return program("status", NSM, 1, 1, (call, args) => {
      if (call.procedure === 2) this.monitored.push(args.opaque(1024).toString());
      const w = call.begin(8);
      if (call.procedure === 1 || call.procedure === 2) w.u32(0);
      if (call.procedure !== 0) w.u32(1);
      call.finish();
    });
  }
}

function program(
  name: string,
  number: number,
  versionLow: number,
  versionHigh: number,
  invoke: (call: RpcCall, args: XdrReader) => void,
): RpcProgram {
  const procedures = Array.from({ length: 10 }, (_, index) => ({ name: String(index) }));
  return { name, number, versionLow, versionHigh, procedures: () => procedures, invoke };
}
