import { assert } from "../../lib/assert.js";
import { MIB } from "../../lib/units.js";

/** Maxima of the lock table, with their reasons. */
export const LOCK_LIMITS = {
  /** Held ranges, waiting requests and reservations of a file system together: with usual owners some 20 MiB of memory, 8 MiB of rows. */
  entriesMax: 65_536,
  /** Of one address: a client that has gone mad leaves room for the others, whatever it calls itself. */
  addressEntriesMax: 16_384,
  /** Of the owners of all entries: their two parts may have 1 KiB each, and usually have thirty bytes. */
  ownerBytesMax: 16 * MIB,
} as const;

assert(LOCK_LIMITS.addressEntriesMax < LOCK_LIMITS.entriesMax, "no single client fills the lock table");
