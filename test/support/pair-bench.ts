import type { BlockDevice } from "../../src/device/device.js";
import type { LockState } from "../../src/device/lock-probe.js";
import { Board } from "../../src/ha/board.js";
import { type Fence, type GroupHost, PAIR_SETTINGS, type PairEvent, type SeenGroup } from "../../src/ha/contract.js";
import { PairAgent } from "../../src/ha/pair-agent.js";
import { StorageError } from "../../src/lib/errors.js";
import { SILENT } from "../../src/lib/log.js";
import { HandClock } from "./hand-clock.js";

/** A disk that both nodes see, as far as a board needs one. */
export class BenchDisk {
  readonly #blocks = new Map<number, Buffer>();
  /** Nodes that do not see it. */
  readonly hiddenFrom = new Set<string>();
  /** Writes wait for this. */
  held: Promise<void> | null = null;
  /** Of these nodes every request waits for this. */
  readonly stuckFor = new Map<string, Promise<void>>();
  /** Requests that have not ended, and the most that there were. */
  inFlight = 0;
  inFlightMax = 0;

  constructor(readonly path: string) {}

  open(node: string): BlockDevice {
    const seen = (): void => {
      if (this.hiddenFrom.has(node)) throw new StorageError("EIO", `${this.path} does not answer`);
    };
    const wait = async (): Promise<void> => {
      this.inFlightMax = Math.max(this.inFlightMax, ++this.inFlight);
      await this.stuckFor.get(node);
      this.inFlight--;
    };
    const write = async (source: Buffer, position: number): Promise<void> => {
      seen();
      await this.held;
      await wait();
      this.#blocks.set(position, Buffer.from(source));
    };
    const read = async (target: Buffer, position: number): Promise<void> => {
      seen();
      await wait();
      const block = this.#blocks.get(position);
      if (block === undefined) target.fill(0);
      else block.copy(target);
    };
    return {
      ...{ name: this.path, sizeBytes: 2 ** 21, readOnly: false, alignmentBytes: 1, read, write },
      readv: (targets, position) => read(targets[0] ?? Buffer.alloc(0), position),
      writev: (sources, position) => write(Buffer.concat([...sources]), position),
      writeThrough: (sources, position) => write(Buffer.concat([...sources]), position),
      flush: async () => {},
      close: async () => {},
    };
  }
}

/** What stands for the storage of a node: groups that are there, or cannot be opened. */
export class BenchHost implements GroupHost {
  groups: readonly SeenGroup[] = [];
  lockStateNow: LockState = "free";
  /** Why `open` fails; null: it does not. */
  refusal: string | null = null;
  /** Why this node is in the way of its groups. */
  hindered: string | null = null;
  opened = 0;
  surveys = 0;
  /** No disk is there yet. */
  blank = false;
  settling: Promise<void> = Promise.resolve();
  /** A look at the disks waits for this; null: for nothing. */
  surveying: Promise<void> | null = null;
  /** How many members each group had that was taken. */
  readonly locked: string[] = [];

  #seen: readonly SeenGroup[] = [];

  constructor(private readonly disks: readonly BenchDisk[]) {}

  async survey(): Promise<Awaited<ReturnType<GroupHost["survey"]>>> {
    this.surveys++;
    await this.surveying;
    if (this.blank) return { groups: [], disks: [] };
    this.#seen = this.groups;
    const groupOf = (path: string) => this.groups.find(({ paths }) => paths.includes(path))?.uuid ?? null;
    return { groups: this.groups, disks: this.disks.map(({ path }) => ({ path, group: groupOf(path) })) };
  }

  /** As the real one: what was seen last. */
  async lock(uuid: string): Promise<void> {
    this.locked.push(`${uuid}: ${this.#seen.find((group) => group.uuid === uuid)?.paths.length ?? 0}`);
  }

  async open(): Promise<void> {
    this.opened++;
    if (this.refusal !== null) throw new StorageError("EIO", this.refusal);
  }

  settle(): Promise<void> {
    return this.settling;
  }

  async close(): Promise<void> {}

  hasFailed(): boolean {
    return false;
  }

  /** Of every group that this node serves. */
  stateNow: "clean" | "degraded" | "failed" = "clean";

  stateOf(): "clean" | "degraded" | "failed" {
    return this.stateNow;
  }

  hindrance(): string | null {
    return this.hindered;
  }

  lockState(): LockState {
    return this.lockStateNow;
  }
}

export interface BenchNode {
  readonly agent: PairAgent;
  readonly host: BenchHost;
  readonly events: PairEvent[];
  /** Why it ended itself. */
  readonly ends: string[];
  /** Heartbeats that a majority of the disks took: their number. */
  readonly heard: () => number;
}

/** The real agents of two nodes over a few disks, under one clock that is moved by hand. A group has three of them. */
export class PairBench {
  readonly clock = new HandClock();
  readonly disks: readonly BenchDisk[];

  constructor(diskCount = 3) {
    this.disks = Array.from({ length: diskCount }, (_, i) => new BenchDisk(`/dev/bench${i + 1}`));
  }

  group(name: string, home: string | null = "chn1", paths = this.pathsFrom(0)): SeenGroup {
    return { uuid: `uuid-${name}`, name, home, paths, memberCount: 3, epoch: 1 };
  }

  pathsFrom(first: number): string[] {
    return this.disks.slice(first, first + 3).map(({ path }) => path);
  }

  board(node: string): Board {
    const open = async (path: string) => this.disks.find((disk) => disk.path === path)!.open(node);
    return new Board({ open, clock: this.clock, log: SILENT, durable: () => true });
  }

  /** @param bootId  of its host: two nodes with the same one are on one host */
  node(name: "chn1" | "chn2", bootId: string, command: Fence["command"] = null, pid = 1): BenchNode {
    const host = new BenchHost(this.disks);
    const [events, ends] = [[] as PairEvent[], [] as string[]];
    let heard = 0;
    const { clock } = this;
    const agent = new PairAgent({
      ...{ node: name, partner: name === "chn1" ? "chn2" : "chn1", version: "1", clock, host },
      identity: { bootId, pid, processStart: pid },
      service: { host: "127.0.0.1", port: 2049 },
      board: this.board(name),
      services: { bring: async () => {}, withdraw: async () => {}, hangUp: () => {} },
      fence: { kill: async () => {}, processState: () => null, command },
      settings: PAIR_SETTINGS,
      onEvent: (event) => events.push(event),
      stopAtOnce: (reason) => ends.push(reason),
      onHeard: () => heard++,
    });
    return { agent, host, events, ends, heard: () => heard };
  }

  /** Two nodes on two hosts that see the same groups; started in this order, `one` first, and left alone for a second. */
  async pair(
    groups: readonly SeenGroup[] = [],
    command: Fence["command"] = null,
  ): Promise<{ readonly one: BenchNode; readonly two: BenchNode }> {
    const [one, two] = [this.node("chn1", "boot-1"), this.node("chn2", "boot-2", command)];
    for (const node of [one, two]) node.host.groups = groups;
    await this.start(one);
    await this.start(two);
    await this.clock.advance(1000);
    return { one, two };
  }

  /** As start(), which needs the clock to go on. */
  async start({ agent }: BenchNode): Promise<void> {
    let started = false;
    const starting = agent.start().then(() => {
      started = true;
    });
    while (!started) await this.clock.advance(10);
    await starting;
  }
}

/** What a node makes of a group. */
export function roleOf({ agent }: BenchNode, name: string): string | undefined {
  return agent.groups().find((group) => group.name === name)?.role;
}
