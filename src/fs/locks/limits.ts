import { assert } from "../../lib/assert.js";
import { MIB } from "../../lib/units.js";

/** Maxima of the lock table, with their reasons. An address may besides have no more than what is left for all others (parties.ts). */
export const LOCK_LIMITS = {
  /**
   * Held ranges, waiting requests and reservations of a file system together: with usual owners some 40 MiB of memory, 8 MiB of rows. What is
   * given to requests that wait comes on top: `waitingMax` more at most.
   */
  entriesMax: 65_536,
  /** Of one address: a client that has gone mad leaves room for the others, whatever it calls itself. */
  addressEntriesMax: 16_384,
  /** Names that one address locks under: behind an address translation there may be many clients. FREE_ALL and SM_NOTIFY look at each. */
  addressClientsMax: 256,
  /** Requests that wait: each may become a lock, and a call to its client, as soon as another one goes. */
  waitingMax: 16_384,
  addressWaitingMax: 4_096,
  /** Of the names of owners and the notes of all entries: an owner may have 2 KiB, and usually has fifty bytes. */
  ownerBytesMax: 16 * MIB,
  addressOwnerBytesMax: 8 * MIB,
} as const;

export type LockLimits = { readonly [K in keyof typeof LOCK_LIMITS]: number };

assert(3 * LOCK_LIMITS.addressEntriesMax < LOCK_LIMITS.entriesMax, "three clients together do not fill the lock table");
assert(2 * LOCK_LIMITS.addressWaitingMax < LOCK_LIMITS.waitingMax, "nor the queue");
