import type { MirroredNodeRecords } from "../ha/shared/mirrored-records.js";
import { RECORD_KINDS, type RecordKind, type RecordValue } from "../ha/shared/records.js";
import { type CancelTimer, type Clock, wallMs } from "../lib/clock.js";
import { isStorageError, messageOf, operatingError } from "../lib/errors.js";
import { LIMITS } from "../limits.js";
import type { EventLog } from "./event-log.js";
import type { ExportSink } from "./layers.js";
import type { ExportRow, FileSystemRow, GroupRow } from "./types.js";

/** What does not change while the process runs. */
export interface ProcessFacts {
  readonly pid: number;
  /** Who may open the management socket. */
  readonly uid: number;
  readonly hostName: string;
  readonly bootId: string;
  readonly version: string;
  /** RFC 3339, UTC. */
  readonly startedAt: string;
}

/** The node as it is at this moment. Asked often: each answers from memory. */
export interface NodeState {
  exports(): readonly ExportRow[];
  fileSystems(): readonly FileSystemRow[];
  groups(): readonly GroupRow[];
  mounts(): readonly { readonly host: string; readonly path: string }[];
  connections(): readonly { readonly address: string; readonly requests: number }[];
  /** Who holds locks, and on how many files. */
  lockOwners(): readonly { readonly address: string; readonly host: string; readonly files: number }[];
  /** Port null: this node serves nothing now. */
  service(): { readonly host: string; readonly nfsPort: number | null };
}

export interface RecordKeeperOptions {
  readonly node: string;
  readonly clock: Clock;
  readonly events: EventLog;
  readonly facts: ProcessFacts;
  readonly state: NodeState;
  /** null while there is no shared group. @throws StorageError when none of them can be written */
  readonly open: (onRefused: (what: string) => void) => Promise<MirroredNodeRecords | null>;
}

type Wanted = { readonly [K in RecordKind]: Map<string, RecordValue<K>> };

/** After a change others follow at once: one commit for all of them. */
const GATHER_MS = 100;
const RETRY_MS = 5_000;
const RETRY_MS_MAX = 300_000;

/**
 * Keeps what a node writes about itself on the shared group in step with what it does: at start and stop, after whatever is an event (file systems
 * mounted and unmounted, disks lost), after changes of exports, and every few seconds for what nobody tells (mounts of clients, when they were
 * seen). Only what has changed is written. Nothing that fails here reaches the node's own work.
 */
export class RecordKeeper {
  readonly #options: RecordKeeperOptions;
  readonly #seen = new Map<string, { requests: number; value: RecordValue<"client"> }>();
  #records: MirroredNodeRecords | null = null;
  #cancelTick: CancelTimer | null = null;
  #cancelSoon: CancelTimer | null = null;
  #unfollow: (() => void) | null = null;
  #running: Promise<void> = Promise.resolve();
  #lookedMs = Number.NEGATIVE_INFINITY;
  /** There is a group more than when the records were opened. */
  #reopen = false;
  #started = false;
  #stopped = false;
  /** After a failure the records are opened anew, later each time. */
  #retry = { notBeforeMs: 0, delayMs: RETRY_MS };
  #trouble: string | null = null;

  constructor(options: RecordKeeperOptions) {
    this.#options = options;
  }

  /** Why the records are not written now; null: they are. */
  get trouble(): string | null {
    return this.#trouble;
  }

