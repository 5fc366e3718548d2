import { assert } from "../lib/assert.js";
import { KIB, MIB } from "../lib/units.js";
import type { ClientLimits } from "./streams/client-table.js";

/** Every maximum of the protocols with its reason. Sizes in bytes, times in milliseconds. */
export interface ProtocolLimits {
  /** Over all connections and for each address (streams/client-table.ts). */
  readonly clients: ClientLimits;
  /** A record or fragment above this closes the connection: the largest WRITE plus its headers. */
  readonly recordBytesMax: number;
  /** The same for who is admitted by no export: NULL, MNT with the longest path and the longest credential. */
  readonly strangerRecordBytesMax: number;
  /** Fragments of one record; empty fragments cost no memory but time. */
  readonly fragmentsMax: number;
  /** Asynchronous requests of one connection before its socket is paused. */
  readonly inFlightMax: number;
  /** Request bytes held plus reply bytes promised by requests in flight on one connection. */
  readonly inFlightBytesMax: number;
  /** Output of one connection that the client has not taken yet; above it no more requests are read (a slow reader). */
  readonly outputBytesMax: number;
  /** A connection without any request. Long: a mounted client may be quiet for hours, and TCP keepalive finds dead peers. */
  readonly idleMsMax: number;
  /** A partial record, or output that the peer does not take, without any progress. */
  readonly stuckMsMax: number;
  /** While others wait for the memory that it holds: a partial record, or output that is not all taken, however it progresses. */
  readonly pressedMsMax: number;
  /** A stranger without a request; and one with a partial record, or output that is not all taken. */
  readonly strangerIdleMsMax: number;
  readonly strangerStuckMsMax: number;
  readonly keepAliveMs: number;
  readonly sweepMs: number;
  /** Duplicate-request cache: entries, bytes of replies, age. A client repeats a request within about a minute. */
  readonly replyCacheEntriesMax: number;
  readonly replyCacheBytesMax: number;
  readonly replyCacheMsMax: number;
  /** The MOUNT list (RFC 1813 section 5.2.2), in entries, of all and of one client, and bytes: a report for people, the oldest leave first. */
  readonly mountListMax: number;
  readonly mountListOfHostMax: number;
  readonly mountListBytesMax: number;
}

/** Of libuv's read of a socket: every connection has one, and one more while it stands still with the rest of the last. */
export const SOCKET_CHUNK_BYTES = 64 * KIB;
/** What an asynchronous call costs beside its bytes: its objects, promises and closures. */
export const CALL_BYTES = 2 * KIB;

/**
 * The sum of what clients can make the server hold, at most: requests 48 + 8 MiB, replies 48 + 8 MiB, receive buffers 512 x 64 KiB = 32 MiB.
 * LIMITS.processBytesMax (src/limits.ts) is made of it.
 */
const CLIENT_LIMITS: ClientLimits = {
  // A node's clients are some hundred at most; each has one connection or, with nconnect, up to 16.
  connectionsMax: 512,
  // Machines behind one address (NAT, user networking) are one client here.
  connectionsPerAddressMax: 256,
  // Strangers look what is exported, or try: they come one after the other.
  strangersMax: 64,
  strangersPerAddressMax: 16,
  strangerBytesMax: 128 * KIB,
  // One address alone has half of it: 22 WRITEs of 1 MiB, more than the disks have under way. What is less than its least share fits in whole: a record as long
  // as a socket's chunk, its chunk, and some small calls.
  requests: { bytesMax: 48 * MIB, shareBytesMin: 192 * KIB, overrunBytesMax: 8 * MIB },
  replies: { bytesMax: 48 * MIB, shareBytesMin: 192 * KIB, overrunBytesMax: 8 * MIB },
};

export const DEFAULT_LIMITS: ProtocolLimits = {
  clients: CLIENT_LIMITS,
  recordBytesMax: 1 * MIB + 64 * KIB,
  strangerRecordBytesMax: 4 * KIB,
  fragmentsMax: 4096,
  inFlightMax: 256,
  inFlightBytesMax: 16 * MIB,
  outputBytesMax: 4 * MIB,
  idleMsMax: 6 * 3600 * 1000,
  stuckMsMax: 120 * 1000,
  pressedMsMax: 30 * 1000,
  strangerIdleMsMax: 60 * 1000,
  strangerStuckMsMax: 10 * 1000,
  keepAliveMs: 60 * 1000,
  sweepMs: 5 * 1000,
  replyCacheEntriesMax: 32768,
  replyCacheBytesMax: 8 * MIB,
  replyCacheMsMax: 180 * 1000,
  mountListMax: 1024,
  mountListOfHostMax: 64,
  mountListBytesMax: 128 * KIB,
};

/** The largest READ and WRITE (FSINFO rtmax, wtmax). */
export const TRANSFER_BYTES_MAX = 1 * MIB;
/** READDIR and READDIRPLUS replies (FSINFO dtpref); a larger count asked for is cut to this. */
export const DIRECTORY_BYTES_MAX = 64 * KIB;
/** A READ up to this is copied into the output buffer; above it the data leaves by reference. Copying 16 KiB costs about 1 µs. */
export const COPIED_READ_BYTES_MAX = 16 * KIB;

assert(TRANSFER_BYTES_MAX < DEFAULT_LIMITS.recordBytesMax, "the largest WRITE fits in a record");
assert(TRANSFER_BYTES_MAX <= DEFAULT_LIMITS.inFlightBytesMax, "the largest READ can be in flight");
const { connectionsMax, requests, replies } = CLIENT_LIMITS;
/** All that clients can make the server hold outside of the data cache. */
export const CLIENT_BYTES_MAX =
  connectionsMax * SOCKET_CHUNK_BYTES +
  (requests.bytesMax + requests.overrunBytesMax) +
  (replies.bytesMax + replies.overrunBytesMax);
assert(
  2 * DEFAULT_LIMITS.recordBytesMax < requests.bytesMax / 2,
  "one client alone has two of the largest WRITEs under way",
);
assert(TRANSFER_BYTES_MAX < replies.bytesMax / 4, "one client of three has several of the largest READs under way");
assert(2 * SOCKET_CHUNK_BYTES < requests.shareBytesMin, "the least share takes what a small request needs");
assert(DEFAULT_LIMITS.strangerRecordBytesMax < CLIENT_LIMITS.strangerBytesMax, "a stranger's request has room");
assert(SOCKET_CHUNK_BYTES < CLIENT_LIMITS.strangerBytesMax, "a stranger's reply has room");
assert(CLIENT_LIMITS.strangersMax < connectionsMax / 4, "strangers take no place that clients want");
assert(DEFAULT_LIMITS.pressedMsMax <= DEFAULT_LIMITS.stuckMsMax, "who is waited for is given less time");
assert(DEFAULT_LIMITS.sweepMs < DEFAULT_LIMITS.strangerStuckMsMax, "it is looked often enough");
