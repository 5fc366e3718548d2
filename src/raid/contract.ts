import type { BlockDevice } from "../device/device.js";
import type { LuByte } from "../lib/units.js";

/**
 * rebuild: make a member's content right. scrub: read and compare everything. grow: spread LUs over more members. resync: make copies and parity
 * agree where an unclean stop may have left them apart.
 */
export type TaskKind = "rebuild" | "scrub" | "grow" | "resync";

/** running: at work. paused: by a person, until resumed. done, failed, cancelled: how it ended; kept until the next one of its kind. */
export type TaskState = "running" | "paused" | "done" | "failed" | "cancelled";

/** Work in the background of a group, as people see it. */
export interface TaskDescription {
  readonly kind: TaskKind;
  readonly state: TaskState;
  /** The disk that is rebuilt, or was added. */
  readonly disk?: number;
  /** Of each member; restarted work begins where it was. */
  readonly doneBytes: number;
  readonly totalBytes: number;
  /** Over the last seconds; 0 unless running. */
  readonly bytesPerSecond: number;
  /** null while nothing can be said. */
  readonly secondsLeft: number | null;
  /** Of a scrub: places that were wrong, and how many of them are right again. Of a rebuild: blocks that were given up. */
  readonly found: number;
  readonly healed: number;
  /** Milliseconds since 1970. */
  readonly startedMs: number;
  readonly endedMs?: number;
  /** Why it failed, or waits, for people. */
  readonly reason?: string;
}

/** What a scrub does, and who is asked about blocks. */
export interface ScrubOptions {
  /** false: only report. A scrub that goes on heals nothing either when it was begun with false, or was gone on with so. */
  readonly heal: boolean;
  /** By LU number. Closed when the scrub ends, however, and when it is refused. */
  readonly inspectors: ReadonlyMap<number, BlockInspector>;
}

/** A place of an LU on one disk that was wrong. */
export interface LuFault {
  readonly disk: number;
  /** Byte on the disk. */
  readonly position: number;
  readonly lu: number;
  /** Byte of the LU; null: of none. */
  readonly at: number | null;
  /** As a scrub has it: checksum, parity, copy, unreadable. */
  readonly what: string;
  /** For people. */
  readonly done: string;
  readonly healed: boolean;
  readonly file: string | null;
}

/** What became of comparing an LU. */
export interface LuComparison {
  /** The first of each kind. */
  readonly faults: readonly LuFault[];
  /** All places that hold something else than they should. */
  readonly wrong: number;
  /** All places that their disk does not give out now; what stands there is not known to be wrong. */
  readonly unreadable: number;
  /** Why it could not be compared to its end: a disk is away. null: it was. */
  readonly why: string | null;
}

/** When a group is scrubbed by itself, and how the last time went; on the labels. */
export interface ScrubRecord {
  /** Seconds from one start to the next; 0: never by itself. */
  readonly everySeconds: number;
  /** Milliseconds since 1970; 0: never. */
  readonly startedMs: number;
  readonly finishedMs: number;
  /** Byte of the members' row space up to which a scrub that has not ended got. */
  readonly atBytes: number;
  /** idle: none is under way. running: goes on at the next start of the daemon. paused: waits for a person. */
  readonly state: "idle" | "running" | "paused";
  /** false: it only reports. */
  readonly heal: boolean;
  readonly found: number;
  readonly healed: number;
}

/** Who knows more about the blocks of an LU than redundancy does: the file system or page store on it. */
export interface BlockInspector {
  /** How many bytes of the LU `prepare` can take at once within its bounds of memory. */
  readonly sliceBytes: number;
  /** Load what `suspects` needs for [from, to). Called with ascending slices, adjacent within a run of rows; the first need not begin at 0. */
  prepare(from: LuByte, to: LuByte): Promise<void>;
  /** Calls `bad` for each block of `data`, read from LU byte `at`, whose checksum is known and does not match. Allocates nothing when all is well. */
  suspects(data: Buffer, at: LuByte, bad: (at: LuByte) => void): void;
  /**
   * The final word on one block, from what is valid now: it may have been freed or written again since `prepare`.
   * unknown: nobody owns it, or its owner keeps no checksum of it. Called, as `nameOf`, while nobody can write there: it must not wait for
   * a write or flush of the LU.
   */
  judge(block: Buffer, at: LuByte): Promise<"good" | "bad" | "unknown">;
  /** For people: `/dir/file (block 17)`, or null when nobody owns the block. Of a file with several names, one. */
  nameOf(at: LuByte): Promise<string | null>;
  /** What was loaded may go. */
  close(): void;
}

