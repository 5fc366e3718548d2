import { assert } from "../../lib/assert.js";
import { BLOCK_BYTES, KIB, MIB } from "../../lib/units.js";

/** Every maximum of the contents layer, with its reason. */

/** Blocks of one row of the extent table (256 KiB of a file): one look-up per group, one decode for a large request's quarter. */
export const GROUP_BLOCKS = 64;

/** Blocks of one allocation segment (16 MiB): its bitmap is 512 bytes, so a commit that touches a few segments writes a few cells. */
export const SEGMENT_BLOCKS_MAX = 4096;

/** A small LU still gets about this many segments, so that "the emptiest first" means something. */
export const SEGMENTS_WANTED = 16;

/** A stable write of one inode goes into the log when no more than this is unsaved: one stripe's data with common geometry. */
export const INTENT_BLOCKS_PER_INODE = 64;

/** When many callers wait for the same inode each of them may bring this many blocks: 64 small writes in flight stay one record. */
export const INTENT_BLOCKS_PER_WAITER = 4;

/** All intents of one record: 1 MiB, so that a record stays small beside the log. */
const INTENT_BLOCKS_PER_COMMIT = MIB / BLOCK_BYTES;

/** ... and no more than this part of the largest one: a small log is not filled by a handful of commits. */
const INTENT_RECORD_SHARE = 1 / 16;

/** Blocks of the intents of one record, at most. */
export function intentBlocksOf(recordBytesMax: number): number {
  return Math.min(INTENT_BLOCKS_PER_COMMIT, Math.floor((recordBytesMax * INTENT_RECORD_SHARE) / BLOCK_BYTES));
}

/** One write call to the data LU; rounded down to whole stripes. */
export const WRITE_CHUNK_BLOCKS = MIB / BLOCK_BYTES;

/** Chunks in flight on the data LU: 8 MiB keeps a handful of disks busy. */
export const CHUNKS_IN_FLIGHT = 8;

/** Background write-back starts when so much is dirty (or a quarter of the dirty bound, if that is less) ... */
export const WATERMARK_BLOCKS = (8 * MIB) / BLOCK_BYTES;

/** ... and takes about this much at a time, of as many inodes as it needs: small files share stripes. */
export const BATCH_BLOCKS = (8 * MIB) / BLOCK_BYTES;

/** No dirty block waits longer than this, in milliseconds. */
export const WRITE_BACK_AGE_MS = 5000;

/** After a failed write the next attempt waits, in milliseconds. */
export const RETRY_MS = 1000;

/** After so much written data a flush starts in the background, so that a later commit finds little left to flush. */
export const FLUSH_BEHIND_BYTES = 32 * MIB;

/** After so many blocks were published a commit is asked for: their rows leave memory and the old blocks become free. */
export const PUBLISHED_BLOCKS_PER_COMMIT = (64 * MIB) / BLOCK_BYTES;

/** From this size on, whole blocks are read straight into the caller's buffer and do not pass through the cache. */
export const DIRECT_READ_BYTES = 32 * KIB;

/** More groups than this (64 MiB) are freed in steps of so many, one commit each: 6 ms in which nobody else has a turn. */
export const FREED_GROUPS_PER_STEP = 256;

/** Groups cut off by a large truncate or a removal whose frames are given back in one turn of the event loop: a millisecond. */
export const GROUPS_LEAVING_PER_TURN = 128;

/** What the group of a small file takes in memory, with its file's state; the further groups of a file take 1.9 KiB. test/unit/fs/cache-bytes.test.ts measures it. */
export const GROUP_BYTES_HELD = 2320;
/** File groups in memory: with small files of 11 KiB the default data cache is full before this is. */
export const GROUPS_MAX = 12_288;
export const GROUPS_MIN = 256;

/** The smallest cache that can hold one write of 1 MiB while another one is written back. */
export const CACHE_BYTES_MIN = 4 * MIB;

/** The data cache when nobody says otherwise: the largest line in the sum that keeps a node below 512 MiB. */
export const CACHE_BYTES_DEFAULT = 128 * MIB;

/**
 * Of the pages that a record can hold the contents layer's rows take half at most: each changed extent row may lie on a page of its own,
 * and each changed segment too, until all of them have changed (seven lie on a page). The other half is for what comes on top:
 * inodes, entries, and the inner pages of the trees.
 */
export const PAGES_PER_COMMIT_SHARE = 1 / 2;
export const PAGES_PER_COMMIT_MIN = 64;
export const SEGMENT_ROWS_PER_PAGE = 7;

/** A write of 1 MiB with both edges is taken however small the log is. */
export const WRITE_BLOCKS_MIN = MIB / BLOCK_BYTES + 2;

/** A commit is asked for when the open one has this part of the rows that it may have: a batch of blocks that lie all over a large file still fits. */
export const COMMIT_ASKED_AT = 2 / 5;

/** Groups that wait to be written back, in pages of a commit, since more than one may take them; at most so many. */
export const ROWS_PENDING_SHARE = 2;
export const ROWS_PENDING_MAX = 4096;

/**
 * Extent rows written in one turn of the event loop: a millisecond, and as much for the pages that they change. A commit of more has the others written
 * before it, by portions.
 */
export const ROWS_PER_PORTION = 256;

/** What a record may hold when the store does not say. */
export const RECORD_BYTES_DEFAULT = 16 * MIB;

/** Database pages that stay free for changes that must not fail: frees, overwrites, segment rows. */
export const DATABASE_PAGES_RESERVE = 64;

assert(GROUP_BLOCKS === 64, "the masks of a group are two 32-bit words");
assert(INTENT_BLOCKS_PER_INODE <= INTENT_BLOCKS_PER_COMMIT, "an inode that may be logged fits into a record");
