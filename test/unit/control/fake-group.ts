import { StorageError } from "../../../src/lib/errors.js";
import type { LogicalUnit, LuDescription } from "../../../src/lu/lu.js";
import type {
  DiskDescription,
  DiskErrors,
  DiskState,
  Group,
  GroupDescription,
  GroupEvent,
  GroupState,
  LabelledDisk,
  ScrubOptions,
  ScrubRecord,
  TaskDescription,
  TaskKind,
  TaskState,
} from "../../../src/raid/contract.js";
import { type FakeWorld, ROW_BYTES, ROW_COUNT } from "./fake-layers.js";

export interface FakeMember {
  readonly uuid: string;
  readonly number: number;
  readonly path: string;
  readonly sizeBytes: number;
  state: DiskState;
  readonly reason?: string;
  /** Stale, too: left out until it is well. */
  slow?: boolean;
}

/** What the labels of a group say. */
export interface FakeRecord {
  name: string;
  members: FakeMember[];
  lus: LuDescription[];
  scrub: ScrubRecord;
}

/** Degraded with one member away, failed with two. States, tasks and refusals are played; no byte of data is kept. */
export class FakeGroup implements Group {
  readonly #open = new Map<string, LabelledDisk>();
  readonly #tasks = new Map<TaskKind, TaskDescription>();
  readonly errors = new Map<number, DiskErrors>();
  readonly slow = new Set<number>();
  inspectors: ScrubOptions["inspectors"] = new Map();

  constructor(
    private readonly world: FakeWorld,
    private readonly uuid: string,
    disks: readonly LabelledDisk[],
    private readonly onEvent: (event: GroupEvent) => void = () => {},
  ) {
    for (const disk of disks) {
      const member = this.record.members.find(({ uuid }) => uuid === disk.uuid);
      if (member?.state === "missing") member.state = "stale";
      if (member?.state === "online" || member?.state === "rebuilding" || member?.slow === true)
        this.#open.set(disk.uuid, disk);
    }
    world.live.set(this.record.name, this);
  }

  get record(): FakeRecord {
    return this.world.groups.get(this.uuid)!;
  }

