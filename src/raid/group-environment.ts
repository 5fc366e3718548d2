import type { Clock } from "../lib/clock.js";
import type { Logger } from "../lib/log.js";
import type { Random } from "../lib/prng.js";
import type { Arena } from "../parity/arena.js";
import type { SlowDiskSettings } from "./aside-watch.js";
import type { GroupEvent, Without } from "./contract.js";

/** Reservations in the arena, in bytes. The defaults come to about 86 MiB for five members and 64 KiB chunks. */
export interface GroupBuffers {
  /**
   * Blocks of partial stripes that are not yet in place. The more there are, the more a stripe has gathered when it is put there: what is read and written
   * for its parity serves them all.
   */
  readonly stripeCacheBytes: number;
  /** Parity of full stripes in flight, gathering, reconstruction. */
  readonly bandPoolBytes: number;
  /** One of the two journal records in memory. */
  readonly journalRecordBytes: number;
  /** Rebuild, scrub and grow. */
  readonly backgroundBytes: number;
}

export const GROUP_BUFFERS: GroupBuffers = {
  stripeCacheBytes: 64 * 1024 * 1024,
  bandPoolBytes: 4 * 1024 * 1024,
  journalRecordBytes: 768 * 1024,
  backgroundBytes: 8 * 1024 * 1024,
};

export interface GroupEnvironment {
  readonly arena: Arena;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  readonly onEvent?: ((event: GroupEvent) => void) | undefined;
  /** The epoch under which this node owns the group; kept in labels and journal records. */
  readonly epoch: () => number;
  /** Throws ESTALE when this node is no longer the owner. */
  readonly guard: () => void;
  readonly buffers?: Partial<GroupBuffers> | undefined;
  readonly without?: Without | undefined;
  /** When a member that is slow is left out. */
  readonly slowDisks?: SlowDiskSettings | undefined;
  /** Read and checksum errors within a while that a member may give before it is failed. */
  readonly errorsMax?: number | undefined;
  /** Another node sees all disks of the group now: what gives errors here is a path, not a disk. Absent: nobody else looks at them. */
  readonly seenElsewhere?: ((group: string) => boolean) | undefined;
}
