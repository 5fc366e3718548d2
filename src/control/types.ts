import type {
  DiskErrors,
  DiskState,
  GroupCounters,
  GroupState,
  ScrubRecord,
  TaskDescription,
} from "../raid/contract.js";
import type { LoopDelay } from "./loop-watch.js";

export type { TaskDescription } from "../raid/contract.js";

/** What the management API says: plain JSON, the same for the command line, the rig and scripts. */

/**
 * unlabelled: found where the configuration says, never added. partner: the other node of the pair has it, in a group that it serves or in none.
 * The others as in raid/contract.ts.
 */
export type DiskRowState = "unlabelled" | "partner" | DiskState;

/** A row of the physical-disk table. */
export interface DiskRow {
  /** Shown as #001; null while the disk is unlabelled. */
  readonly number: number | null;
  readonly path: string;
  readonly sizeBytes: number;
  /** RAID levels of the LUs on it, ascending; empty when there are none. */
  readonly levels: readonly (1 | 5)[];
  readonly state: DiskRowState;
  readonly group: string | null;
  /** Why it is not online, for people. */
  readonly reason: string | null;
  /** Since its group was opened; of a disk in no group all zero. */
  readonly errors: DiskErrors;
  /** It answers much later than its neighbours. */
  readonly slow: boolean;
}

export interface GroupRow {
  readonly name: string;
  readonly uuid: string;
  readonly state: GroupState;
  /** Disk numbers. */
  readonly disks: readonly number[];
  readonly missingDisks: readonly number[];
  /** Blocks whose content is lost: EIO to read until they are written, or a source turns up. */
  readonly lostBlocks: number;
  /** Places that cannot be read now, neither from their disk nor from the others: waited for, and tried again. */
  readonly unreadable: number;
  readonly chunkBytes: number;
  /** Raw space of all rows over all members. */
  readonly rawBytes: number;
  readonly rawFreeBytes: number;
  readonly generation: number;
  readonly nodes: readonly string[];
  readonly counters: GroupCounters | null;
  readonly scrub: ScrubRecord;
  /** The newest of each kind, under way or ended. */
  readonly tasks: readonly TaskDescription[];
}

/** What an order for background work came to. */
export interface TaskReport {
  /** Blocks that were given up by this order. */
  readonly givenUp?: number;
  readonly group: string;
  readonly groupState: GroupState;
  /** The order began it; false when it is under way already, or there was nothing to do. */
  readonly begun: boolean;
  /** The newest of its kind; null when there was none since the daemon started. */
  readonly task: TaskDescription | null;
  readonly scrub: ScrubRecord;
}

export interface LuRow {
  readonly number: number;
  readonly name: string;
  readonly group: string;
  readonly disks: readonly number[];
  readonly sizeBytes: number;
  readonly level: 1 | 5;
}

/** mounted: served. read-only: every change is refused. failed: not served. Why is in `reason`. */
export interface FileSystemRow {
  readonly name: string;
  readonly group: string;
  readonly state: "mounted" | "read-only" | "failed";
  readonly level: 1 | 5;
  readonly totalBytes: number;
  readonly freeBytes: number;
  readonly totalFiles: number;
  readonly freeFiles: number;
  readonly reason: string | null;
}

export type Squash = "none" | "root" | "all";

/** One rule of an export: who may do what below a path. */
export interface ExportRow {
  /** `/data`: the file system of that name. Clients may mount directories in it, too. */
  readonly path: string;
  /** CIDR or address. */
  readonly client: string;
  readonly readOnly: boolean;
  readonly squash: Squash;
  readonly anonymousUid: number;
  readonly anonymousGid: number;
  /** Only requests from ports below 1024. */
  readonly privilegedPort: boolean;
}

/** not-served: its file system is not, now; clients are asked to wait. */
export interface ListedExport extends ExportRow {
  readonly state: "served" | "not-served";
}

