import { closeSync, openSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { flockSync } from "fs-ext";
import type {
  DiskRow,
  ExportRow,
  FileSystemRow,
  GroupRow,
  LuRow,
  SharedGroupRow,
  StatusReport,
} from "../../control/types.js";
import { formatSize } from "../../lib/size.js";
import { LIMITS } from "../../limits.js";
import { ApiClient } from "../client.js";
import { CliError } from "../errors.js";
import { statusOf } from "./choose.js";
import { daemonAnswers, startDaemon, stopDaemon, writeConfig } from "./daemon.js";
import { detachLoops, makeDiskFiles, rigDisks } from "./disks.js";
import { freePort } from "./free-port.js";
import {
  prepareFolder,
  type RigNode,
  type RigPaths,
  type RigRecord,
  readRig,
  rigExists,
  rigNodes,
  rigPaths,
  socketPathFor,
  writeRig,
} from "./record.js";

/** What is absent keeps the rig's own value, or the default for a new one. */
export interface UpOptions {
  readonly dir: string;
  readonly nodes?: 1 | 2 | undefined;
  readonly diskCount?: number | undefined;
  readonly diskBytes?: number | undefined;
  readonly level?: 1 | 5 | undefined;
  readonly loop?: boolean | undefined;
  readonly nfsPort?: number | undefined;
  readonly portmap?: boolean | undefined;
  readonly faults?: boolean | undefined;
  readonly volatileCache?: boolean | undefined;
}

/** The document that `rig up --json` prints; scripts rely on it. */
export interface RigReport {
  readonly dir: string;
  readonly nodes: readonly { name: string; pid: number; socket: string; role: string }[];
  readonly service: StatusReport["service"];
  readonly exports: readonly { path: string; url: string }[];
  readonly disks: readonly { number: number | null; path: string; state: string }[];
  readonly groups: readonly GroupRow[];
  readonly lus: readonly LuRow[];
}

const GROUP = "rig";
const FILE_SYSTEM = "data";
/** How often the nodes of a pair are asked whether they have found each other. */
const POLL_MS = 25;
/** Nodes that have just found each other need so long to say that each could take over. */
const READY_MS = 5_000;
const DEFAULTS = { diskCount: 5, diskBytes: 1024 ** 3, level: 5 } as const;

/**
 * Bring a rig up: a new one, one that was interrupted while it was made, one with data, or one that is up already.
 * After the daemon's start only management calls are used, the same ones as an administrator's.
 */
export async function rigUp(options: UpOptions): Promise<RigStatus> {
  const paths = rigPaths(options.dir);
  if (!rigExists(options.dir)) prepareFolder(options.dir);
  const release = lockRig(paths);
  try {
    const record = rigExists(options.dir) ? resumed(options) : await created(options);
    const [first, ...others] = rigNodes(options.dir, record);
    if (first === undefined) throw new CliError("a rig has a node");
    if (!(await daemonAnswers(first))) await bringUp(paths, record, first);
    // The first makes everything; the partner then finds it on the disks.
    if (!record.complete) await furnish(new ApiClient(first.socket), paths, record);
    for (const node of others)
      if (!(await daemonAnswers(node))) await bringUp(paths, { ...record, complete: true }, node);
    return await settled(options.dir, record);
  } finally {
    release();
  }
}

/** What each node that answers says of itself, the one that serves first. */
export interface RigStatus {
  readonly active: StatusReport;
  readonly nodes: readonly StatusReport[];
}

/** null: no daemon answers. */
export async function rigStatus(dir: string, record: RigRecord): Promise<RigStatus | null> {
  const nodes: StatusReport[] = [];
  for (const node of rigNodes(dir, record)) {
    const status = await statusOf(node);
    if (status !== null) nodes.push(status);
  }
  const active = nodes.find(({ role }) => role === "active") ?? nodes[0];
  return active === undefined ? null : { active, nodes };
}

/** A pair is up when every group is served, and each node has heard the other; what still stands in the way of a takeover is waited for a moment. */
async function settled(dir: string, record: RigRecord): Promise<RigStatus> {
  const startedMs = performance.now();
  for (;;) {
    const status = await rigStatus(dir, record);
    if (status === null) throw new CliError(`the rig in ${dir} has gone down again`);
    const pairs = status.nodes.flatMap(({ pair }) => (pair === null ? [] : [pair]));
    const served = pairs.every(({ groups }) => groups.every(({ servedBy }) => servedBy !== null));
    const nodes = pairs.flatMap((pair) => pair.nodes);
    const heard = nodes.every(({ role }) => role !== "away");
    const troubled = nodes.some(({ trouble }) => trouble !== null && trouble.length > 0);
    const waitedMs = performance.now() - startedMs;
    if (served && heard && (!troubled || waitedMs > READY_MS)) return status;
    if (waitedMs > LIMITS.startMs)
      throw new CliError(status.active.warnings[0] ?? "the nodes have not found each other");
    await sleep(POLL_MS);
  }
}

/** Who only stands by first, so that nothing is taken over meanwhile. @returns whether a daemon had to be stopped, and how */
export async function rigDown(dir: string): Promise<"absent" | "stopped" | "killed"> {
  const record = readRig(dir);
  const paths = rigPaths(dir);
  const release = lockRig(paths);
  try {
    const active = (await rigStatus(dir, record).catch(() => null))?.active.node;
    const nodes = rigNodes(dir, record).sort((a, b) => Number(a.name === active) - Number(b.name === active));
    const outcomes: ("absent" | "stopped" | "killed")[] = [];
    for (const node of nodes) outcomes.push(await stopDaemon(node));
    if (record.loop) detachLoops(paths, record);
    return outcomes.find((one) => one === "killed") ?? outcomes.find((one) => one === "stopped") ?? "absent";
  } finally {
    release();
  }
}

export function rigReport(dir: string, { active, nodes }: RigStatus): RigReport {
  const { host, nfsPort } = active.service;
  const paths = [...new Set(active.exports.map(({ path }) => path))];
  return {
    dir,
    nodes: nodes.map(({ node, pid, socket, role }) => ({ name: node, pid, socket, role })),
    service: active.service,
    exports: paths.map((path) => ({ path, url: `nfs://${host}${path}?nfsport=${nfsPort}&mountport=${nfsPort}` })),
    disks: active.disks.map(({ number, path, state }) => ({ number, path, state })),
    groups: active.groups,
    lus: active.lus,
  };
}

/** One rig command at a time; the kernel drops the lock with the process. */
export function lockRig({ dir, lock }: RigPaths): () => void {
  const descriptor = openSync(lock, "w", 0o600);
  try {
    flockSync(descriptor, "exnb");
  } catch {
    closeSync(descriptor);
    throw new CliError(`another rig command is at work on ${dir}`);
  }
  return () => closeSync(descriptor);
}

async function created(options: UpOptions): Promise<RigRecord> {
  const level = options.level ?? DEFAULTS.level;
  const diskCount = options.diskCount ?? DEFAULTS.diskCount;
  const fewest = level === 5 ? 3 : 2;
  if (diskCount < fewest) throw new CliError(`RAID-${level} needs at least ${fewest} disks`);
  const record: RigRecord = {
    version: 1,
    nodes: options.nodes ?? 1,
    diskCount,
    diskBytes: options.diskBytes ?? DEFAULTS.diskBytes,
    level,
    loop: options.loop ?? false,
    nfsPort: options.nfsPort ?? (await freePort()),
    socket: socketPathFor(options.dir),
    shared: options.nodes === 2,
    portmap: options.portmap ?? false,
    complete: false,
    ...torture(options, { faults: true, volatileCache: false }),
  };
  writeRig(options.dir, record);
  return record;
}

type Torture = Pick<RigRecord, "faults" | "volatileCache">;

/** A volatile cache comes with the faults and goes with them. */
function torture(options: UpOptions, before: Torture): Torture {
  const faults = options.faults ?? (before.faults || options.volatileCache === true);
  return { faults, volatileCache: faults && (options.volatileCache ?? before.volatileCache) };
}

/** A rig keeps its shape: what was asked for must fit what is there. Only the port and its faults may change, while it is down. */
function resumed(options: UpOptions): RigRecord {
  const record = readRig(options.dir);
  refuseChange(options, "--nodes", options.nodes, record.nodes);
  refuseChange(options, "--disks", options.diskCount, record.diskCount);
  refuseChange(options, "--disk-size", options.diskBytes, record.diskBytes, formatSize);
  refuseChange(options, "--raid", options.level, record.level);
  refuseChange(options, "--loop", options.loop, record.loop);
  const nfsPort = options.nfsPort ?? record.nfsPort;
  const portmap = options.portmap ?? record.portmap;
  return { ...record, nfsPort, portmap, socket: socketPathFor(options.dir), ...torture(options, record) };
}

function refuseChange<T>(
  { dir }: UpOptions,
  name: string,
  wanted: T | undefined,
  is: T,
  show: (v: T) => string = String,
): void {
  if (wanted === undefined || wanted === is) return;
  throw new CliError(
    `the rig in ${dir} was made with ${name} ${show(is)}, which cannot be changed; use another folder`,
  );
}

async function bringUp(paths: RigPaths, record: RigRecord, node: RigNode): Promise<void> {
  if (!record.complete) makeDiskFiles(paths, record);
  // What a killed daemon left behind: its socket and process id.
  await stopDaemon(node);
  writeConfig(node, record, rigDisks(paths, record));
  await startDaemon(node);
  // Only now: a port that could not be had is not remembered.
  writeRig(paths.dir, record);
}

/**
 * Each step only when it is not done yet, so that an interrupted `rig up` can be repeated. Numbers are given in the order of the disks, so that
 * disk 1 is #001.
 */
async function furnish(api: ApiClient, paths: RigPaths, record: RigRecord): Promise<void> {
  const before = await api.get<DiskRow[]>("/v1/disks");
  // All of them are there while the rig is being made.
  const shared = rigDisks(paths, record).slice(record.diskCount);
  const unknown = before.filter(({ number }) => number === null).map(({ path }) => path);
  const last = (path: string): number => shared.indexOf(path);
  for (const path of unknown.toSorted((a, b) => last(a) - last(b))) await api.post("/v1/disks", { path });
  const numbered = await api.get<DiskRow[]>("/v1/disks");
  const groups = await api.get<GroupRow[]>("/v1/groups");
  if (groups.length === 0) {
    const disks = numbered.filter(({ path }) => !shared.includes(path)).map(({ number }) => number);
    await api.post("/v1/groups", { name: GROUP, disks });
  }
  const roles = (await api.get<SharedGroupRow[]>("/v1/shared")).map(({ role }) => role);
  for (const [i, path] of shared.entries()) {
    const disks = numbered.filter((disk) => disk.path === path).map(({ number }) => number);
    const backup = i === 1;
    if (!roles.includes(backup ? "backup" : "primary")) await api.post("/v1/shared", { disks, backup });
  }
  const fileSystems = await api.get<FileSystemRow[]>("/v1/file-systems");
  if (fileSystems.length === 0) {
    // Any client user may write: a rig is for trying things, on an address that only this machine reaches.
    await api.post("/v1/file-systems", { name: FILE_SYSTEM, level: record.level, root: { mode: 0o1777 } });
  }
  const exports = await api.get<ExportRow[]>("/v1/exports");
  if (exports.length === 0) {
    const rule = { path: `/${FILE_SYSTEM}`, client: "127.0.0.0/8", squash: "none", privilegedPort: false };
    await api.post("/v1/exports", rule);
  }
  writeRig(paths.dir, { ...record, complete: true });
}
