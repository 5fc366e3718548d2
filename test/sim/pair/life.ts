import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import type { BlockDevice } from "../../../src/device/device.js";
import { DiskLanes, type LaneKind } from "../../../src/device/disk-lane.js";
import { Board } from "../../../src/ha/board.js";
import type { PairEvent, PairSettings } from "../../../src/ha/contract.js";
import { PairAgent } from "../../../src/ha/pair-agent.js";
import { SILENT } from "../../../src/lib/log.js";
import { MIB } from "../../../src/lib/units.js";
import { LIMITS } from "../../../src/limits.js";
import { MemoryReplyCache } from "../../../src/protocol/rpc/reply-cache.js";
import { LifeArena } from "../../support/life-arena.js";
import type { Simulation } from "../simulation.js";
import { Threads } from "../threads.js";
import type { Call } from "./client-model.js";
import type { FileServer } from "./file-server.js";
import { SimulatedGroupHost } from "./group-host.js";
import { type ClockWay, Gate, NodeClock } from "./node-clock.js";
import type { Ownership } from "./ownership.js";
import type { DiskUser, SharedDisk } from "./shared-disk.js";

const THREADS = LIMITS.ioThreadsOfPair;
const ARENA_BYTES = 16 * MIB;
/** After this much simulated time nothing of a process that was ended runs any more. */
const LEFTOVERS_MS = 2000;

export const PAIR_BREAKS = ["fencing", "lease", "epoch", "reply-cache", "slow-path", "generation"] as const;
export type PairBreak = (typeof PAIR_BREAKS)[number];

const arenas: LifeArena[] = [];
const scratchRoot = mkdtempSync(path.join(tmpdir(), "stripeward-pair-"));
process.once("exit", () => rmSync(scratchRoot, { recursive: true, force: true }));

export interface LifeParts {
  readonly simulation: Simulation;
  readonly number: number;
  readonly node: string;
  readonly partner: string;
  readonly host: string;
  readonly bootId: string;
  readonly way: ClockWay;
  readonly disks: readonly SharedDisk[];
  readonly ownership: Ownership;
  readonly settings: PairSettings;
  readonly broken: PairBreak | undefined;
  readonly fence: {
    kill(pid: number): Promise<void>;
    state(pid: number, host: string): string | null;
    readonly command: ((node: string) => Promise<void>) | null;
  };
  readonly bring: (home: string, life: Life) => Promise<void>;
  readonly withdraw: (home: string, life: Life) => Promise<void>;
  readonly hangUp: (home: string, life: Life) => void;
  readonly onEvent: (life: Life, event: PairEvent) => void;
  readonly onMounted: (server: FileServer) => void;
  /** The process ends itself. */
  readonly exit: (life: Life, reason: string) => void;
}

/** One process of a node, from its start to its end: the real agent, board, group, file system and reply cache. */
export class Life implements DiskUser {
  readonly gate: Gate;
  readonly threads = new Threads(THREADS);
  readonly #lanes: DiskLanes;
  readonly node: string;
  readonly host: string;
  readonly pid: number;
  readonly agent: PairAgent;
  readonly groups: SimulatedGroupHost;
  readonly #parts: LifeParts;
  readonly #arena: LifeArena;
  /** Its first look at the disks is over. */
  started = false;

  constructor(parts: LifeParts) {
    this.#parts = parts;
    this.gate = new Gate(parts.simulation);
    this.node = parts.node;
    this.host = parts.host;
    this.pid = 1000 + parts.number;
    this.#arena = arenas.pop() ?? new LifeArena(ARENA_BYTES);
    const clock = new NodeClock(parts.simulation, this.gate, parts.way);
    this.#lanes = new DiskLanes(clock, THREADS);
    this.groups = this.#makeGroups(clock);
    this.agent = this.#makeAgent(clock);
  }

  get number(): number {
    return this.#parts.number;
  }

  get ownsGroup(): boolean {
    return this.agent.groups().some(({ role }) => role === "owned");
  }

  #makeGroups(clock: NodeClock): SimulatedGroupHost {
    const { simulation, disks, ownership, broken, onMounted, number } = this.#parts;
    return new SimulatedGroupHost({
      ...{ user: this, life: number, disks, ownership, clock, random: simulation.random, arena: this.#arena },
      scratchDir: path.join(scratchRoot, `${number}`),
      replies: new MemoryReplyCache(clock, { entriesMax: 1000, bytesMax: MIB, ageMsMax: 180_000 }),
      epochOf: (group) => this.agent.epochOf(group),
      onMounted,
      over: (device) => this.#over(device, "data"),
      without: {
        ...{ epoch: broken === "epoch", replies: broken === "reply-cache", locks: broken === "fencing" },
        generation: broken === "generation",
      },
    });
  }

  #makeAgent(clock: NodeClock): PairAgent {
    const { node, partner, bootId, number, disks, settings, fence, bring, withdraw, hangUp, onEvent, exit, broken } =
      this.#parts;
    const identity = { bootId, pid: this.pid, processStart: number };
    const board: Board = new Board({
      open: async (at) => this.#over(disks.find((disk) => disk.path === at)!.open(this, null), "control"),
      withoutHaste: broken === "slow-path",
      clock,
      log: SILENT,
      durable: () => agent.partner().heartbeat?.bootId !== bootId,
    });
    const agent: PairAgent = new PairAgent({
      ...{ node, partner, identity, version: "1", clock, board, settings, host: this.groups },
      service: { host: "10.0.0.1", port: 2049 },
      services: {
        bring: (home) => this.#reach(() => bring(home, this)),
        withdraw: (home) => this.#reach(() => withdraw(home, this)),
        hangUp: (home) => this.gate.run(() => hangUp(home, this)),
      },
      fence: {
        kill: (pid) => fence.kill(pid),
        processState: (pid) => fence.state(pid, this.host),
        command: this.#command(),
      },
      onEvent: (event) => this.gate.run(() => onEvent(this, event)),
      stopAtOnce: (reason) => exit(this, reason),
      ...(broken === undefined ? {} : { without: { [broken === "slow-path" ? "haste" : broken]: true } }),
    });
    return agent;
  }

  #over(device: BlockDevice, kind: LaneKind): BlockDevice {
    return this.#parts.broken === "slow-path" ? device : this.#lanes.over(device, kind);
  }

  #command(): ((node: string) => Promise<void>) | null {
    const { command } = this.#parts.fence;
    return command === null ? null : (node) => this.#reach(() => command(node));
  }

  /** What a process does outside of itself, it does while it runs. */
  #reach(action: () => Promise<void>): Promise<void> {
    return new Promise((resolve, reject) => {
      const settle = (end: () => void): void => this.gate.run(end);
      this.gate.run(
        () =>
          void action().then(
            () => settle(resolve),
            (error: Error) => settle(() => reject(error)),
          ),
      );
    });
  }

  /** A call has come in. */
  serve(call: Call, answer: (reply: Buffer) => void): void {
    this.gate.run(() => this.groups.server?.serve(call, (reply) => this.gate.run(() => answer(reply))));
  }

  /** It is gone; whoever ends it settles what it had asked the disks for. */
  end(): void {
    if (this.gate.dead) return;
    this.gate.end();
    this.threads.end();
    this.groups.dispose();
    const { simulation, number } = this.#parts;
    simulation.after(LEFTOVERS_MS, () => {
      arenas.push(this.#arena);
      rmSync(path.join(scratchRoot, `${number}`), { recursive: true, force: true });
    });
  }
}
