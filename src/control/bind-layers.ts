import { existsSync } from "node:fs";
import path from "node:path";
import type { Config } from "../config/schema.js";
import type { DiskLanes } from "../device/disk-lane.js";
import { openFileDevice } from "../device/file-device.js";
import { identify } from "../device/identify.js";
import { formatFileSystem, mountFileSystem } from "../fs/file-system.js";
import { createSharedGroup, SharedGroup } from "../ha/shared/group.js";
import { MirroredNodeRecords } from "../ha/shared/mirrored-records.js";
import { readNodeRecords } from "../ha/shared/read-records.js";
import { BuddyMemory } from "../lib/buddy-memory.js";
import { type Clock, pause } from "../lib/clock.js";
import { StorageError } from "../lib/errors.js";
import type { Logger } from "../lib/log.js";
import type { Random } from "../lib/prng.js";
import { LIMITS } from "../limits.js";
import { assembleGroup, createGroup } from "../lu/group.js";
import type { WarmPages } from "../pagestore/warm-copy.js";
import { ARENA_BYTES_MAX, Arena } from "../parity/arena.js";
import { isPutBack, putBackText } from "../raid/assemble.js";
import type { DiskDescription, Group, GroupDescription, LabelledDisk } from "../raid/contract.js";
import type { GroupRecord } from "../raid/label.js";
import { initDisk, labelledDisk, readLabel, wipeDisk } from "../raid/label-io.js";
import type { StorageLayers, SurveyedDisk, SurveyedGroup } from "./layers.js";
import { plainEvent, serveFileSystem } from "./serve-file-system.js";

/** Of the process; read by whoever reports them. */
export interface IoCounters {
  /** Transfers of direct I/O that had to be copied, because of where their buffers lay. */
  bouncedTransfers: number;
  /** Large reads for clients that found no aligned memory. */
  strayReads: number;
}

/** A disk may take so long to show its label before it is passed over. */
const LOOK_MS_MAX = 5000;
/** Of a group that was just made. */
const FIRST_EPOCH = 1;

export interface LayerSources {
  readonly config: Config;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  readonly io: IoCounters;
  readonly lanes: DiskLanes;
  /** Folder of the page stores' scratch copies. */
  readonly scratch: string;
  /** Under which epoch this node owns a group; by default the one on its disks. A change means that the group was lost. */
  readonly epochOf?: ((groupUuid: string) => number) | undefined;
  /** The partner, on another machine, can use all disks of a group now. */
  readonly seenElsewhere?: ((groupUuid: string) => boolean) | undefined;
  /** A copy of a page store that was kept while the partner served it, by its LU. */
  readonly warm?: ((groupUuid: string, luUuid: string, tailSeq: number) => Promise<WarmPages | null>) | undefined;
}

