import type { PairEvent, PairSettings } from "../../../src/ha/contract.js";
import { messageOf, StorageError } from "../../../src/lib/errors.js";
import { type Random, SeededRandom } from "../../../src/lib/prng.js";
import { Media } from "../media.js";
import { type Lives, Moments } from "../moments.js";
import type { Platter } from "../platter.js";
import { Simulation } from "../simulation.js";
import { Client, type Connection } from "./client.js";
import type { FileServer } from "./file-server.js";
import { CLIENTS_MAX, DISK_BYTES, goldenPlatters } from "./golden.js";
import { Life, type PairBreak } from "./life.js";
import type { ClockWay } from "./node-clock.js";
import { Ownership } from "./ownership.js";
import { SharedDisk } from "./shared-disk.js";

/**
 * one-host: two processes on one machine; locks and kill. fence: two machines, and a command that cuts the power of one.
 * lease: two machines and nothing but time.
 */
export const MODES = ["one-host", "fence", "lease"] as const;
export type Mode = (typeof MODES)[number];

/** As the defaults stand to each other, but shorter. */
export const SETTINGS: PairSettings = {
  heartbeatMs: 200,
  probeMs: 50,
  stoppedMs: 1000,
  silentMs: 2000,
  leaseMs: 4000,
  graceMs: 2000,
};

/** When moments are taken is the same whatever else a seed decides. */
const MOMENT_SEED = 0x70b;
const MOMENT_STEP_MAX = 600;
const HOUR_MS = 3_600_000;
const TICK_MS = 100;
/** Where the group is at home: its address is the one that clients know. */
const HOME = "chn1";
/** With a healthy node, an answer comes within this: a group that was given away and not taken, and then a lease that runs out. */
const STALL_MS_MAX = 30_000;
/** In lease mode: what a process asked of a disk has taken effect after this, or never does. Less than what the taker waits beyond the lease. */
const IN_FLIGHT_MS_MAX = SETTINGS.silentMs / 2;
/** A process that starts looks after what its predecessor left for so long. */
const RESTART_MS = 3000;
const ADDRESS_WAIT_MS = 3000;
/** Slower or faster by so much, of a million: more than real clocks. */
const RATE_PPM = 1000;

export interface Host {
  readonly name: string;
  bootId: string;
  up: boolean;
  /** When it comes up again; while it is off, being switched off puts that off. */
  upAtMs: number;
  readonly way: ClockWay;
}

export interface Node {
  readonly name: string;
  readonly host: Host;
  life: Life | null;
  healthySinceMs: number;
}

export interface WorldOptions {
  readonly seed: number;
  readonly mode: Mode;
  readonly broken: PairBreak | undefined;
  readonly tell: (what: string) => void;
}

/** Two nodes, the disks that both see, and their clients. */
export class PairWorld {
  readonly simulation: Simulation;
  readonly ownership = new Ownership();
  readonly options: WorldOptions;
  disks: readonly SharedDisk[] = [];
  readonly hosts: readonly Host[];
  readonly nodes: readonly Node[];
  readonly clients: readonly Client[];
  readonly #moments: Moments;
  /** Under which takeover a file system was mounted last: all that had to be written on the members for that has been. */
  #mounted = -1;
  /** A failure that happened where nobody could throw it to. */
  failure: Error | null = null;
  /** Who listens at a home's service address. */
  readonly #services = new Map<string, Life>();
  #lives = 0;
  #boots = 0;
  #answered = 0;
  #answeredMs = 0;
  #stallMs = 0;
  longestGapMs = 0;
  /** A disk is, or all are. That makes no node unwell. */
  isSlow = false;

