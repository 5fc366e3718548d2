import type { BlockDevice } from "../device/device.js";
import type { LogicalUnit, LuDescription } from "../lu/lu.js";

/** unused: labelled, in no group. online: read and written. missing: not found. stale: missed writes, waits for rebuild. failed: gave too many errors. */
export type DiskState = "unused" | "online" | "missing" | "stale" | "failed";

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
}

/** clean: all members online. degraded: data complete, redundancy not. failed: data incomplete; nothing is served. */
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
  readonly disks: readonly DiskDescription[];
  readonly lus: readonly LuDescription[];
}

/** A disk that carries one of our labels: an open device and what its label says. */
export interface LabelledDisk {
  readonly device: BlockDevice;
  readonly uuid: string;
  readonly number: number;
  /** Absent while the disk is in no group. */
  readonly groupUuid?: string;
}

export interface GroupCounters {
  readonly fullStripeWrites: number;
  readonly partialStripeWrites: number;
  readonly journalRecords: number;
  readonly degradedReads: number;
  readonly healedBlocks: number;
  readonly flushes: number;
}

/** What an event of a group looks like to the outside (control/ turns it into events and log lines). */
export interface GroupEvent {
  readonly kind: "member-failed" | "degraded" | "failed" | "replayed" | "resynced" | "healed";
  readonly group: string;
  readonly disk?: number;
  readonly detail: Readonly<Record<string, unknown>>;
}

/** A set of disks cut into rows. Implemented by raid/group.ts. */
export interface Group {
  describe(): GroupDescription;
  counters(): GroupCounters;
  /**
   * Create an LU of at least `sizeBytes` ("max": all rows that are free), in whole rows, and record it on every label.
   * ENOSPC names what is free; EEXIST when the name is taken; EINVAL for a level that the member count does not allow
   * (RAID-5 from 3 members, RAID-1 from 2).
   */
  createLu(name: string, level: 1 | 5, sizeBytes: number | "max"): Promise<LuDescription>;
  deleteLu(number: number): Promise<void>;
  /** The same object for every caller; EIO when the group has failed. */
  openLu(number: number): LogicalUnit;
  /** Flush everything, mark the labels clean, stop timers, close the devices. */
  close(): Promise<void>;
}