/** The real layers, with clock, randomness, buffers and log given to each. */
export function bindLayers(sources: LayerSources): StorageLayers {
  const { config, clock, random, log, epochOf, warm, io, seenElsewhere } = sources;
  const common = { clock, random, log };
  const arenas = new GroupArenas(config.memory.dataCacheBytes, io);
  const onBounce = () => void io.bouncedTransfers++;
  const opened = { direct: config.directIo, log, onBounce };
  const { slowDisks } = config;
  const looks = new LabelLooks(clock, (place) => lookAtLabel(place, sources));
  return {
    exists: existsSync,
    openDevice: (place) => openFileDevice(place, { mode: "read-write-exclusive", ...opened }),
    openShared: (place) => openFileDevice(place, { mode: "read-write-shared", ...opened }),
    openReadOnly: (place) => openFileDevice(place, { mode: "read-only", log }),
    sizeOf: (place) => sizeOf(place, log),
    surveyDisk: (place) => looks.at(place),
    identify,
    readLabel: async (device) => {
      const label = await readLabel(device);
      return label === null ? null : labelledDisk(device, label);
    },
    initDisk: (device, label) => initDisk(device, { ...label, random }),
    wipeDisk,
    createGroup: (disks, { name, chunkBytes, rowBytes, nodes, onEvent }) => {
      const own = newGroupEpoch(epochOf);
      return arenas.forNewGroup(async (arena) => {
        const group = await createGroup(disks, {
          ...{ name, ...common, arena, onEvent, nodes, epoch: own.epoch, slowDisks, seenElsewhere },
          ...(chunkBytes === undefined ? {} : { chunkBytes }),
          ...(rowBytes === undefined ? {} : { rowBytes }),
        });
        own.made(group.describe().uuid);
        return group;
      });
    },
    assembleGroup: (disks, onEvent, force) =>
      arenas.forNewGroup((arena) => {
        const uuid = disks[0]?.groupUuid ?? "";
        const epoch = epochOf === undefined ? undefined : () => epochOf(uuid);
        return assembleGroup(disks, { ...common, arena, onEvent, force, epoch, slowDisks, seenElsewhere });
      }),
    describeGroup,
    prepare: () => arenas.prepare(),
    shared: {
      create: async (disks, wanted) => void (await createSharedGroup(disks, { ...wanted, random })),
      open: (disks, onEvent) => SharedGroup.open(disks, { log, onEvent }),
      openRecords: (options) => MirroredNodeRecords.open({ ...options, ...common, scratchDir: sources.scratch }),
      readRecords: (partition) => readNodeRecords(partition, { clock, log, scratchDir: sources.scratch }),
    },
    formatFileSystem: (name, lus, root) =>
      formatFileSystem({
        ...{ name, ...lus, ...common, scratchDir: path.join(sources.scratch, name) },
        ...{ rootMode: root.mode, rootUid: root.uid, rootGid: root.gid },
      }),
    mountFileSystem: async (lus, onEvent, readOnly) => {
      const { groupUuid, name } = lus.dataLu.description;
      const epoch = arenas.epochOf(groupUuid);
      const mounted = await mountFileSystem({
        ...{
          ...lus,
          ...common,
          arena: arenas.of(groupUuid),
          readMemory: arenas.readMemoryOf(groupUuid),
          scratchDir: path.join(sources.scratch, name),
          readOnly,
        },
        onEvent: (event) => onEvent(plainEvent(event)),
        cacheBytes: config.memory.dataCacheBytes,
        sqliteCacheBytes: config.memory.metadataCacheBytes,
        epoch: () => epoch,
        warm: warm === undefined ? undefined : (tailSeq) => warm(groupUuid, lus.metadataLu.description.uuid, tailSeq),
      });
      return serveFileSystem(mounted);
    },
  };
}

/** The first epoch of a new group, until its lease is written; from then on that of the lease. */
function newGroupEpoch(epochOf: ((uuid: string) => number) | undefined) {
  let uuid: string | null = null;
  let leased = false;
  const current = () => {
    const epoch = uuid === null || epochOf === undefined ? -1 : epochOf(uuid);
    leased ||= epoch >= 0;
    return leased ? epoch : FIRST_EPOCH;
  };
  const made = (made: string) => {
    uuid = made;
  };
  return { epoch: epochOf === undefined ? undefined : current, made };
}

async function sizeOf(place: string, log: Logger): Promise<number | null> {
  try {
    const device = await openFileDevice(place, { mode: "read-only", log });
    await device.close();
    return device.sizeBytes;
  } catch {
    return null;
  }
}

/** Labels that are looked at: each disk by one look at a time, which all share who want to know meanwhile, and nobody waits for a disk that is slow. */
class LabelLooks {
  readonly #underWay = new Map<string, Promise<SurveyedDisk | null>>();

  constructor(
    private readonly clock: Clock,
    private readonly look: (place: string) => Promise<SurveyedDisk | null>,
  ) {}

