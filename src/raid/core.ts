import type { Clock } from "../lib/clock.js";
import type { Logger } from "../lib/log.js";
import type { Arena } from "../parity/arena.js";
import type { BandPool } from "./band-pool.js";
import type { WriteIntentBitmap } from "./bitmap.js";
import type { GroupEvent, Without } from "./contract.js";
import type { Journal } from "./journal.js";
import type { GroupShape } from "./layout.js";
import type { Losses } from "./losses.js";
import type { LostBlocks } from "./lost-blocks.js";
import type { Member } from "./member.js";
import type { Pace } from "./pace.js";
import type { RowsToRebuild } from "./rebuild-rows.js";
import type { ScrubRun } from "./scrub-run.js";
import type { StripeCache } from "./stripe-cache.js";
import type { UnsettledRegions } from "./unsettled.js";
import type { Workspace } from "./workspace.js";

/** Counted by the arrays, read by whoever describes the group. */
export interface MutableCounters {
  fullStripeWrites: number;
  partialStripeWrites: number;
  journalRecords: number;
  degradedReads: number;
  degradedStripes: number;
  healedBlocks: number;
  flushes: number;
  bitmapWrites: number;
}

/** What the arrays of a group share and ask of it. Implemented by group.ts. */
export interface GroupCore {
  readonly uuid: string;
  readonly name: string;
  readonly shape: GroupShape;
  readonly members: readonly Member[];
  readonly arena: Arena;
  /** Buffers of one band each, in the arena: parity, gathering, reconstruction. */
  readonly bands: BandPool;
  readonly bitmap: WriteIntentBitmap;
  /** Where copies and parity may disagree since an unclean stop: to be settled before they are relied on. */
  readonly unsettled: UnsettledRegions;
  readonly journal: Journal;
  readonly cache: StripeCache;
  /** What redundancy cannot prove. */
  readonly lost: LostBlocks;
  readonly losses: Losses;
  readonly clock: Clock;
  readonly log: Logger;
  readonly counters: MutableCounters;
  readonly pace: Pace;
  readonly workspace: Workspace;
  readonly without: Without;

  /** @throws StorageError ESTALE when this node is no longer the owner */
  guard(): void;
  /** @throws StorageError EIO when more members are lost than the group can bear */
  assertAlive(): void;
  /**
   * To be awaited, unless null, before anything is written to a member: the labels say then that the group is in use, and which
   * members miss what follows.
   */
  writable(): Promise<void> | null;
  /** To be awaited, unless null, before a flush is acknowledged: a member's failure is on the labels of the others (I-2). */
  labelsSettled(): Promise<void> | null;
  emit(kind: GroupEvent["kind"], detail: Readonly<Record<string, unknown>>, disk?: number): void;
}

/** One LU's address range with redundancy; lu/ adds the checks that callers rely on. Bounds and alignment hold already. */
export interface RaidArray {
  readonly sizeBytes: number;
  readonly stripeBytes: number;
  /** What is not settled yet is settled first: what a block reads as does not change afterwards. */
  readv(targets: readonly Buffer[], at: number): Promise<void>;
  writev(sources: readonly Buffer[], at: number): Promise<void>;
  writeThrough(sources: readonly Buffer[], at: number): Promise<void>;
  flush(): Promise<void>;
  readAlternatives(target: Buffer, at: number): AsyncIterable<void>;
  heal(good: Buffer, at: number): Promise<void>;
  /**
   * Run `action` while nobody writes the chunk rows [from, to) of the array's member space: what the members hold there is settled, consistent and
   * stays so. Newer content may be in memory or in the journal. Both are multiples of two chunks.
   */
  exclusive<T>(from: number, to: number, action: () => Promise<T>): Promise<T>;
  /** Write what a member that is being rebuilt should hold, from the others. @returns blocks that were given up */
  rebuild(rows: RowsToRebuild): Promise<number>;
  /**
   * A source may have turned up for a block that is lost or unread: it is looked at again, and taken back.
   * @param at  byte of the LU
   * @returns whether it is neither any more
   */
  takeBack(at: number): Promise<boolean>;
  /** Everything in place on the members, nothing left in memory or only in the journal. */
  drain(): Promise<void>;
  /**
   * Settle the chunk rows [from, to) of the array's member space after an unclean stop, as far as they are not: redundancy agrees with data when it
   * resolves. Beside everybody else's requests. Both are multiples of two chunks.
   * @returns blocks that had to be rewritten
   */
  resync(from: number, to: number): Promise<number>;
  /** The bytes of the LU that the chunk rows [from, to) of the member space hold, both multiples of two chunks. */
  span(from: number, to: number): { from: number; to: number };
  /**
   * Read the chunk rows [from, to) of the member space on every member, compare, report and heal; both multiples of two chunks, and one
   * piece on the members. What is newer in memory or in the journal is put in place first.
   * @throws StorageError when a member is not online (any more), and what the inspector throws
   */
  scrub(from: number, to: number, run: ScrubRun): Promise<void>;
}
