import type { BlockDevice } from "../../../src/device/device.js";
import type { LockState } from "../../../src/device/lock-probe.js";
import { type MountedFileSystem, mountFileSystem } from "../../../src/fs/file-system.js";
import type { GroupHost, SeenGroup } from "../../../src/ha/contract.js";
import type { Clock } from "../../../src/lib/clock.js";
import { StorageError } from "../../../src/lib/errors.js";
import { SILENT } from "../../../src/lib/log.js";
import type { Random } from "../../../src/lib/prng.js";
import { MIB } from "../../../src/lib/units.js";
import { assembleGroup, labelledDisk, readLabel } from "../../../src/lu/group.js";
import type { MemoryReplyCache } from "../../../src/protocol/rpc/reply-cache.js";
import type { Group, LabelledDisk } from "../../../src/raid/contract.js";
import type { LifeArena } from "../../support/life-arena.js";
import { TIGHT_BUFFERS } from "../machine.js";
import { FileServer } from "./file-server.js";
import type { Holding, Ownership } from "./ownership.js";
import type { DiskUser, SharedDisk } from "./shared-disk.js";

export interface GroupHostParts {
  readonly user: DiskUser;
  readonly life: number;
  readonly disks: readonly SharedDisk[];
  readonly ownership: Ownership;
  readonly clock: Clock;
  readonly random: Random;
  readonly scratchDir: string;
  readonly arena: LifeArena;
  readonly replies: MemoryReplyCache;
  /** Of the agent. */
  readonly epochOf: (group: string) => number;
  /** The file system is mounted, and serves nobody yet. */
  readonly onMounted: (server: FileServer) => void;
  /** Layers over a disk that was opened. */
  readonly over: (device: BlockDevice) => BlockDevice;
  /** Parts that are switched off. */
  readonly without: Readonly<Record<"epoch" | "replies" | "locks" | "generation", boolean>>;
}

/** The storage of one process: the real group and file system over simulated disks. There is one group. */
export class SimulatedGroupHost implements GroupHost {
  server: FileServer | null = null;
  holding: Holding | null = null;
  #group: Group | null = null;
  #fs: MountedFileSystem | null = null;
  readonly #parts: GroupHostParts;

  constructor(parts: GroupHostParts) {
    this.#parts = parts;
  }

  hindrance(): string | null {
    return null;
  }

  async survey(): Promise<Awaited<ReturnType<GroupHost["survey"]>>> {
    const found: { path: string; group: string | null }[] = [];
    let group: SeenGroup | null = null;
    for (const disk of this.#parts.disks) {
      const label = await readLabel(disk.open(this.#parts.user, null)).catch(() => null);
      if (label?.group === undefined) continue;
      const { uuid, name, members, ownerEpoch, nodes } = label.group;
      found.push({ path: disk.path, group: uuid });
      const seen: readonly string[] = group?.paths ?? [];
      const epoch = Math.max(ownerEpoch, group?.epoch ?? 0);
      group = { uuid, name, home: nodes[0] ?? null, paths: [...seen, disk.path], memberCount: members.length, epoch };
    }
    return { groups: group === null ? [] : [group], disks: found };
  }

  #visible(): SharedDisk[] {
    return this.#parts.disks.filter((disk) => !disk.faultsOf(this.#parts.user.node).blocked);
  }

  async lock(): Promise<void> {
    const { user, without } = this.#parts;
    const disks = this.#visible();
    const held = disks.find(({ locks }) => locks.has(user.host) && locks.get(user.host) !== user);
    if (held !== undefined && !without.locks) throw new StorageError("EBUSY", `${held.path} is locked`);
    for (const disk of disks) disk.locks.set(user.host, user);
  }

  async unlock(): Promise<void> {
    for (const disk of this.#parts.disks) disk.unlock(this.#parts.user);
  }

  async open(uuid: string): Promise<void> {
    const { ownership, user, life, epochOf, clock, random, arena, without } = this.#parts;
    const holding = { node: user.node, life, epoch: epochOf(uuid) };
    ownership.take(holding);
    this.holding = holding;
    arena.begin();
    const epoch = without.epoch ? () => holding.epoch : () => epochOf(uuid);
    const group = await assembleGroup(await this.#labelled(holding), {
      ...{ arena, clock, random, log: SILENT, buffers: TIGHT_BUFFERS, epoch },
      without: { generation: without.generation },
    });
    this.#group = group;
    await this.#mount(group, holding.epoch);
  }

  async #labelled(holding: Holding): Promise<LabelledDisk[]> {
    const disks: LabelledDisk[] = [];
    for (const disk of this.#visible()) {
      const device = this.#parts.over(disk.open(this.#parts.user, holding));
      const label = await readLabel(device).catch(() => null);
      if (label?.group !== undefined) disks.push(labelledDisk(device, label));
    }
    return disks;
  }

  async #mount(group: Group, epoch: number): Promise<void> {
    const { clock, random, arena, scratchDir, replies, without, onMounted } = this.#parts;
    const fs = await mountFileSystem({
      ...{ dataLu: group.openLu(1), metadataLu: group.openLu(2), clock, random, log: SILENT, scratchDir, arena },
      ...{ cacheBytes: 4 * MIB, sqliteCacheBytes: MIB, epoch: () => epoch },
    });
    this.#fs = fs;
    const kept = fs.takeKeptReplies();
    if (!without.replies) replies.adopt(fs.id, kept);
    this.server = new FileServer(fs, replies);
    onMounted(this.server);
  }

  async settle(): Promise<void> {
    await this.#fs?.settle();
  }

  async close(): Promise<void> {
    this.server = null;
    await this.#fs?.close().catch(() => {});
    this.#fs = null;
    await this.#group?.close().catch(() => {});
    this.#group = null;
    this.holding = null;
    await this.unlock();
  }

  hasFailed(): boolean {
    return this.#group?.describe().state === "failed";
  }

  get degraded(): boolean {
    return this.#group !== null && this.#group.describe().state !== "clean";
  }

  lockState(): LockState {
    const disks = this.#visible();
    if (disks.length === 0) return "unknown";
    return disks.some(({ locks }) => locks.has(this.#parts.user.host)) ? "held" : "free";
  }

  /** Members that it does without, and that are there: brought back, as the daemon does by itself. */
  async bringBack(): Promise<void> {
    const { holding } = this;
    const group = this.#group;
    if (group === null || holding === null) return;
    for (const { number, state, slow } of group.describe().disks) {
      const disk = this.#parts.disks[number - 1]!;
      // One that was left out because it is slow is the group's still.
      if (state === "online" || state === "rebuilding" || slow === true || !this.#visible().includes(disk)) continue;
      const device = this.#parts.over(disk.open(this.#parts.user, holding));
      const label = await readLabel(device).catch(() => null);
      if (label !== null) await group.returnDisk(labelledDisk(device, label), true);
    }
  }

  /** The process is dead: SQLite's copy goes. Nothing reaches the disks any more. */
  dispose(): void {
    const fs = this.#fs;
    this.#fs = null;
    void fs?.setSetting("over", "").then(
      () => {},
      () => fs.close().catch(() => {}),
    );
  }

  async check(): Promise<void> {
    const report = await this.#fs?.check({ data: true });
    if (report?.ok !== true) throw new Error(`fs check: ${JSON.stringify(report?.faults.slice(0, 3))}`);
  }
}