  /** null: there is no label of ours, or it cannot be read in time. */
  at(place: string): Promise<SurveyedDisk | null> {
    let look = this.#underWay.get(place);
    if (look === undefined) {
      look = this.look(place).finally(() => this.#underWay.delete(place));
      this.#underWay.set(place, look);
    }
    return Promise.race([look, pause(this.clock, LOOK_MS_MAX).then(() => null)]);
  }
}

async function lookAtLabel(place: string, { log, lanes }: LayerSources): Promise<SurveyedDisk | null> {
  try {
    const device = lanes.over(await openFileDevice(place, { mode: "read-only", log }), "control");
    try {
      const label = await readLabel(device);
      if (label === null) return null;
      const { number, sizeBytes, group } = label;
      return { path: place, number, sizeBytes, group: group === undefined ? null : surveyedGroup(group) };
    } finally {
      await device.close();
    }
  } catch {
    return null;
  }
}

function surveyedGroup({ uuid, name, nodes, members, ownerEpoch, shared = false }: GroupRecord): SurveyedGroup {
  return { uuid, name, nodes, memberCount: members.length, ownerEpoch, shared };
}

/** From the newest label; a disk that is there is shown where it is now. */
async function describeGroup(disks: readonly LabelledDisk[]): Promise<GroupDescription | null> {
  const labels = await Promise.all(disks.map(({ device }) => readLabel(device).catch(() => null)));
  const records = labels.flatMap((label) => (label?.group === undefined ? [] : [label.group]));
  const record = records.sort((a, b) => b.generation - a.generation)[0];
  if (record === undefined) return null;
  const { uuid, name, shape, generation, nodes, ownerEpoch } = record;
  const ownOf = (disk: string) => labels.find((label) => label?.uuid === disk)?.group;
  const usedRows = record.lus.flatMap(({ runs }) => runs).reduce((sum, { count }) => sum + count, 0);
  return {
    ...{ uuid, name, state: "failed", ...shape, rowsFree: shape.rowCount - usedRows, generation, nodes },
    ownerEpoch,
    disks: record.members.map((member) => describeMember(member, disks, record, ownOf(member.uuid))),
    lus: record.lus.map(({ runs: _, moving: __, ...lu }) => ({ ...lu, groupUuid: uuid })),
    scrub: record.scrub,
    tasks: [],
    sources: [],
    lostBlocks: record.lost.filter(({ kind }) => kind !== "unread").length,
    unreadable: record.lost.filter(({ kind }) => kind === "unread").length,
  };
}

function describeMember(
  member: GroupRecord["members"][number],
  disks: readonly LabelledDisk[],
  record: GroupRecord,
  own: GroupRecord | undefined,
): DiskDescription {
  const found = disks.find(({ uuid }) => uuid === member.uuid);
  const { uuid, number, sizeBytes } = member;
  const { uuid: groupUuid, name: groupName } = record;
  const known = { uuid, number, sizeBytes, groupUuid, groupName };
  if (found === undefined) return { ...known, path: member.path, state: "missing", reason: "not found" };
  const path = found.device.name;
  if (own === undefined || !isPutBack(member, own, record)) return { ...known, path, state: member.state };
  return { ...known, path, state: "stale", reason: putBackText(own, record) };
}

interface GroupArena {
  readonly arena: Arena;
  readonly epoch: number;
  readonly readMemory: BuddyMemory;
}

/**
 * One arena for each group and the file systems on it, given up with the group. What is reserved in an arena stays reserved, so
 * the memory of a group that was taken apart could not be used again in a common one. A page costs nothing until it is touched.
 */
class GroupArenas {
  readonly #byGroup = new Map<string, GroupArena>();
  readonly #byteCount: number;
  readonly #io: IoCounters;
  /** Made ahead, so that a takeover does not wait for it. Untouched pages cost nothing. */
  #spare: Arena | null = null;

  constructor(dataCacheBytes: number, io: IoCounters) {
    this.#io = io;
    const caches = LIMITS.fileSystemsPerGroupMax * dataCacheBytes;
    const wanted = LIMITS.groupBufferBytesMax + LIMITS.readMemoryBytes + caches;
    this.#byteCount = Math.min(wanted, ARENA_BYTES_MAX);
  }

  async forNewGroup(open: (arena: Arena) => Promise<Group>): Promise<Group> {
    const arena = this.#spare ?? new Arena({ byteCount: this.#byteCount });
    this.#spare = null;
    const group = await open(arena);
    const { uuid, ownerEpoch } = group.describe();
    const lent = arena.take(LIMITS.readMemoryBytes, "large reads");
    const readMemory = new BuddyMemory(lent, () => void this.#io.strayReads++);
    this.#byGroup.set(uuid, { arena, epoch: ownerEpoch, readMemory });
    return group;
  }

  /** While nobody waits. */
  prepare(): void {
    this.#spare ??= new Arena({ byteCount: this.#byteCount });
  }

  of(groupUuid: string): Arena {
    return this.#find(groupUuid).arena;
  }

  /** For all file systems of the group: what one does not lend another may. */
  readMemoryOf(groupUuid: string): BuddyMemory {
    return this.#find(groupUuid).readMemory;
  }

  /** Under which the group was opened: what the page stores on it write into their records. */
  epochOf(groupUuid: string): number {
    return this.#find(groupUuid).epoch;
  }

  #find(groupUuid: string): GroupArena {
    const found = this.#byGroup.get(groupUuid);
    if (found === undefined) throw new StorageError("ENODEV", `group ${groupUuid} is not open`);
    return found;
  }
}