  /** Resolves when the first records are durable, or it is clear that they cannot be for now. */
  async start(): Promise<void> {
    this.#started = true;
    this.#unfollow = this.#options.events.follow(({ kind }) => {
      if (kind === "shared-group-open") this.#reopen = true;
      this.soon();
    });
    await this.#serialized(() => this.#sync("running"));
    this.#tick();
  }

  /** Something has changed: it is written within a moment. */
  soon(): void {
    if (this.#cancelSoon !== null || !this.#started || this.#stopped) return;
    this.#cancelSoon = this.#options.clock.after(GATHER_MS, () => {
      this.#cancelSoon = null;
      void this.#serialized(() => this.#sync("running"));
    });
  }

  /** The same sink, and whoever publishes through it is noticed. */
  watching(sink: ExportSink): ExportSink {
    return {
      publish: (fileSystem, rules) => {
        sink.publish(fileSystem, rules);
        this.soon();
      },
      withdraw: (fileSystem) => {
        sink.withdraw(fileSystem);
        this.soon();
      },
      setUnserved: (fileSystems) => sink.setUnserved(fileSystems),
    };
  }

  /** Write that the service has stopped, and let go of the partition. Idempotent. */
  async stop(): Promise<void> {
    if (this.#stopped) return;
    this.#stopped = true;
    this.#unfollow?.();
    this.#cancelSoon?.();
    this.#cancelTick?.();
    await this.#serialized(async () => {
      if (this.#records !== null) await this.#sync("stopped");
      await this.#letGo();
    });
  }

  #tick(): void {
    if (this.#stopped) return;
    this.#cancelTick = this.#options.clock.after(LIMITS.recordsLookMs, () => {
      void this.#serialized(() => this.#sync("running")).finally(() => this.#tick());
    });
  }

  #serialized(action: () => Promise<void>): Promise<void> {
    this.#running = this.#running.then(action).catch((error: unknown) => {
      const failure = operatingError(error);
      if (failure === null) throw error;
      return this.#failed(failure);
    });
    return this.#running;
  }

  async #sync(state: "running" | "stopped"): Promise<void> {
    if (this.#reopen) await this.#letGo();
    this.#reopen = false;
    if (this.#records === null && this.#options.clock.monotonicMs() < this.#retry.notBeforeMs) return;
    this.#records ??= await this.#options.open((what) => this.#warn("records-refused", what));
    if (this.#records === null) return;
    this.#look();
    this.#apply(this.#records, this.#wanted(state));
    await this.#records.durable();
    this.#trouble = null;
    this.#retry = { notBeforeMs: 0, delayMs: RETRY_MS };
    await this.#records.tend();
  }

  /** Every so often: who has asked for anything since the last time. */
  #look(): void {
    const { clock, state } = this.#options;
    if (clock.monotonicMs() - this.#lookedMs < LIMITS.recordsSeenMs) return;
    this.#lookedMs = clock.monotonicMs();
    const lastSeen = new Date(wallMs(clock)).toISOString();
    const hosts = new Map<string, { connections: number; requests: number }>();
    for (const { address, requests } of state.connections()) {
      const host = hosts.get(address) ?? { connections: 0, requests: 0 };
      hosts.set(address, { connections: host.connections + 1, requests: host.requests + requests });
    }
    for (const [host, { connections, requests }] of hosts) {
      if (this.#seen.get(host)?.requests === requests) continue;
      this.#seen.delete(host);
      this.#seen.set(host, { requests, value: { what: "seen", host, connections, lastSeen } });
    }
    for (const host of this.#seen.keys()) if (this.#seen.size > LIMITS.recordsSeenMax) this.#seen.delete(host);
  }

  #apply(records: MirroredNodeRecords, wanted: Wanted): void {
    for (const kind of RECORD_KINDS) {
      for (const { key, value } of records.list(kind)) {
        // Whom an earlier life has seen is not forgotten; it was bounded then, too.
        if (!wanted[kind].has(key) && !(value.what === "seen" && this.#remember(value))) records.delete(kind, key);
      }
    }
    put(records, "client", wanted.client);
    put(records, "user", wanted.user);
    put(records, "service", wanted.service);
    put(records, "daemon", wanted.daemon);
  }

  /** @returns whether there is room for one more */
  #remember(value: RecordValue<"client"> & { readonly what: "seen" }): boolean {
    if (this.#seen.size >= LIMITS.recordsSeenMax) return false;
    if (!this.#seen.has(value.host)) this.#seen.set(value.host, { requests: -1, value });
    return true;
  }

  #wanted(state: "running" | "stopped"): Wanted {
    return {
      client: this.#clients(),
      user: this.#users(),
      service: this.#services(state),
      daemon: this.#daemon(state),
    };
  }

  #clients(): Wanted["client"] {
    const { state } = this.#options;
    const found: Wanted["client"] = new Map();
    for (const { host, path } of state.mounts()) found.set(`mount ${host} ${path}`, { what: "mount", host, path });
    for (const { address, host, files } of state.lockOwners())
      found.set(`lock-owner ${address} ${host}`, { what: "lock-owner", host, address, files });
    for (const [host, { value }] of this.#seen) found.set(`seen ${host}`, value);
    return found;
  }

  #users(): Wanted["user"] {
    const { facts, state } = this.#options;
    const found: Wanted["user"] = new Map();
    const how = "owner of the management socket";
    found.set(`administrator ${facts.uid}`, { what: "administrator", uid: facts.uid, how });
    if (facts.uid !== 0) found.set("administrator 0", { what: "administrator", uid: 0, how: "root of the host" });
    for (const { path, client, squash, anonymousUid, anonymousGid } of state.exports()) {
      found.set(`identity ${path} ${client}`, { what: "identity", path, client, squash, anonymousUid, anonymousGid });
    }
    return found;
  }

  #services(running: "running" | "stopped"): Wanted["service"] {
    const { state } = this.#options;
    const found: Wanted["service"] = new Map();
    const { host, nfsPort } = state.service();
    const serving = nfsPort === null ? "stopped" : running;
    found.set("service nfs", { what: "service", name: "nfs", state: serving });
    found.set("service management", { what: "service", name: "management", state: running });
    if (nfsPort !== null) found.set("address nfs", { what: "address", name: "nfs", host, port: nfsPort });
    for (const { name, group, state: is } of state.fileSystems()) {
      found.set(`file-system ${name}`, {
        ...{ what: "file-system", name, group },
        state: is === "failed" ? "failed" : "mounted",
      });
    }
    for (const { path, client, readOnly, privilegedPort } of state.exports()) {
      found.set(`export ${path} ${client}`, { what: "export", path, client, readOnly, privilegedPort });
    }
    return found;
  }

  #daemon(running: "running" | "stopped"): Wanted["daemon"] {
    const { facts, state } = this.#options;
    const found: Wanted["daemon"] = new Map();
    const { uid: _, ...process } = facts;
    found.set("process", { what: "process", ...process });
    found.set("part daemon", { what: "part", name: "daemon", state: running });
    for (const { name, state: is } of state.groups()) {
      found.set(`part group ${name}`, { what: "part", name: `group ${name}`, state: is });
    }
    return found;
  }

  async #failed(error: Error): Promise<void> {
    const { node } = this.#options;
    // Looked at again all the same: it closes them when this node may have them back.
    const overtaken = isStorageError(error, "ESTALE") || isStorageError(error, "EACCES");
    const what = overtaken
      ? `the records of node ${node} are written by another node now: nothing is written here until it lets them go`
      : `the records of node ${node} cannot be written: ${messageOf(error)}`;
    const { delayMs } = this.#retry;
    const notBeforeMs = this.#options.clock.monotonicMs() + delayMs;
    this.#retry = { notBeforeMs, delayMs: Math.min(2 * delayMs, RETRY_MS_MAX) };
    await this.#letGo().catch(() => {});
    this.#warn("records-not-written", what);
  }

  /** Said once, until it goes well again. */
  #warn(kind: string, what: string): void {
    if (this.#trouble === what) return;
    this.#trouble = what;
    this.#options.events.add({ severity: "warning", kind, what, detail: { node: this.#options.node } });
  }

  async #letGo(): Promise<void> {
    const records = this.#records;
    this.#records = null;
    await records?.close();
  }
}

function put<K extends RecordKind>(records: MirroredNodeRecords, kind: K, wanted: Map<string, RecordValue<K>>): void {
  for (const [key, value] of wanted) records.upsert(kind, key, value);
}
