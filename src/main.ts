import os from "node:os";
import pino, { type Logger as PinoLogger } from "pino";
import { loadConfig } from "./config/load.js";
import type { Config } from "./config/schema.js";
import type { AddressGuards } from "./control/address-guards.js";
import { ManagementApi } from "./control/api.js";
import { BackupAdmin } from "./control/backup/backup-admin.js";
import { BackupBook } from "./control/backup/backup-book.js";
import { BackupScheduler } from "./control/backup/backup-scheduler.js";
import { bindLayers, type IoCounters } from "./control/bind-layers.js";
import { whileBusy } from "./control/busy.js";
import { Cabinet } from "./control/cabinet.js";
import { claimSocket } from "./control/claim-socket.js";
import { clientsRow, refusalEvent } from "./control/client-rows.js";
import { ClockWatch } from "./control/clock-watch.js";
import { collectMetrics } from "./control/collect-metrics.js";
import { cpuWait } from "./control/cpu-wait.js";
import { byLanes } from "./control/disk-lanes.js";
import { DrillBook } from "./control/drill/drill-book.js";
import { EventLog } from "./control/event-log.js";
import { ExportBoard } from "./control/export-board.js";
import { FaultBench } from "./control/fault-bench.js";
import { LogLines } from "./control/log-lines.js";
import { LoopWatch } from "./control/loop-watch.js";
import { ServiceNotifier } from "./control/notify.js";
import {
  addressCommand,
  diskSharing,
  guardAddresses,
  makeFollower,
  makePairAgent,
  makeReadiness,
  makeWatchdog,
  networkWarnings,
  watchAddresses,
  watchClients,
  watchPartnerRecords,
  watchReach,
} from "./control/pair.js";
import { PartHealth } from "./control/part-health.js";
import { processFacts } from "./control/process-facts.js";
import { RecordKeeper } from "./control/record-keeper.js";
import { tellRefusedMounts } from "./control/refused-mounts.js";
import { register, unregister } from "./control/rpcbind.js";
import { ServiceAddresses } from "./control/service-addresses.js";
import { StateDirectory } from "./control/state-directory.js";
import { StateFiles } from "./control/state-files.js";
import { statusReport } from "./control/status-report.js";
import { SystemRandom } from "./control/system-random.js";
import type { ServiceRow } from "./control/types.js";
import { version } from "./control/version.js";
import { DiskLanes } from "./device/disk-lane.js";
import { ThreadHold } from "./device/thread-hold.js";
import type { PairAgent } from "./ha/pair-agent.js";
import { SystemClock } from "./lib/clock.js";
import { messageOf, StorageError } from "./lib/errors.js";
import { printableText } from "./lib/printable.js";
import { LIMITS } from "./limits.js";
import { ExportTable } from "./protocol/exports.js";
import { PORTMAP_PORT } from "./protocol/portmap/program.js";
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

/** Of libuv, as long as UV_THREADPOOL_SIZE says nothing else. */
const LIBUV_THREADS = 4;