  constructor(options: WorldOptions) {
    this.options = options;
    this.simulation = new Simulation(options.seed);
    this.#moments = new Moments(new SeededRandom(options.seed + MOMENT_SEED), MOMENT_STEP_MAX);
    const names = options.mode === "one-host" ? ["hostA"] : ["hostA", "hostB"];
    this.hosts = names.map((name) => this.#makeHost(name));
    this.nodes = ["chn1", "chn2"].map((name, i) => {
      return { name, host: this.hosts[i % this.hosts.length]!, life: null, healthySinceMs: -1 };
    });
    this.clients = Array.from({ length: CLIENTS_MAX }, (_, number) => {
      return new Client({ simulation: this.simulation, number, connect: () => this.#connect() });
    });
  }

  #makeHost(name: string): Host {
    const { random } = this.simulation;
    const rate = 1 + (random.below(2 * RATE_PPM) - RATE_PPM) / 1e6;
    const way = { startMs: random.below(HOUR_MS), rate, wallSkewMs: (random.below(12) - 6) * HOUR_MS };
    return { name, bootId: this.#bootId(), up: true, upAtMs: 0, way };
  }

  #bootId(): string {
    return `boot-${++this.#boots}`;
  }

  async create(): Promise<void> {
    const platters = await goldenPlatters();
    const lateMsMax = this.options.mode === "lease" ? IN_FLIGHT_MS_MAX : 60_000;
    const { simulation, ownership } = this;
    this.disks = platters.map((platter, index) => {
      const media = new Media(platter.fork());
      const beforeEffect = (): void => this.#moments.pass(this.disks, this.#now);
      return new SharedDisk({ simulation, ownership, index, sizeBytes: DISK_BYTES, media, beforeEffect, lateMsMax });
    });
    for (const node of this.nodes) this.up(node);
    for (const client of this.clients) client.start();
    this.#tick();
  }

  get #now(): Lives {
    const { takeovers } = this.ownership;
    return { begun: takeovers, assembled: this.#mounted, closed: -1, nowMs: this.simulation.nowMs };
  }

  /** What a disk may be put back to while nobody has the group; null: there is no such moment. */
  earlier(disk: SharedDisk, random: Random): Platter | null {
    return this.#moments.earlier(disk, this.#now, random);
  }

  // Processes

  up(node: Node): void {
    if (node.life === null && node.host.up) this.#start(node);
  }

  #start(node: Node): void {
    const { simulation, disks, ownership, options, nodes } = this;
    const life: Life = new Life({
      ...{ simulation, number: ++this.#lives, node: node.name, disks, ownership, settings: SETTINGS },
      partner: nodes.find((other) => other !== node)!.name,
      ...{ host: node.host.name, bootId: node.host.bootId, way: node.host.way, broken: options.broken },
      fence: {
        kill: async (pid) => this.#kill(pid),
        state: (pid, host) => this.#state(pid, host),
        command: options.mode === "fence" ? (name) => this.#fenceHost(name) : null,
      },
      bring: (home, by) => this.#bring(home, by),
      withdraw: (home, by) => this.#withdraw(home, by),
      hangUp: (home, by) => this.#hangUp(home, by),
      onEvent: (by, event) => this.#onEvent(by, event),
      onMounted: (server) => {
        this.#mounted = ownership.takeovers;
        this.#check(server);
      },
      exit: (by, reason) => {
        this.tell(`${by.node} (life ${by.number}) ends itself: ${reason}`);
        this.#checkEnd(by, reason);
        this.end(by);
      },
    });
    node.life = life;
    this.tell(`${node.name} starts (life ${life.number})`);
    life.agent.start().then(
      () => life.gate.run(() => this.#started(life)),
      (error: unknown) => life.gate.run(() => this.#failedToStart(life, error)),
    );
  }

  /** A node that runs and sees its disks can always make itself heard, however slow one of them is. */
  #checkEnd(life: Life, reason: string): void {
    const node = this.nodes.find((one) => one.life === life);
    const wellMs = node === undefined || node.healthySinceMs < 0 ? 0 : this.simulation.nowMs - node.healthySinceMs;
    if (!reason.startsWith("no majority") || wellMs < SETTINGS.leaseMs + SETTINGS.silentMs) return;
    this.failure ??= new Error(`${life.node} has been well for ${Math.round(wellMs)} ms and ends itself: ${reason}`);
  }

  /** What an agent makes of an error is its affair; here it is a failure. */
  #check(server: FileServer): void {
    try {
      for (const client of this.clients) client.check(server);
    } catch (error) {
      this.failure ??= error as Error;
    }
  }

  #started(life: Life): void {
    life.started = true;
  }

  #failedToStart(life: Life, error: unknown): void {
    this.tell(`${life.node} does not start: ${messageOf(error)}`);
    if (!(error instanceof StorageError)) this.failure ??= error as Error;
    this.end(life);
  }

  /** A process is gone: its locks are free when what it had asked the disks for is settled. */
  end(life: Life): void {
    if (life.gate.dead) return;
    this.tell(`${life.node} is gone (life ${life.number})`);
    life.end();
    for (const disk of this.disks) {
      disk.settle(life);
      disk.unlock(life);
    }
    for (const [home, by] of this.#services) if (by === life) this.#services.delete(home);
    const node = this.nodes.find((one) => one.life === life);
    if (node === undefined) return;
    node.life = null;
    this.simulation.after(50 + this.simulation.random.below(RESTART_MS), () => {
      this.up(node);
    });
  }

  powerOff(host: Host): void {
    const { simulation } = this;
    host.upAtMs = simulation.nowMs + 1000 + simulation.random.below(RESTART_MS);
    simulation.after(host.upAtMs - simulation.nowMs, () => this.#powerOn(host));
    if (!host.up) return;
    host.up = false;
    this.tell(`${host.name} loses its power`);
    for (const { life, host: on } of this.nodes) if (on === host && life !== null) this.end(life);
    for (const disk of this.disks) disk.losePower(host.name);
  }

  #powerOn(host: Host): void {
    if (host.up || this.simulation.nowMs < host.upAtMs) return;
    host.up = true;
    host.bootId = this.#bootId();
    for (const node of this.nodes) if (node.host === host) this.up(node);
  }

  #find(pid: number, host: string): Life | null {
    return this.nodes.find(({ life }) => life?.pid === pid && life.host === host)?.life ?? null;
  }

