import { assert } from "../lib/assert.js";
import { KIB, MIB } from "../lib/units.js";

/** Every maximum of the protocols with its reason. Sizes in bytes, times in milliseconds. */
export interface ProtocolLimits {
  /** A record or fragment above this closes the connection: the largest WRITE plus its headers. */
  readonly recordBytesMax: number;
  /** Fragments of one record; empty fragments cost no memory but time. */
  readonly fragmentsMax: number;
  readonly connectionsMax: number;
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
  /** Buffers of large READ replies when the composition root gives no pool of its own. */
  readonly readBufferBytesMax: number;
}

export const DEFAULT_LIMITS: ProtocolLimits = {
  recordBytesMax: 1 * MIB + 64 * KIB,
  fragmentsMax: 4096,
  connectionsMax: 512,
  inFlightMax: 256,
  inFlightBytesMax: 16 * MIB,
  outputBytesMax: 4 * MIB,
  idleMsMax: 6 * 3600 * 1000,
  stuckMsMax: 120 * 1000,
  keepAliveMs: 60 * 1000,
  sweepMs: 10 * 1000,
  replyCacheEntriesMax: 32768,
  replyCacheBytesMax: 8 * MIB,
  replyCacheMsMax: 180 * 1000,
  mountListMax: 1024,
  mountListOfHostMax: 64,
  mountListBytesMax: 128 * KIB,
  readBufferBytesMax: 48 * MIB,
};

/** The largest READ and WRITE (FSINFO rtmax, wtmax). */
export const TRANSFER_BYTES_MAX = 1 * MIB;
/** READDIR and READDIRPLUS replies (FSINFO dtpref); a larger count asked for is cut to this. */
export const DIRECTORY_BYTES_MAX = 64 * KIB;
/** A READ up to this is copied into the output buffer; above it the data leaves by reference. Copying 16 KiB costs about 1 µs. */
export const COPIED_READ_BYTES_MAX = 16 * KIB;

assert(TRANSFER_BYTES_MAX < DEFAULT_LIMITS.recordBytesMax, "the largest WRITE fits in a record");
assert(TRANSFER_BYTES_MAX <= DEFAULT_LIMITS.inFlightBytesMax, "the largest READ can be in flight");