/** The groups were lost to the partner (EX_TEMPFAIL). */
const EXIT_LOST = 75;

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
  const lanes = new DiskLanes(clock, ioThreads());
  const events = new EventLog(clock, log);

  // Refuse early, before any disk is touched.
  await whileBusy(clock, () => claimSocket(config.management.socket));
  const state = await whileBusy(clock, () => StateDirectory.claim(config.stateDirectory));
  undo.add("state directory", () => state.release());
  const stateFiles = new StateFiles(clock, events);
  undo.add("state files", () => stateFiles.end());
  stateFiles.write(state.pidFile, "the process id", `${process.pid}\n`);

  const exportTable = new ExportTable();
  const replyCache = newReplyCache(clock);
  let agent: PairAgent | null = null;
  const paired = config.pair !== null;
  const epochOf = paired ? (uuid: string) => agent?.epochOf(uuid) ?? -1 : undefined;
  const prepare = () => layers.prepare?.();
  const follower = paired ? makeFollower(config, clock, log, lanes, state.scratch, () => agent, prepare) : null;
  const warm = follower === null ? undefined : follower.take.bind(follower);
  const io: IoCounters = { bouncedTransfers: 0, strayReads: 0 };
  const seenElsewhere = paired ? (uuid: string) => agent?.partnerSees(uuid) === true : undefined;
  const layers = bindLayers({
    seenElsewhere,
    config,
    clock,
    random,
    log,
    lanes,
    scratch: state.scratch,
    epochOf,
    warm,
    io,
  });
  const { faultInjection, volatileCache } = config;
  const faults = faultInjection ? new FaultBench({ clock, random, log, volatileCache, hold: holdThread() }) : undefined;
  if (faults !== undefined) log.warn({}, "fault injection is on: the management socket can make disks fail and lie");
  const keeper: RecordKeeper = new RecordKeeper({
    ...{ node: config.node, clock, events, facts: processFacts(clock) },
    open: (onRefused) => cabinet.shared.openRecords({ node: config.node, writer: config.node, onRefused }),
    state: {
      exports: () => cabinet.fileSystems.exports.rows(),
      fileSystems: () => cabinet.fileSystems.rows(),
      groups: () => cabinet.groups(),
      mounts: () => nfs.mounts(),
      connections: () => nfs.connections(),
      lockOwners: () => cabinet.lockAdmin.owners(),
      service: () => ({ ...service(), ...(services.brought.size === 0 ? { nfsPort: null } : {}) }),
    },
  });
  const cabinet = new Cabinet({
    layers: byLanes(faults?.over(layers) ?? layers, lanes),
    events,
    exports: keeper.watching(new ExportBoard(exportTable, replyCache)),
    ...{ node: config.node, clock, care: config.care, slowDisks: config.slowDisks },
    diskPatterns: config.disks,
    knownDisksFile: state.knownDisks,
    stateFiles,
    mayChangeShared: () => refuseStandby(agent),
    sharing: paired ? diskSharing(() => agent) : undefined,
    nodes: config.pair === null ? undefined : [config.node, config.pair.partner],
    onGroupCreated: paired ? async (uuid) => agent?.adopt(uuid) : undefined,
    onGroupLost: (uuid, why) => agent?.lost(uuid, why),
  });
  undo.add("disks, groups and file systems", () => cabinet.close());
  await cabinet.open();
  undo.add("records", () => keeper.stop());

  const nfs = new NfsServer({
    exports: exportTable,
    clock,
    log,
    replyCache,
    hostName: os.hostname(),
    ...(config.nfs.portmap && { portmapPort: PORTMAP_PORT }),
    onMountRefused: tellRefusedMounts(clock, events),
    onUnexpected: endProcess,
    onRefused: (refusal) => void events.add(refusalEvent(refusal)),
  });
  undo.add("NFS", () => nfs.close({ drainMs: LIMITS.drainMs }));
  const command = addressCommand(config.pair);
  const onChange = () => guards?.tick();
  const services = new ServiceAddresses({ nfs, clock, log, drainMs: LIMITS.drainMs, command, onChange });
  let guards: AddressGuards | null = null;
  let networkText: () => readonly string[] = () => [];
  if (config.pair === null) await services.bring(config.node, config.nfs);
  else {
    const sources = { config, pair: config.pair, clock, events, services, command };
    const watch = watchAddresses(() => agent, sources);
    guards = guardAddresses(() => agent, sources);
    undo.add("address guards", () => guards?.end());
    undo.add("service addresses", () => services.withdrawAll());
    const watchdog = makeWatchdog(config.pair, () => agent, events);
    undo.add("watchdog", () => watchdog?.end());
    agent = makePairAgent({
      ...{ config, pair: config.pair, clock, log, events, services, hands: cabinet.groupHands },
      overReserved: (device) => lanes.over(faults?.overReserved(device) ?? device, "control"),
      stopAtOnce: (reason) => {
        watchdog?.end();
        for (const host of services.wantedHosts()) if (guards?.guards(host) === false) command?.abandon(host);
        stopAtOnce(log, reason, lanes);
      },
      onHeard: () => watchdog?.heard(),
      beforeTaking: () => watch.clearAll(),
    });
    exportTable.awaitsMore = () => (agent?.groups() ?? []).some(({ role }) => role !== "owned");
    undo.add("pair", () => agent?.stop());
    undo.add("following the partner", () => follower?.end());
    guards?.start();
    await agent.start();
    follower?.start();
    const reach = watchReach(agent, sources, () => void readiness.check());
    undo.add("network watch", () => reach.end());
    reach.start();
    const silence = watchClients(agent, sources, () => nfs.clientsHeard());
    undo.add("clients' silence", () => silence?.end());
    silence?.start();
    const [serving, settings] = [agent, config.pair];
    networkText = () => {
      return [
        ...watch.conflicts,
        ...reach.problems,
        ...networkWarnings(serving, settings, reach),
        ...readiness.remarks,
      ];
    };
    const readiness = makeReadiness(agent, { ...sources, addresses: watch, reach, log, scratch: state.scratch });
    undo.add("readiness", () => readiness.end());
    undo.add("address watch", () => watch.end());
    watch.start();
    readiness.start();
    const partnerRecords = watchPartnerRecords(agent, { clock, events, shared: cabinet.shared });
    undo.add("partner's records", () => partnerRecords.end());
  }
  const service = () => serviceOf(config, services, agent);
  if (config.nfs.rpcbind) {
    const registration = { services: nfs.services(), host: config.nfs.host, port: service().nfsPort };
    undo.add("rpcbind", () => unregister(registration));
    await register(registration);
  }

  const startedMs = clock.monotonicMs();
  const upSeconds = () => (clock.monotonicMs() - startedMs) / 1000;
  const loop = new LoopWatch(clock, cpuWait());
  undo.add("watch of the event loop", () => loop.end());
  const pair = agent;
  const backups = new BackupAdmin({
    ...{ node: config.node, fileSystems: cabinet.fileSystems, shared: cabinet.shared, events, clock, random },
    book: new BackupBook(state.backups, state.backupFolder, stateFiles),
  });
  const scheduler = new BackupScheduler({ admin: backups, schedules: config.backups, clock, events });
  undo.add("scheduled backups", () => scheduler.stop());
  const clockWatch = new ClockWatch(clock, events);
  undo.add("clock watch", () => clockWatch.stop());
  const health = new PartHealth();
  health.watch("records", () => keeper.trouble);
  health.watch("state-files", () => stateFiles.trouble);
  const api = new ManagementApi({
    backups: { admin: backups, schedules: () => scheduler.rows() },
    ...{ cabinet, events, log, faults, pair, drills: new DrillBook(state.drills, events, stateFiles) },
    status: () =>
      statusReport({
        ...{ cabinet, config, version: version(), service: service(), upSeconds: upSeconds(), loop, pair, health },
        network: networkText(),
        clients: clientsRow(nfs.statistics()),
      }),
    metrics: () => collectMetrics({ cabinet, health, nfs: nfs.statistics(), io, loop, upSeconds: upSeconds() }),
  });
  undo.add("management API", () => api.close());
  await api.listen(config.management.socket, config.management.mode);
  await keeper.start();
  scheduler.arm();
  clockWatch.start();
  const { nfsPort } = service();
  const what = services.brought.size > 0 ? `serves NFS on port ${nfsPort}` : "stands by";
  events.add({ severity: "info", kind: "started", what: `node ${config.node} ${what}` });
  return running({ config, log, cabinet, undo, nfsPort, pair });
}