  #state(pid: number, host: string): string | null {
    const life = this.#find(pid, host);
    if (life === null) return null;
    return life.gate.paused ? "T" : "S";
  }

  #kill(pid: number): void {
    this.simulation.after(this.simulation.random.below(20), () => {
      const life = this.nodes.find((node) => node.life?.pid === pid)?.life;
      if (life != null) this.end(life);
    });
  }

  async #fenceHost(name: string): Promise<void> {
    const { random } = this.simulation;
    await this.simulation.sleep(20 + random.below(400));
    if (random.below(6) === 0) throw new StorageError("EIO", "the fence command failed");
    this.powerOff(this.nodes.find((node) => node.name === name)!.host);
    await this.simulation.sleep(random.below(100));
  }

  // Service

  async #bring(home: string, life: Life): Promise<void> {
    const endMs = this.simulation.nowMs + ADDRESS_WAIT_MS;
    for (;;) {
      const other = this.#services.get(home);
      // On two hosts both may believe that they have the address: the one that said so last gets the packets.
      if (other === undefined || other === life || other.host !== life.host) break;
      if (this.simulation.nowMs > endMs) throw new StorageError("EBUSY", "another process has the address");
      await this.simulation.sleep(20);
    }
    if (!life.gate.dead) this.#services.set(home, life);
  }

  #hangUp(home: string, life: Life): void {
    if (this.#services.get(home) === life) this.#services.delete(home);
  }

  async #withdraw(home: string, life: Life): Promise<void> {
    if (this.#services.get(home) !== life) return;
    this.#hangUp(home, life);
    while ((life.groups.server?.inProgress ?? 0) > 0 && !life.gate.dead) await this.simulation.sleep(5);
  }

  #connect(): Connection | null {
    const life = this.#services.get(HOME);
    if (life === undefined) return null;
    return (call, answer) => {
      if (this.#services.get(HOME) === life) life.serve(call, answer);
    };
  }

  // What is watched all the time

  #tick(): void {
    this.simulation.after(TICK_MS, () => {
      this.#tick();
      if (this.failure !== null) throw this.failure;
      this.#checkOwners();
      this.#checkLiveness();
      this.#bringBack();
    });
  }

  /** Never two that own the group and would let a write pass. */
  #checkOwners(): void {
    const owners = this.nodes.flatMap(({ life }) => {
      if (life?.gate.running !== true) return [];
      const holding = life.groups.holding;
      const [group] = life.agent.groups();
      if (holding === null || group?.role !== "owned") return [];
      return life.agent.epochOf(group.uuid) === holding.epoch ? [holding] : [];
    });
    if (owners.length > 1) throw new Error(`two owners: ${JSON.stringify(owners)}`);
  }

  isHealthy({ life, name }: Node): boolean {
    if (life?.gate.running !== true) return false;
    return this.disks.every((disk) => !disk.faultsOf(name).blocked && disk.faultsOf(name).reserved === null);
  }

  #checkLiveness(): void {
    const { nowMs } = this.simulation;
    for (const node of this.nodes) {
      if (!this.isHealthy(node)) node.healthySinceMs = -1;
      else if (node.healthySinceMs < 0) node.healthySinceMs = nowMs;
    }
    const answered = this.clients.reduce((sum, client) => sum + client.answered, 0);
    const waiting = this.clients.some(({ call }) => call !== null);
    if (answered !== this.#answered || !waiting) this.#answeredMs = nowMs;
    this.#answered = answered;
    this.longestGapMs = Math.max(this.longestGapMs, nowMs - this.#answeredMs);
    const healthy = this.nodes.filter(({ healthySinceMs }) => healthySinceMs >= 0);
    const sinceMs = Math.min(...healthy.map(({ healthySinceMs }) => healthySinceMs));
    this.#stallMs = healthy.length === 0 ? 0 : nowMs - Math.max(sinceMs, this.#answeredMs);
    if (this.#stallMs > STALL_MS_MAX) {
      const standing = this.nodes.map(({ life }) =>
        life?.agent.groups().map(({ role, complaint }) => [role, complaint]),
      );
      throw new Error(`no answer for ${this.#stallMs} ms, and a node is well: ${JSON.stringify(standing)}`);
    }
  }

  #bringBack(): void {
    for (const { life } of this.nodes) {
      if (life?.gate.running === true && life.groups.degraded) void life.groups.bringBack().catch(() => {});
    }
  }

  get owner(): Node | null {
    const { current } = this.ownership;
    return (
      this.nodes.find(({ life }) => current !== null && life?.groups.holding === current && life.ownsGroup) ?? null
    );
  }

  get standby(): Node | null {
    const { owner } = this;
    return owner === null ? null : (this.nodes.find((node) => node !== owner && node.life !== null) ?? null);
  }

  /** Nothing is wrong any more, and both nodes are there. */
  get whole(): boolean {
    const { owner, standby } = this;
    if (owner === null || standby === null || owner.life?.groups.degraded === true) return false;
    return this.nodes.every((node) => this.isHealthy(node) && node.life?.started === true);
  }

  #onEvent(life: Life, event: PairEvent): void {
    this.tell(`${life.node}: ${event.kind}: ${event.what}`);
  }

  tell(what: string): void {
    this.options.tell(`${this.simulation.nowMs.toFixed(1).padStart(9)}  ${what}`);
  }
}
