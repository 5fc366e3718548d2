import type { BlockDevice } from "../device/device.js";
import type { LuByte } from "../lib/units.js";

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
  /** Bytes; a multiple of `stripeBytes`. */
  readonly sizeBytes: number;
  /** The size and alignment of the cheapest write: a whole stripe's data (RAID-5), or one chunk (RAID-1). */
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
  deleteLu(number: number): Promise<void>;
  /** The same object for every caller; EIO when the group has failed. */
  openLu(number: number): LogicalUnit;
  /** Flush everything, mark the labels clean, stop timers, close the devices. */
  close(): Promise<void>;
}