/**
 * Parts that are switched off: for the simulator, which must notice, and for the benchmark, which shows what they cost.
 * journal: partial stripes are written in place without a record. bitmap: nothing is marked, nothing made consistent after a crash.
 * parity: that of partial stripes is not updated. generation: a disk that the others call online is believed, however old its own label is.
 * stale: any disk is believed, also one that the others know to have missed writes. transient: what cannot be read now is given up at once.
 * source: after a restart the old disk of a replacement is believed also where something was written since it left.
 */
export interface Without {
  readonly journal?: boolean;
  readonly bitmap?: boolean;
  readonly parity?: boolean;
  readonly generation?: boolean;
  readonly stale?: boolean;
  readonly transient?: boolean;
  readonly source?: boolean;
}

/** An LU that is to be made. */
export interface NewLu {
  readonly name: string;
  readonly level: 1 | 5;
  readonly sizeBytes: number | "max";
}

/** What is known of an LU by everyone who sees it; kept on the labels. */
export interface LuDescription {
  /** 1-based, unique in the group. */
  readonly number: number;
  readonly uuid: string;
  /** Chosen by the administrator, unique in the group: `data`, `data.meta`. */
  readonly name: string;
  readonly level: 1 | 5;
  readonly sizeBytes: number;
  readonly groupUuid: string;
  /** Members that it is spread over: the first so many of the group. */
  readonly width: number;
}

/**
 * A logical unit: an address range on a group that behaves like one reliable disk with a volatile write cache.
 *
 * - Positions and lengths are multiples of 4096; anything else is EINVAL. Out of range is EINVAL.
 * - A write is seen by every later read at once. It is durable after a `flush` that began after the write resolved.
 *   After a crash a block that was being written and not flushed is unspecified (old, new, or a mixture of sectors, but the same at
 *   every read until it is written again, also after the loss of a member); no other block changes (I-1).
 * - The caller may reuse its buffers as soon as the promise settles.
 * - Buffers in the arena (parity/arena.ts) are used in place; others are copied where parity or direct I/O needs it.
 * - A block that cannot be proven is EIO, never made-up data (I-3). ESTALE: this node is no longer the owner (I-6).
 * - Concurrent writes to the same block have no defined order.
 */
export interface LogicalUnit {
  readonly description: LuDescription;
  /** Bytes; rises when the LU is resized, at once for who asks again. */
  readonly sizeBytes: number;
  /** The size and alignment of the cheapest write: a whole stripe's data (RAID-5), or one chunk (RAID-1). A group that grew has another. */
  readonly stripeBytes: number;

  read(target: Buffer, at: LuByte): Promise<void>;
  readv(targets: readonly Buffer[], at: LuByte): Promise<void>;
  write(source: Buffer, at: LuByte): Promise<void>;
  writev(sources: readonly Buffer[], at: LuByte): Promise<void>;
  /** As `writev`, and this range is durable when it resolves, without waiting for other unflushed writes (FUA). */
  writeThrough(sources: readonly Buffer[], at: LuByte): Promise<void>;
  /** Everything whose write resolved before this call is durable when it resolves. Concurrent flushes share one. */
  flush(): Promise<void>;
  /**
   * Every other way to obtain one block (the other copy, or the XOR of the other members), one after another, for a caller who
   * knows the checksum. `target` (4096 bytes) is overwritten at each step; stop when it is good, then `heal` it.
   */
  readAlternatives(target: Buffer, at: LuByte): AsyncIterable<void>;
  /** Rewrite one block that was found bad with its proven content, on the member that holds it (and its parity or copy). */
  heal(good: Buffer, at: LuByte): Promise<void>;
  /** Flush and release. */
  close(): Promise<void>;
}

/**
 * unused: labelled, in no group. spare: unused, and taken by itself when a member of a group is lost. online: read and written.
 * rebuilding: written, read by nobody until everything on it is right. missing: not found, or pulled out. stale: missed writes, also because it was left out while it was slow.
 * failed: gave too many errors, or a person took it out of use.
 */
export type DiskState = "unused" | "spare" | "online" | "rebuilding" | "missing" | "stale" | "failed";

/** Counted since the group was opened. */
export interface DiskErrors {
  /** Reads that the disk refused. */
  readonly read: number;
  readonly write: number;
  /** Blocks that it returned and that were not what was written there. */
  readonly checksum: number;
  /** Blocks written again with what they should hold, after one of the above. */
  readonly repaired: number;
}

