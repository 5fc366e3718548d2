import os from "node:os";
import pino, { type Logger as PinoLogger } from "pino";
import { loadConfig } from "./config/load.js";
import type { Config } from "./config/schema.js";
import { ManagementApi } from "./control/api.js";
import { bindLayers } from "./control/bind-layers.js";
import { Cabinet } from "./control/cabinet.js";
import { claimSocket } from "./control/claim-socket.js";
import { collectMetrics } from "./control/collect-metrics.js";
import { EventLog } from "./control/event-log.js";
import { ExportBoard } from "./control/export-board.js";
import { FaultBench } from "./control/fault-bench.js";
import { ServiceNotifier } from "./control/notify.js";
import { register, unregister } from "./control/rpcbind.js";
import { StateDirectory } from "./control/state-directory.js";
import { statusReport } from "./control/status-report.js";
import { SystemRandom } from "./control/system-random.js";
import { version } from "./control/version.js";
import { SystemClock } from "./lib/clock.js";
import { messageOf, StorageError } from "./lib/errors.js";
import { LIMITS } from "./limits.js";
import { ExportTable } from "./protocol/exports.js";
import { NfsServer, newReplyCache } from "./protocol/server.js";

/** What runs: one node of a cabinet. */
export interface RunningNode {
  readonly nfsPort: number;
  /** Look for disks again, take over log level and places to look, publish the stored exports anew. */
  reload(): Promise<void>;
  /** Stop taking requests, answer those under way, write everything out, release the disks. Idempotent. */
  stop(): Promise<void>;
}

/** Exit status after a failed assertion (EX_SOFTWARE of sysexits.h): systemd restarts, and nobody takes it for a clean stop. */
const EXIT_SOFTWARE = 70;

/** In the order of the start; undone in the reverse order. */
class Undo {
  readonly #steps: { readonly what: string; readonly action: () => Promise<void> | void }[] = [];

  add(what: string, action: () => Promise<void> | void): void {
    this.#steps.push({ what, action });
  }

  /** Every step is tried. @throws the first error, at the end */
  async run(log: PinoLogger): Promise<void> {
    const errors: unknown[] = [];
    for (let step = this.#steps.pop(); step !== undefined; step = this.#steps.pop()) {
      try {
        await step.action();
      } catch (error) {
        log.error({ step: step.what, error: messageOf(error) }, "a step of the shutdown failed");
        errors.push(error);
      }
    }
    if (errors.length > 0) throw errors[0];
  }
}

/** The composition root: the one place that builds everything. What was begun is undone when a later step fails. */
export async function startNode(config: Config, log: PinoLogger): Promise<RunningNode> {
  const undo = new Undo();
  try {
    return await build(config, log, undo);
  } catch (error) {
    await undo.run(log).catch(() => {});
    throw error;
  }
}

async function build(config: Config, log: PinoLogger, undo: Undo): Promise<RunningNode> {
  const clock = new SystemClock();
  const random = new SystemRandom();
  const events = new EventLog(clock, log);

  // Refuse early, before any disk is touched.
  await claimSocket(config.management.socket);
  const state = StateDirectory.claim(config.stateDirectory);
  undo.add("state directory", () => state.release());

  const exportTable = new ExportTable();
  const replyCache = newReplyCache(clock);
  const layers = bindLayers({ config, clock, random, log, scratch: state.scratch });
  const { faultInjection, volatileCache } = config;
  const faults = faultInjection ? new FaultBench({ clock, random, log, volatileCache }) : undefined;
  if (faults !== undefined) log.warn({}, "fault injection is on: the management socket can make disks fail and lie");
  const cabinet = new Cabinet({
    layers: faults?.over(layers) ?? layers,
    events,
    exports: new ExportBoard(exportTable, replyCache),
    ...{ node: config.node, clock, care: config.care },
    diskPatterns: config.disks,
    knownDisksFile: state.knownDisks,
  });
  undo.add("disks, groups and file systems", () => cabinet.close());
  await cabinet.open();

  const nfs = new NfsServer({
    exports: exportTable,
    clock,
    log,
    replyCache,
    hostName: os.hostname(),
    onUnexpected: endProcess,
  });
  undo.add("NFS", () => nfs.close({ drainMs: LIMITS.drainMs }));
  const nfsPort = await listen(nfs, config);
  if (config.nfs.portmap) await listenAsPortmap(nfs, config);
  if (config.nfs.rpcbind) {
    const registration = { services: nfs.services(), host: config.nfs.host, port: nfsPort };
    undo.add("rpcbind", () => unregister(registration));
    await register(registration);
  }

  const startedMs = clock.monotonicMs();
  const upSeconds = () => (clock.monotonicMs() - startedMs) / 1000;
  const service = { host: visibleHost(config.nfs.host), nfsPort, nbdPort: null, httpPort: null };
  const api = new ManagementApi({
    ...{ cabinet, events, log, faults },
    status: () => statusReport({ cabinet, config, version: version(), service, upSeconds: upSeconds() }),
    metrics: () => collectMetrics(cabinet, nfs.statistics(), upSeconds()),
  });
  undo.add("management API", () => api.close());
  await api.listen(config.management.socket, config.management.mode);
  events.add({ severity: "info", kind: "started", what: `node ${config.node} serves NFS on port ${nfsPort}` });
  return running({ config, log, cabinet, undo, nfsPort });
}

