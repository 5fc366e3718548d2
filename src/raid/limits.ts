import { assert } from "../lib/assert.js";
import { BLOCK_BYTES, KIB, MIB } from "../lib/units.js";

/** Members of a group: what a label has room for, and what one XOR call of the parity kernel takes. */
export const MEMBERS_MAX = 32;
/** LUs of a group: entries in a label's LU table. */
export const LUS_MAX = 64;
/** Runs of rows of all LUs of a group together; more than that is a badly scattered group, and a new LU is refused. */
export const ROW_RUNS_MAX = 4096;
/** Nodes that may be named in a label (chn1..chn8). */
export const NODES_MAX = 8;
/** Blocks of all LUs that are known to be lost; with more the group is beyond help. */
export const LOST_BLOCKS_MAX = 1024;
/** Lives of a group that its labels remember; of those before, only that they are older. */
export const LIVES_MAX = 256;
/** Copies of a shared group: each takes every write. */
export const SHARED_MEMBERS_MAX = 4;
export const NAME_BYTES_MAX = 63;
export const PATH_BYTES_MAX = 215;

/** One label slot; two at the start and two at the end of every disk. */
export const LABEL_SLOT_BYTES = 64 * KIB;
/** Heartbeat and lease blocks lie here, zero until a node uses them. */
export const RESERVED_BYTES = MIB;
/** Two alternating blocks. */
export const BITMAP_BYTES = 2 * BLOCK_BYTES;

/** Smaller disks would be all journal and no rows. */
export const DISK_BYTES_MIN = 32 * MIB;
export const CHUNK_BYTES_MIN = 16 * KIB;
export const CHUNK_BYTES_MAX = MIB;
export const CHUNK_BYTES_DEFAULT = 64 * KIB;
/** Parity stays on one member for this many bytes of it, so that its data on each of the others is one piece (docs/decisions/0015). */
export const PARITY_RUN_BYTES = MIB;
export const JOURNAL_BYTES_MIN = 4 * MIB;
export const JOURNAL_BYTES_MAX = 128 * MIB;
export const ROWS_TARGET_MAX = 4096;

/** The part of a stripe that is cached and journalled as one: a column of all chunks, at most this much of each. */
export const BAND_BYTES_MAX = 64 * KIB;

assert(BAND_BYTES_MAX / BLOCK_BYTES <= 30, "the blocks of a band fit a small-integer bit mask");
assert(CHUNK_BYTES_MIN % BLOCK_BYTES === 0, "a chunk is whole blocks");
assert(
  8 * MEMBERS_MAX * BAND_BYTES_MAX <= JOURNAL_BYTES_MAX,
  "the largest journal holds eight records of the largest group",
);