/** One row of the physical-disk table. */
export interface DiskDescription {
  /** Shown as #001; given when the disk is added, kept on the label. */
  readonly number: number;
  readonly uuid: string;
  /** Last known path. */
  readonly path: string;
  readonly sizeBytes: number;
  readonly state: DiskState;
  readonly groupUuid?: string;
  readonly groupName?: string;
  /** Why it is not online, for people. */
  readonly reason?: string;
  /** Of a member of an open group. */
  readonly errors?: DiskErrors;
  /** It answers much later than its neighbours, and is read only when there is no other way; when it is stale: not used at all for that. */
  readonly slow?: boolean;
}

/**
 * clean: all members online, and every block proven. degraded: redundancy is not whole, or some blocks are lost or cannot be read now. failed: more
 * members lost than the group can bear; nothing is served.
 */
export type GroupState = "clean" | "degraded" | "failed";

export interface GroupDescription {
  readonly uuid: string;
  readonly name: string;
  readonly state: GroupState;
  readonly chunkBytes: number;
  readonly rowBytes: number;
  readonly rowCount: number;
  readonly rowsFree: number;
  readonly generation: number;
  /** Which nodes may open it; empty: any. */
  readonly nodes: readonly string[];
  /** Under which it is open. */
  readonly ownerEpoch: number;
  readonly disks: readonly DiskDescription[];
  /** By uuid: old disks that the group has open as sources of what their successors lack. */
  readonly sources: readonly string[];
  readonly lus: readonly LuDescription[];
  readonly scrub: ScrubRecord;
  readonly tasks: readonly TaskDescription[];
  /** Blocks whose content is lost: to read one is EIO until it is written, or a source turns up. */
  readonly lostBlocks: number;
  /** Places that cannot be read now and that redundancy cannot tell either: waited for, and tried again. */
  readonly unreadable: number;
}

/** A disk that carries one of our labels: an open device and what its label says. */
export interface LabelledDisk {
  readonly device: BlockDevice;
  readonly uuid: string;
  readonly number: number;
  /** Absent while the disk is in no group. */
  readonly groupUuid?: string;
  readonly groupName?: string;
  /** In no group, and to be taken by itself when a member is lost. */
  readonly spare?: boolean;
  /** A member of a shared group: other nodes have it open too. */
  readonly shared?: boolean;
}

export interface GroupCounters {
  readonly fullStripeWrites: number;
  readonly partialStripeWrites: number;
  readonly journalRecords: number;
  readonly degradedReads: number;
  /** Stripes among them that were read whole, each other member once. */
  readonly degradedStripes: number;
  readonly healedBlocks: number;
  readonly flushes: number;
  readonly bitmapWrites: number;
}

/**
 * What an event of a group looks like to the outside (control/ turns it into events and log lines).
 * member-failed: not read or written any more; `detail.gone` when it was pulled out. member-released: its device is closed, the path is free.
 * member-acquitted: it was failed for its errors, and another node has it: what failed is the path.
 * member-left-out: persistently slower than the others, and not read or written until it is well; its device stays open.
 * member-stale: found at assembly, and not read: it missed writes. copy-passed-over: `detail.path` is what `detail.used` was at an earlier time. member-slow, member-well: answers late, answers in time again. read-error: one place could not be read (`detail.position`).
 * healed: a block that a read found bad was written again (`disk`, `detail.position` on the disk, `detail.lu`, `detail.at`, `detail.file`).
 * scrub-fault: a scrub found a place that is wrong (as healed, with `detail.what`: checksum, parity, copy, unreadable or label,
 * `detail.healed`, and `detail.done`, for people); what: more, at the end, tells of `detail.untold` places beyond a thousand events.
 * lost-blocks: the block at this place (`detail.lu`, `detail.at`) was given up. unread-block: it cannot be read now, and takes no part in the parity.
 * block-back: one of them could be read again, or was found elsewhere. rebuild-waits: for disk `detail.for`, unreadable at `detail.position`;
 * rebuild-goes-on: for nothing any more. disk-lent: a disk of old is a source for what its successor lacks.
 * task-started, task-ended: `detail` is the TaskDescription.
 */
export interface GroupEvent {
  readonly kind:
    | "member-failed"
    | "member-released"
    | "member-acquitted"
    | "member-left-out"
    | "member-slow"
    | "member-well"
    | "member-stale"
    | "copy-passed-over"
    | "member-returned"
    | "member-replaced"
    | "read-error"
    | "degraded"
    | "complete"
    | "failed"
    | "replayed"
    | "resynced"
    | "healed"
    | "scrub-fault"
    | "lost-blocks"
    | "unread-block"
    | "block-back"
    | "rebuild-waits"
    | "rebuild-goes-on"
    | "disk-lent"
    | "task-started"
    | "task-ended";
  readonly group: string;
  readonly disk?: number;
  readonly detail: Readonly<Record<string, unknown>>;
}