  describe(): GroupDescription {
    const { name, lus, scrub } = this.record;
    const disks = this.record.members.map((member) => this.#member(member));
    const away = disks.filter(({ state }) => state !== "online").length;
    const state: GroupState = away === 0 ? "clean" : away === 1 ? "degraded" : "failed";
    return {
      ...{ uuid: this.uuid, name, state, disks, lus, scrub, tasks: [...this.#tasks.values()] },
      ...{ chunkBytes: 65536, rowBytes: ROW_BYTES, rowCount: ROW_COUNT, nodes: [], ownerEpoch: 1, generation: 1 },
      ...{ lostBlocks: 0, unreadable: 0, sources: [] },
      rowsFree: ROW_COUNT - lus.reduce((sum, lu) => sum + lu.sizeBytes / ROW_BYTES, 0),
    };
  }

  #member(member: FakeMember): DiskDescription {
    const errors = this.errors.get(member.number) ?? { read: 0, write: 0, checksum: 0, repaired: 0 };
    const described = { ...member, errors, slow: member.slow === true || this.slow.has(member.number) };
    const found = this.#open.get(member.uuid);
    if (found !== undefined) return { ...described, path: found.device.name };
    return member.state === "online" ? { ...described, state: "missing" } : described;
  }

  counters() {
    return {
      ...{ fullStripeWrites: 7, partialStripeWrites: 0, journalRecords: 0, degradedReads: 0, degradedStripes: 0 },
      ...{ healedBlocks: 0, flushes: 0, bitmapWrites: 2 },
    };
  }

  async createLu(name: string, level: 1 | 5, size: number | "max"): Promise<LuDescription> {
    const { lus, members } = this.record;
    if (lus.some((lu) => lu.name === name)) throw new StorageError("EEXIST", `LU ${name} exists already`);
    const rowsFree = this.describe().rowsFree;
    const rows = size === "max" ? rowsFree : Math.ceil(size / ROW_BYTES);
    if (rows > rowsFree || rows === 0) throw new StorageError("ENOSPC", `only ${rowsFree} rows are free`);
    const lu = {
      ...{ number: lus.length + 1, uuid: this.world.uuid(), name, level, groupUuid: this.uuid },
      ...{ width: members.length, sizeBytes: rows * ROW_BYTES },
    };
    lus.push(lu);
    return lu;
  }

  checkLus(): void {}

  async compareLu() {
    return { faults: [], wrong: 0, unreadable: 0, why: null };
  }

  async deleteLu(number: number): Promise<void> {
    this.record.lus = this.record.lus.filter((lu) => lu.number !== number);
  }

  async resizeLu(number: number, size: number | "max"): Promise<LuDescription> {
    this.#play(`resize ${number} ${size}`);
    const { lus } = this.record;
    const at = lus.findIndex((lu) => lu.number === number);
    const free = this.describe().rowsFree * ROW_BYTES;
    lus[at] = { ...lus[at]!, sizeBytes: size === "max" ? lus[at]!.sizeBytes + free : size };
    return lus[at];
  }

  async failDisk(number: number): Promise<void> {
    this.#play(`fail ${number}`);
    if (this.describe().state !== "clean") throw new StorageError("EBUSY", "the group would not bear that");
    await this.lose(number, "failed");
  }

  async replaceDisk(number: number, disk: LabelledDisk): Promise<void> {
    this.#play(`replace ${number} ${disk.number}`);
    this.#fill(number, disk);
    this.emit("member-replaced", { replaces: number }, disk.number);
    this.#begin("rebuild", disk.number);
  }

  checkReplacement(): void {}

  async giveUp(): Promise<number> {
    this.#play("give up");
    return 0;
  }

  async lendDisk(disk: LabelledDisk): Promise<void> {
    this.#play(`lend ${disk.number}`);
  }

  async returnDisk(disk: LabelledDisk, force = false): Promise<void> {
    this.#play(`return ${disk.number}${force ? " force" : ""}`);
    const failed = this.record.members.some(({ uuid, state }) => uuid === disk.uuid && state === "failed");
    if (failed && !force) throw new StorageError("EACCES", "it failed");
    this.#fill(disk.number, disk);
    this.emit("member-returned", {}, disk.number);
    this.#begin("rebuild", disk.number);
  }

  #fill(number: number, disk: LabelledDisk): void {
    const { uuid, device } = disk;
    const slot = this.record.members.findIndex((member) => member.number === number);
    const { sizeBytes, name: path } = device;
    this.record.members[slot] = { uuid, number: disk.number, path, sizeBytes, state: "rebuilding" };
    this.world.labels.set(path, { uuid, number: disk.number, groupUuid: this.uuid });
    this.#open.set(uuid, disk);
  }

  async growDisk(disk: LabelledDisk): Promise<void> {
    this.#play(`grow ${disk.number}`);
    const { uuid, number, device } = disk;
    const { sizeBytes, name: path } = device;
    this.record.members.push({ uuid, number, path, sizeBytes, state: "online" });
    this.world.labels.set(path, { uuid, number, groupUuid: this.uuid });
    this.#open.set(uuid, disk);
    this.#begin("grow", number);
  }

  /** Who has been pulled out is noticed. */
  async probe(number?: number): Promise<void> {
    for (const member of this.record.members) {
      const asked = member.state === "online" && (number ?? member.number) === member.number;
      if (asked && !this.world.present.has(member.path)) await this.lose(member.number, "missing");
    }
  }

  async scrub({ heal, inspectors }: ScrubOptions): Promise<void> {
    this.#play(`scrub ${heal}`);
    this.inspectors = inspectors;
    this.record.scrub = { ...this.record.scrub, state: "running", startedMs: this.world.clock.wallMs };
    this.#begin("scrub");
  }

  async scheduleScrub(everySeconds: number): Promise<void> {
    this.#play(`schedule ${everySeconds}`);
    this.record.scrub = { ...this.record.scrub, everySeconds };
  }

  async pauseTask(kind: TaskKind): Promise<void> {
    this.#play(`pause ${kind}`);
    this.change(kind, { state: "paused" });
    if (kind === "scrub") this.record.scrub = { ...this.record.scrub, state: "paused" };
  }

  async resumeTask(kind: TaskKind): Promise<void> {
    this.#play(`resume ${kind}`);
    this.change(kind, { state: "running" });
  }

  async cancelTask(kind: TaskKind): Promise<void> {
    this.#play(`cancel ${kind}`);
    if (kind !== "scrub") throw new StorageError("EINVAL", `a ${kind} cannot be given up`);
    this.finish(kind, "cancelled");
  }

  /** Noted in the trace, or refused as the test wants it. */
  #play(what: string): void {
    this.world.trace.push(what);
    const refusal = this.world.refuse.get(what);
    if (refusal !== undefined) throw refusal;
  }

