import type { BlockDevice } from "../device/device.js";
import type { Restorer } from "../fs/snapshot/restorer.js";
import type { Snapshot } from "../fs/snapshot/snapshot.js";
import type { FileSystem } from "../fs/vfs.js";
import type { NewSharedGroup, SharedGroup, SharedGroupEvent } from "../ha/shared/group.js";
import type { MirroredNodeRecords, MirrorOptions } from "../ha/shared/mirrored-records.js";
import type { PartitionLu } from "../ha/shared/partition.js";
import type { NodeRecordsView } from "../ha/shared/read-records.js";
import type { LogicalUnit } from "../lu/lu.js";
import type { BlockInspector, Group, GroupDescription, GroupEvent, LabelledDisk } from "../raid/contract.js";
import type { CheckReport, ExportRow, FilesPage } from "./types.js";

/** What a cabinet asks of the layers below. main.ts binds the real ones; tests bind small ones in memory. */
export interface StorageLayers {
  /** Whether anything is at the path; nothing is opened. */
  exists(path: string): boolean;
  /** Under an exclusive lock; EBUSY names the holder. */
  openDevice(path: string): Promise<BlockDevice>;
  /** Under a shared lock: a member of a shared group, which other nodes have open too. */
  openShared(path: string): Promise<BlockDevice>;
  /** Without a lock, to look at what somebody else holds. */
  openReadOnly(path: string): Promise<BlockDevice>;
  /** As it is now, whoever has it; null: it cannot be seen. */
  sizeOf(path: string): Promise<number | null>;
  /** What the label at a path says, looked at without a lock; null when it carries none of ours, or cannot be read now. */
  surveyDisk(path: string): Promise<SurveyedDisk | null>;
  /** What another system keeps on it ("ext4 file system"), or null. */
  identify(device: BlockDevice): Promise<string | null>;
  /** Null when it carries none of our labels. */
  readLabel(device: BlockDevice): Promise<LabelledDisk | null>;
  initDisk(device: BlockDevice, label: NewLabel): Promise<LabelledDisk>;
  /** Take our labels off a disk. */
  wipeDisk(device: BlockDevice): Promise<void>;
  createGroup(disks: readonly LabelledDisk[], options: NewGroup): Promise<Group>;
  /**
   * The group owns the disks that it uses (online, rebuilding) from here on and closes them; the others stay the caller's.
   * @param force  choose one half where two halves of a group were used apart
   */
  assembleGroup(disks: readonly LabelledDisk[], onEvent: (event: GroupEvent) => void, force: boolean): Promise<Group>;
  /** What the labels say of the group of these disks, when it could not be assembled; null when not even that can be read. */
  describeGroup(disks: readonly LabelledDisk[]): Promise<GroupDescription | null>;
  readonly shared: SharedLayers;
  /** Make ahead what the next group to be assembled needs: called while nobody waits. */
  prepare?(): void;
  formatFileSystem(name: string, lus: FileSystemLus, root: NewRoot): Promise<void>;
  /** @param readOnly  as its last durable commit left it: nothing is written to its LUs */
  mountFileSystem(
    lus: FileSystemLus,
    onEvent: (event: FileSystemEvent) => void,
    readOnly: boolean,
  ): Promise<ServedFileSystem>;
}

/** Groups that two nodes have open at once, and the records on them. */
export interface SharedLayers {
  /** The disks are labelled, and still open: they have to be opened anew, under a shared lock. */
  create(disks: readonly LabelledDisk[], options: Omit<NewSharedGroup, "random">): Promise<void>;
  /** The group owns the disks from here on, but for those that it does not use. */
  open(
    disks: readonly LabelledDisk[],
    onEvent: (event: SharedGroupEvent) => void,
  ): Promise<{ group: SharedGroup; unused: readonly LabelledDisk[] }>;
  openRecords(options: RecordPlaces): Promise<MirroredNodeRecords>;
  /** Of any node, while it writes them; null when it has none. */
  readRecords(partition: PartitionLu): Promise<NodeRecordsView | null>;
}

export type RecordPlaces = Pick<MirrorOptions, "node" | "epoch" | "places" | "onEvent" | "onRefused">;
/** A disk as its label shows it, whoever uses it. */
export interface SurveyedDisk {
  readonly path: string;
  readonly number: number;
  readonly sizeBytes: number;
  readonly group: SurveyedGroup | null;
}

export interface SurveyedGroup {
  readonly uuid: string;
  readonly name: string;
  readonly nodes: readonly string[];
  readonly memberCount: number;
  /** Under which it was last written. */
  readonly ownerEpoch: number;
  /** Both nodes have it open; nobody owns it. */
  readonly shared: boolean;
}

export interface NewLabel {
  readonly number: number;
  /** To be taken by itself when a member of a group is lost. */
  readonly spare: boolean;
  /** Also when it is labelled as a member of a group. */
  readonly force: boolean;
}

export interface NewGroup {
  readonly name: string;
  readonly chunkBytes?: number | undefined;
  readonly rowBytes?: number | undefined;
  /** Which may open it, the one that serves it in normal work first; empty: any. */
  readonly nodes?: readonly string[] | undefined;
  readonly onEvent: (event: GroupEvent) => void;
}

export interface NewRoot {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
}

export interface FileSystemLus {
  readonly metadataLu: LogicalUnit;
  readonly dataLu: LogicalUnit;
}

export interface FileSystemEvent {
  readonly kind: string;
  readonly detail: Readonly<Record<string, unknown>>;
}

/** A mounted file system, as far as administration goes. */
export interface ServedFileSystem {
  readonly fileSystem: FileSystem;
  /** Every change is refused. */
  readonly readOnly: boolean;
  getSetting(key: string): string | null;
  setSetting(key: string, value: string): Promise<void>;
  /** @param data  read every block and verify its checksum too */
  check(options: { readonly data: boolean }): Promise<Omit<CheckReport, "name">>;
  listFiles(after: string | null, limit: number): FilesPage | Promise<FilesPage>;
  /** What a file is called, from the root; "inode 7" when it has no name any more. */
  nameOf(ino: number): Promise<string>;
  /** Who knows the blocks of its two LUs, by LU number, for one scrub; the caller closes them. */
  inspectors(): ReadonlyMap<number, BlockInspector>;
  /** After its data LU was resized: use all of it. Nothing when it has not grown. What the metadata LU grows by is never used. */
  grow(): Promise<void>;
  /** Write out what waits in memory, while it serves: closing is quick afterwards. */
  settle(): Promise<void>;
  /** As one commit left it, while it goes on serving. Whoever took it closes it. EBUSY, ENOSPC (scratch folder), EIO */
  snapshot(): Promise<Snapshot>;
  /** Fills it from a backup, while nobody is served from it; it is closed and mounted anew afterwards. */
  restorer(): Restorer;
  /** Nothing but the root directory is there. */
  isEmpty(): boolean;
  /** Why it does less than it should, though it is served; null: nothing is in the way. */
  trouble?(): string | null;
  /** Name to value; counters and gauges for /metrics. */
  statistics(): Readonly<Record<string, number>>;
  close(): Promise<void>;
}

/** Where exports become visible to clients. */
export interface ExportSink {
  /** Replaces what was published for this file system. */
  publish(fileSystem: FileSystem, rules: readonly ExportRow[]): void;
  withdraw(fileSystem: FileSystem): void;
  /** Names of all file systems that exist and are not served now: their clients are asked to wait. */
  setUnserved(fileSystems: readonly string[]): void;
}