/** A set of disks cut into rows. Implemented by raid/group.ts (members, rows) and lu/group.ts (LUs). */
export interface Group {
  describe(): GroupDescription;
  counters(): GroupCounters;
  /**
   * Create an LU of at least `sizeBytes` ("max": all rows that are free), in whole rows, and record it on every label.
   * ENOSPC names what is free; EEXIST when the name is taken; EINVAL for a level that the member count does not allow
   * (RAID-5 from 3 members, RAID-1 from 2).
   */
  createLu(name: string, level: 1 | 5, sizeBytes: number | "max"): Promise<LuDescription>;
  /** @throws StorageError why `createLu` would refuse one of these, made in this order; nothing is written */
  checkLus(wanted: readonly NewLu[]): void;
  /** EBUSY while it is open (`openLu` without `close`). */
  deleteLu(number: number): Promise<void>;
  /**
   * More or fewer rows at the end; what is kept keeps its place. Larger while it is open; smaller only while it is not (EBUSY).
   * ENOSPC names what is free.
   */
  resizeLu(number: number, sizeBytes: number | "max"): Promise<LuDescription>;
  /** The same object for every caller; EIO when the group has failed. */
  openLu(number: number): LogicalUnit;

  /**
   * Give up whatever is waited for because it cannot be read now: it is tried once more, and what cannot be read then is lost. What stands on members
   * that cannot be read is not overwritten: should it be readable later, it is taken back. ENOENT: nothing is waited for; EIO: too much.
   * @returns how many blocks are lost by it
   */
  giveUp(): Promise<number>;
  /**
   * An old disk whose place another has: where it is proven to be current it is a source for what that one lacks. The group owns its device from here on,
   * and lets go of it when it is not wanted any more (member-released). EINVAL: nothing is wanted of it, or it cannot be believed.
   */
  lendDisk(disk: LabelledDisk): Promise<void>;
  /** Stop using an online member. EBUSY when the group would not bear that; ENOENT. */
  failDisk(number: number): Promise<void>;
  /**
   * `disk` (unused or spare) takes the place of member `number`, and is rebuilt in the background. The group owns its device from here on. A member
   * that is in use is a source until that is done, and let go of then. EBUSY: it is in use and another is not, or one is being rebuilt; ENOSPC: too
   * small; EEXIST: in a group already.
   */
  replaceDisk(number: number, disk: LabelledDisk): Promise<void>;
  /** @throws StorageError why `replaceDisk` would refuse a disk that has no label yet: before anything is written on it */
  checkReplacement(number: number, sizeBytes: number): void;
  /**
   * A member that was away is there again, under whatever path: what it missed is written on it in the background, and it is online when that is
   * done. The group owns its device from here on. EINVAL: not a member of this group, or shrunk; EBUSY: its place is filled;
   * EACCES: it failed, or is a disk that went on without us: `force` insists; EIO: it cannot be written now.
   */
  returnDisk(disk: LabelledDisk, force?: boolean): Promise<void>;
  /** One more member, at the end. New rows are spread over all; LUs of RAID-5 are spread anew in the background. As replaceDisk. */
  growDisk(disk: LabelledDisk): Promise<void>;

  /**
   * Ask the members in use (or one of them) whether they are there: one that was pulled out while nobody used it is noticed, and let go
   * before this resolves. One that was failed for its errors, and that another node has, is missing from then on; nothing else is judged by it. Slow disks are
   * waited for. Never rejects.
   */
  probe(number?: number): Promise<void>;
  /** Begin, or go on with, a scrub. EBUSY while one runs; EIO. */
  scrub(options: ScrubOptions): Promise<void>;
  /**
   * Read all copies, or data and parity, of one LU, compare them and heal what is proven, as a scrub of the whole group does. The inspector stays the
   * caller's.
   */
  compareLu(number: number, inspector: BlockInspector | null): Promise<LuComparison>;
  /** How often it is to begin by itself; control/ starts it. */
  scheduleScrub(everySeconds: number): Promise<void>;
  /** ENOENT when no such task is under way. Paused work stays paused over a restart (a scrub), or goes on (rebuild, grow). */
  pauseTask(kind: TaskKind): Promise<void>;
  resumeTask(kind: TaskKind): Promise<void>;
  /** Only a scrub can be given up. EINVAL */
  cancelTask(kind: TaskKind): Promise<void>;

  /**
   * The first step of `close`, for whoever takes down what stands on the group before it (inspectors): work in the background ends after its step
   * under way, as at a stop of the daemon, and goes on from there at the next start.
   */
  stopTasks(): Promise<void>;
  /** Flush everything, mark the labels clean, stop timers, close the devices. */
  close(): Promise<void>;
}