export interface FileRow {
  /** Its path in the file system; bytes that are not UTF-8 or would play with a terminal as \\xNN. */
  readonly name: string;
  /** First block of the file's data on the LU, in bytes; null when it has none. */
  readonly headAddress: number | null;
  readonly sizeBytes: number;
  readonly uid: number;
  /** RFC 3339, UTC. */
  readonly updated: string;
}

/**
 * A lock on a file, or a request for one. held: locked. waiting: in the queue of the file. offered: granted to a request that waited, the client
 * has not confirmed it. share: a share reservation of the whole file.
 */
export interface FileLockRow {
  readonly fileSystem: string;
  readonly name: string;
  readonly state: "held" | "waiting" | "offered" | "share";
  readonly host: string;
  /** Where the client calls from: two clients with one name are two. */
  readonly address: string;
  /** As the client numbers its processes; null for a share reservation. */
  readonly pid: number | null;
  readonly kind: "shared" | "exclusive" | null;
  /** Bytes, decimal text: they may pass what a JSON number holds. */
  readonly first: string | null;
  /** Null: to the end of the file. */
  readonly last: string | null;
}

export interface LocksPage {
  readonly locks: readonly FileLockRow[];
  /** Where the next page begins; null after the last. */
  readonly next: string | null;
}

export interface LuLockRow {
  readonly number: number;
  readonly name: string;
  readonly group: string;
  /** The node that has it open; null: none. */
  readonly node: string | null;
}

/** By the name that it gives itself, by its address, or both; null is any. */
export interface ReleasedClient {
  readonly host: string | null;
  readonly address: string | null;
}

export interface ReleasedLocks extends ReleasedClient {
  readonly held: number;
  readonly waiting: number;
  readonly shares: number;
}

export interface FilesPage {
  readonly files: readonly FileRow[];
  /** Where the next page begins; null after the last. */
  readonly next: string | null;
}

export interface CheckReport {
  readonly name: string;
  readonly clean: boolean;
  readonly problems: readonly string[];
  /** What could not be looked at, and why. */
  readonly notes?: readonly string[];
  /** What was looked at: files, blocks and so on. */
  readonly counts: Readonly<Record<string, number>>;
}

export type Severity = "info" | "warning" | "error";

export interface EventRow {
  /** Rises by one; a gap means that older events were dropped. */
  readonly number: number;
  /** RFC 3339, UTC. */
  readonly time: string;
  readonly severity: Severity;
  readonly kind: string;
  readonly what: string;
  readonly detail: Readonly<Record<string, unknown>>;
}

export interface ServiceRow {
  readonly host: string;
  readonly nfsPort: number | null;
  readonly nbdPort: number | null;
  readonly httpPort: number | null;
}

export type NodeRole = "active" | "standby";

/** A node of a pair as this one sees it. */
export interface NodeRow {
  readonly name: string;
  readonly role: NodeRole | "away";
  readonly pid: number | null;
  readonly version: string | null;
  /** Names of groups. */
  readonly serves: readonly string[];
  readonly service: { readonly host: string; readonly port: number } | null;
  /** Since it was last heard; 0 for this node, null when it never was. */
  readonly silentMs: number | null;
  /** Why it could not take over now, a sentence each; empty when it could, null when that is not known. */
  readonly trouble: readonly string[] | null;
}

/** A group of a pair: who serves it in normal work, and who does now. */
export interface PairGroupRow {
  readonly name: string;
  readonly home: string;
  readonly servedBy: string | null;
  /** As the node says that serves it; null: nobody does. */
  readonly state: GroupState | null;
  readonly epoch: number | null;
  /** Why this node could not take it; null when it did not try. */
  readonly trouble: string | null;
}

export interface PairRow {
  readonly nodes: readonly NodeRow[];
  readonly groups: readonly PairGroupRow[];
}

/** Connections of clients by who is at the other end, and the memory that is held for them. */
export interface ClientsRow {
  /** From addresses that an export admits, and from others. */
  readonly admitted: number;
  readonly strangers: number;
  readonly addresses: number;
  /** Of requests that are not complete, of requests being worked on, and of replies that have not left. */
  readonly receivedBytes: number;
  readonly queuedBytes: number;
  readonly lentBytes: number;
  /** Connections that were refused, or ended for what they held, since the start. */
  readonly refused: number;
}

