import type { TestContext } from "node:test";
import { SystemClock } from "../../src/lib/clock.js";
import { SILENT } from "../../src/lib/log.js";
import { DEFAULT_LIMITS } from "../../src/protocol/limits.js";
import { PortmapProgram } from "../../src/protocol/portmap/program.js";
import type { RpcCall } from "../../src/protocol/rpc/call.js";
import { DatagramServer } from "../../src/protocol/rpc/datagram.js";
import type { RpcProcedure, RpcProgram } from "../../src/protocol/rpc/program.js";
import { RpcServer } from "../../src/protocol/rpc/server.js";
import { newReplyCache } from "../../src/protocol/server.js";
import type { XdrReader } from "../../src/protocol/xdr/reader.js";
import { NLM, NlmProc, readGranted, readResult, readTestResult } from "./nlm-client.js";

/** A call that a client's lock manager got. */
export interface ReceivedCall {
  readonly procedure: number;
  /** Of GRANTED and GRANTED_MSG. */
  readonly granted?: ReturnType<typeof readGranted>;
  /** Of TEST_RES, LOCK_RES, … */
  readonly result?: ReturnType<typeof readTestResult>;
}

/** The lock manager of a client, with its port mapper: what a server calls back. */
export class FakeLockManager implements RpcProgram {
  readonly name = "nlm";
  readonly number = NLM;
  readonly versionLow = 4;
  readonly versionHigh = 4;
  readonly datagrams = true;
  readonly received: ReceivedCall[] = [];
  /** nlm4_stats that GRANTED is answered with; null: no answer at all. */
  answer: number | null = 0;
  port = 0;
  #waiting: (() => void)[] = [];

  static async start(t: TestContext, serve: "tcp" | "udp" = "tcp"): Promise<FakeLockManager> {
    const manager = new FakeLockManager();
    const clock = new SystemClock();
    const services = () => [{ program: NLM, version: 4, name: "nlm", datagrams: true }];
    // One that serves UDP only says so.
    const portmap = new PortmapProgram({
      services: () => (serve === "tcp" ? services() : []),
      port: () => manager.port,
    });
    const options = { limits: DEFAULT_LIMITS, clock, log: SILENT, replyCache: newReplyCache(clock) };
    const rpc = new RpcServer({ programs: serve === "tcp" ? [manager, portmap] : [portmap], ...options });
    const over = new RpcServer({ programs: [manager, portmapOfUdp(services, () => manager.port)], ...options });
    const datagrams = new DatagramServer({
      programs: over.programs,
      ...options,
      admits: () => true,
      onUnexpected: () => {},
    });
    if (serve === "tcp") manager.port = (await rpc.listen({ host: "127.0.0.1", port: 0 })).port;
    else manager.port = (await datagrams.listen({ host: "127.0.0.1", port: 0 })).port;
    t.after(async () => {
      await rpc.close({ drainMs: 0 });
      await datagrams.close();
    });
    return manager;
  }

  procedures(): readonly RpcProcedure[] {
    return Array.from({ length: 24 }, (_, index) => ({ name: String(index) }));
  }

  invoke(call: RpcCall, args: XdrReader): void {
    const { procedure } = call;
    if (procedure === NlmProc.granted || procedure === NlmProc.grantedMsg) this.#granted(call, args);
    else {
      const result = procedure === NlmProc.testRes ? readTestResult(args) : { ...readResult(args), holder: null };
      this.received.push({ procedure, result });
      call.begin(0);
      call.finish();
    }
    for (const wake of this.#waiting.splice(0)) wake();
  }

  #granted(call: RpcCall, args: XdrReader): void {
    const granted = readGranted(args);
    this.received.push({ procedure: call.procedure, granted });
    if (this.answer === null) return;
    const w = call.begin(64);
    if (call.procedure === NlmProc.granted) {
      w.opaque(Buffer.from(granted.cookie, "latin1"));
      w.u32(this.answer);
    }
    call.finish();
  }

  /** The first call from `index` on that has this procedure. */
  async next(procedure: number, index = 0, timeMs = 5000): Promise<ReceivedCall> {
    const until = Date.now() + timeMs;
    for (;;) {
      const found = this.received.slice(index).find((call) => call.procedure === procedure);
      if (found !== undefined) return found;
      const leftMs = until - Date.now();
      if (leftMs <= 0) throw new Error(`no call of procedure ${procedure} within ${timeMs} ms`);
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, leftMs);
        this.#waiting.push(() => {
          clearTimeout(timer);
          resolve();
        });
      });
    }
  }
}

/** Says that NLM is there over UDP and not over TCP. */
function portmapOfUdp(services: () => { program: number; version: number; name: string }[], port: () => number) {
  const portmap = new PortmapProgram({ services, port });
  const program: RpcProgram = {
    ...{ name: "portmap", number: portmap.number, versionLow: 2, versionHigh: 2, datagrams: true },
    procedures: () => portmap.procedures(2),
    invoke: (call, args) => {
      args.u32();
      args.u32();
      const isUdp = args.u32() === 17;
      call.begin(4).u32(isUdp ? port() : 0);
      call.finish();
    },
  };
  return program;
}