/**
 * Where clients find the groups that this node serves now: at its own address, or at its partner's while it stands in and has none of its own. A node that
 * serves no group may listen at its own address all the same.
 */
function serviceOf(
  config: Config,
  services: ServiceAddresses,
  agent: PairAgent | null,
): ServiceRow & { readonly nfsPort: number } {
  const { brought } = services;
  const homes = (agent?.groups() ?? []).filter(({ role }) => role === "owned").map(({ home }) => home);
  const home = homes.length === 0 || homes.includes(config.node) ? config.node : homes[0]!;
  const { host, port } = brought.get(home) ?? config.nfs;
  return { host: visibleHost(host), nfsPort: port, nbdPort: null, httpPort: null };
}

/** Labels that both nodes read are changed by the one that serves, so that never both do it at once. */
function refuseStandby(agent: PairAgent | null): void {
  const groups = agent?.groups() ?? [];
  if (groups.length === 0 || groups.some(({ role }) => role === "owned")) return;
  throw new StorageError("EACCES", "this node serves nothing now: ask the one that does (node list)");
}

/** Of this process's pool: libuv's own number when nobody has set it. */
function ioThreads(): number {
  const given = Number(process.env.UV_THREADPOOL_SIZE);
  return Number.isInteger(given) && given > 0 ? given : LIBUV_THREADS;
}

function holdThread(): (ms: number) => Promise<void> {
  const threads = new ThreadHold();
  return (ms) => threads.hold(ms);
}

/** Not one write more: what the other node sees is its own now. Restarted (by systemd), this node stands by. */
function stopAtOnce(log: PinoLogger, reason: string, lanes: DiskLanes): void {
  log.fatal({ reason }, "ending at once: this node does not own its groups any more");
  process.stderr.write(`stripeward: ended at once: ${printableText(reason)}\n`);
  // A process waits at its end for its threads, and for what is queued for them. No disk that hangs may keep us alive.
  if (lanes.isHeld) process.kill(process.pid, "SIGKILL");
  process.exit(EXIT_LOST);
}

interface Built {
  readonly config: Config;
  readonly log: PinoLogger;
  readonly cabinet: Cabinet;
  readonly undo: Undo;
  readonly nfsPort: number;
  readonly pair: PairAgent | null;
}

function running({ config, log, cabinet, undo, nfsPort, pair }: Built): RunningNode {
  let stopping: Promise<void> | undefined;
  return {
    nfsPort,
    reload: async () => {
      const fresh = loadConfig(config.file);
      log.level = fresh.logLevel;
      warnOfRestart(config, fresh, log);
      await cabinet.reload(fresh.disks, fresh.care);
      await pair?.survey();
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
    "slowDisks",
    "pair",
    "backups",
    "faultInjection",
    "volatileCache",
  ] as const;
  const changed = fixed.filter((key) => JSON.stringify(before[key]) !== JSON.stringify(after[key]));
  if (changed.length > 0) log.warn({ changed }, "these settings count from the next start on");
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
  const log = pino({ level: config.logLevel, base: { node: config.node } }, new LogLines());
  endOnFatalError(log);
  // Last words that nobody can take (a full disk, a reader that went away) are lost, and end nothing.
  for (const stream of [process.stdout, process.stderr]) stream.on("error", () => {});
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
    process.stderr.write(`stripeward: internal error: ${printableText(messageOf(error))}\n`);
    process.exit(EXIT_SOFTWARE);
  };
  process.on("uncaughtException", end);
  process.on("unhandledRejection", end);
}