export interface StatusReport {
  readonly node: string;
  /** standby: it serves no group now, and watches its partner's. */
  readonly role: NodeRole;
  readonly pid: number;
  readonly version: string;
  readonly upSeconds: number;
  readonly residentBytes: number;
  readonly eventLoop: LoopDelay;
  /** clean: nothing to do. degraded: served, redundancy lost. failed: something is not served. */
  readonly state: GroupState;
  /** What an administrator should know, one sentence each. */
  readonly warnings: readonly string[];
  /** null: this node has no partner. */
  readonly pair: PairRow | null;
  readonly socket: string;
  readonly service: ServiceRow;
  readonly clients: ClientsRow;
  readonly disks: readonly DiskRow[];
  readonly groups: readonly GroupRow[];
  readonly lus: readonly LuRow[];
  readonly fileSystems: readonly FileSystemRow[];
  readonly exports: readonly ListedExport[];
}

/** A member of a shared group, as this node sees it. */
export interface SharedMemberRow {
  readonly number: number;
  readonly path: string;
  readonly sizeBytes: number;
  readonly state: "online" | "missing" | "failed";
  readonly reason: string | null;
}

/** The partition of a node on a shared group. */
export interface PartitionRow {
  readonly node: string;
  /** Who wrote its header last; empty: nobody yet. */
  readonly writer: string;
  /** That one has closed it since. */
  readonly closed: boolean;
  readonly generation: number;
  readonly epoch: number;
  /** Disk numbers of the copies that have everything, and of the others. */
  readonly current: readonly number[];
  readonly behind: readonly number[];
  readonly sizeBytes: number;
}

export interface SharedGroupRow {
  readonly name: string;
  readonly role: "primary" | "backup";
  readonly uuid: string;
  /** Which nodes may open it. */
  readonly nodes: readonly string[];
  readonly members: readonly SharedMemberRow[];
  readonly partitions: readonly PartitionRow[];
}

export interface RecordRow {
  readonly key: string;
  readonly value: Readonly<Record<string, unknown>>;
  /** RFC 3339, UTC: of its last change. */
  readonly updated: string;
}

/** What a node has written about itself. */
export interface NodeRecordsReport {
  readonly node: string;
  /** The group that it was read from: the newer of the two. */
  readonly group: string;
  readonly epoch: number;
  /** Commits so far. */
  readonly sequence: number;
  readonly client: readonly RecordRow[];
  readonly user: readonly RecordRow[];
  readonly service: readonly RecordRow[];
  readonly daemon: readonly RecordRow[];
  /** Records that only a newer version understands. */
  readonly unknown: number;
}

/** A backup that was begun here. */
export interface BackupRow {
  /** 32 hexadecimal digits. */
  readonly backup: string;
  readonly kind: "file-system" | "shared";
  readonly name: string;
  /** The one that it adds to; null: it is full. */
  readonly parent: string | null;
  /** "" when a person ordered it, else the target of its schedule. */
  readonly series: string;
  /** RFC 3339, UTC: the moment that it shows. */
  readonly time: string;
  readonly target: string;
  /** Of the target; null until it is finished. */
  readonly bytes: number | null;
  readonly state: "running" | "broken-off" | "finished";
  /** RFC 3339, UTC: when it was last proven whole. */
  readonly verified: string | null;
}

/** A backup that the configuration orders. */
export interface BackupScheduleRow {
  /** null: the shared LU. */
  readonly fileSystem: string | null;
  readonly to: string;
  readonly everySeconds: number;
  readonly keep: number;
  /** RFC 3339, UTC: the next one; null while this node does not serve the file system. */
  readonly next: string | null;
  /** Why the last attempt failed. */
  readonly failure: string | null;
}

export interface BackupReport {
  readonly backups: readonly BackupRow[];
  readonly schedules: readonly BackupScheduleRow[];
}

/** The one shape of an error. */
export interface ErrorBody {
  readonly error: { readonly code: string; readonly message: string };
}