  #begin(kind: TaskKind, disk?: number): void {
    const task: TaskDescription = {
      ...{ kind, state: "running", doneBytes: 0, totalBytes: 1000, bytesPerSecond: 0, secondsLeft: null },
      ...{ found: 0, healed: 0, startedMs: this.world.clock.wallMs },
      ...(disk === undefined ? {} : { disk }),
    };
    this.#tasks.set(kind, task);
    this.emit("task-started", { ...task }, disk);
  }

  // What happens by itself

  /** @throws StorageError ENOENT when no such task is under way */
  change(kind: TaskKind, values: Partial<TaskDescription>): TaskDescription {
    const task = this.#tasks.get(kind);
    if (task === undefined || task.endedMs !== undefined) throw new StorageError("ENOENT", `no ${kind} is under way`);
    const changed = { ...task, ...values };
    this.#tasks.set(kind, changed);
    return changed;
  }

  finish(kind: TaskKind, state: TaskState = "done", values: Partial<TaskDescription> = {}): void {
    const ended = this.change(kind, { state, endedMs: this.world.clock.wallMs, ...values });
    if (kind === "scrub") this.record.scrub = { ...this.record.scrub, state: "idle" };
    if (kind === "rebuild" && state === "done") {
      this.record.members = this.record.members.map((one) =>
        one.state === "rebuilding" ? { ...one, state: "online" } : one,
      );
      this.emit("complete", {});
    }
    this.emit("task-ended", { ...ended }, ended.disk);
  }

  /** A member fails or is pulled out; its device is closed. */
  async lose(number: number, state: "failed" | "missing"): Promise<void> {
    const slot = this.record.members.findIndex((member) => member.number === number);
    const member = this.record.members[slot]!;
    this.record.members[slot] = { ...member, state, reason: state === "failed" ? "too many errors" : "pulled out" };
    this.emit("member-failed", { reason: "EIO", gone: state === "missing" }, number);
    this.emit("degraded", { lost: 1 });
    const disk = this.#open.get(member.uuid);
    this.#open.delete(member.uuid);
    await disk?.device.close();
    this.emit("member-released", {}, number);
  }

  emit(kind: GroupEvent["kind"], detail: Readonly<Record<string, unknown>>, disk?: number): void {
    const event = { kind, group: this.record.name, detail };
    this.onEvent(disk === undefined ? event : { ...event, disk });
  }

  openLu(number: number): LogicalUnit {
    const description = this.record.lus.find((lu) => lu.number === number)!;
    const nothing = async () => {};
    async function* none() {}
    return {
      ...{ description, sizeBytes: description.sizeBytes, stripeBytes: 65536 },
      ...{ read: nothing, readv: nothing, write: nothing, writev: nothing, writeThrough: nothing, flush: nothing },
      ...{ readAlternatives: none, heal: nothing, close: nothing },
    };
  }

  async stopTasks(): Promise<void> {
    this.world.trace.push(`stop tasks ${this.record.name}`);
  }

  async close(): Promise<void> {
    this.world.trace.push(`close group ${this.record.name}`);
    for (const { device } of this.#open.values()) await device.close();
  }
}