interface Built {
  readonly config: Config;
  readonly log: PinoLogger;
  readonly cabinet: Cabinet;
  readonly undo: Undo;
  readonly nfsPort: number;
}

function running({ config, log, cabinet, undo, nfsPort }: Built): RunningNode {
  let stopping: Promise<void> | undefined;
  return {
    nfsPort,
    reload: async () => {
      const fresh = loadConfig(config.file);
      log.level = fresh.logLevel;
      warnOfRestart(config, fresh, log);
      await cabinet.reload(fresh.disks, fresh.care);
      cabinet.fileSystems.exports.publishAll();
    },
    stop: () => {
      stopping ??= undo.run(log);
      return stopping;
    },
  };
}

/** What a reload cannot change is said, not silently passed over. */
function warnOfRestart(before: Config, after: Config, log: PinoLogger): void {
  const fixed = [
    "node",
    "stateDirectory",
    "management",
    "nfs",
    "memory",
    "directIo",
    "faultInjection",
    "volatileCache",
  ] as const;
  const changed = fixed.filter((key) => JSON.stringify(before[key]) !== JSON.stringify(after[key]));
  if (changed.length > 0) log.warn({ changed }, "these settings count from the next start on");
}

async function listen(nfs: NfsServer, config: Config): Promise<number> {
  const { host, port } = config.nfs;
  try {
    return (await nfs.listen({ host, port })).port;
  } catch (error) {
    throw new StorageError("EBUSY", `NFS cannot listen on ${host} port ${port}: ${listenReason(error)}`, {}, error);
  }
}

/** Lock managers of clients ask this port where NLM is, whatever they were mounted with. */
const PORTMAP_PORT = 111;

async function listenAsPortmap(nfs: NfsServer, { nfs: { host } }: Config): Promise<void> {
  try {
    await nfs.listenAsPortmap({ host, port: PORTMAP_PORT });
  } catch (error) {
    const instead = "if an rpcbind runs here, set nfs: { rpcbind: true } instead of portmap";
    const reason = `${listenReason(error)}; ${instead}`;
    throw new StorageError(
      "EBUSY",
      `the port mapper cannot listen on ${host} port ${PORTMAP_PORT}: ${reason}`,
      {},
      error,
    );
  }
}

function listenReason(error: unknown): string {
  const code = (error as NodeJS.ErrnoException).code;
  if (code === "EADDRINUSE") return "another program has the port";
  if (code === "EACCES") return "ports below 1024 need a privilege (CAP_NET_BIND_SERVICE)";
  if (code === "EADDRNOTAVAIL" || code === "ENOTFOUND") return "this machine does not have the address";
  return messageOf(error);
}

/** An assertion failed inside a request handler that would otherwise swallow it. */
function endProcess(error: unknown): void {
  setImmediate(() => {
    throw error;
  });
}

/** An address that a client on this machine can use. */
function visibleHost(host: string): string {
  return host === "0.0.0.0" || host === "::" ? "127.0.0.1" : host;
}

/** Run a node until it is told to stop; the rest of `stripeward serve`. @returns the exit status */
export async function runDaemon(config: Config): Promise<number> {
  // Nothing that the daemon makes is for others: scratch copies of metadata, the socket.
  process.umask(0o077);
  const log = pino({ level: config.logLevel, base: { node: config.node } }, pino.destination({ dest: 1, sync: true }));
  endOnFatalError(log);
  const notifier = new ServiceNotifier(log);
  const stopped = stopRequest();
  const node = await startNode(config, log);
  const ready = `serving NFS on port ${node.nfsPort}`;
  process.on("SIGHUP", () => void reload(node, notifier, log, ready));
  await notifier.ready(ready);
  const signal = await stopped;
  log.info({ signal }, "stopping");
  await notifier.stopping();
  await node.stop();
  notifier.close();
  log.info({}, "stopped cleanly");
  return 0;
}

async function reload(node: RunningNode, notifier: ServiceNotifier, log: PinoLogger, ready: string): Promise<void> {
  await notifier.reloading();
  try {
    await node.reload();
    log.info({}, "reloaded");
  } catch (error) {
    log.error({ error: messageOf(error) }, "the reload failed; what was there goes on");
  }
  await notifier.reloaded(ready);
}

/** Also noticed while the start is under way: the stop then follows at once. */
function stopRequest(): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    process.on("SIGTERM", resolve);
    process.on("SIGINT", resolve);
  });
}

/** A fact that must hold did not: whatever is in memory can no longer be trusted, so nothing of it is written. */
function endOnFatalError(log: PinoLogger): void {
  const end = (error: unknown): void => {
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    log.fatal({ error: text }, "internal error: ending without a clean stop");
    process.stderr.write(`stripeward: internal error: ${messageOf(error)}\n`);
    process.exit(EXIT_SOFTWARE);
  };
  process.on("uncaughtException", end);
  process.on("unhandledRejection", end);
}
