import { assert } from "./lib/assert.js";
import { GIB, KIB, MIB } from "./lib/units.js";

/** Every maximum of the daemon as a whole, with its reason. What belongs to one layer stands in that layer. */
export const LIMITS = {
  /** sun_path of sockaddr_un is 108 bytes with the closing NUL (unix(7)). */
  socketPathBytesMax: 107,

  /** A configuration is read by people: this is hundreds of times what one has. */
  configBytesMax: 1 * MIB,
  /** PATH_MAX of limits.h, with the closing NUL. */
  pathBytesMax: 4095,

  /** Data cache of one file system. Below the minimum a 1 MiB read and its write-back no longer fit at the same time. */
  dataCacheBytesMin: 16 * MIB,
  /** Leaves room for the other owners in the arena, whose addresses are 32 bits. */
  dataCacheBytesMax: 2 * GIB,
  dataCacheBytesDefault: 128 * MIB,
  /** SQLite's page cache of one file system. */
  metadataCacheBytesMin: 4 * MIB,
  metadataCacheBytesMax: 1 * GIB,
  metadataCacheBytesDefault: 32 * MIB,
  /** Buffers of a group: chunks, stripe cache, journal records. */
  groupBufferBytesMax: 256 * MIB,
  /** Data of large reads on its way to clients, of each group: all that they may hold (CLIENT_BYTES_MAX). Used from its start on, so what was never needed costs nothing. */
  readMemoryBytes: 48 * MIB,
  /** Addresses for so many data caches are set aside in a group's arena; memory is used only as they fill. */
  fileSystemsPerGroupMax: 8,
  /**
   * What the daemon may hold resident beside the caches of its file systems: what clients can make it hold (CLIENT_BYTES_MAX of protocol/limits.ts), memory of
   * large reads that was touched once, and 160 MiB for itself: program, heap and a group's buffers. test/unit/limits.test.ts does the sum.
   */
  processBytesMax: 352 * MIB,
  /** With default settings and one file system; the process tests measure it, and the unit's MemoryMax is twice that. */
  residentBytesMax: 512 * MIB,

  /**
   * V8's old generation, MiB. Some 70 MiB live in it with a million files; below 1 GiB V8 lets it grow by half before it collects, above
   * by four times, which alone would pass `residentBytesMax`.
   */
  heapMiB: 384,
  /**
   * Of glibc's allocator: one for the event loop, and one for all other threads. By default each of V8's helpers and libuv's threads has its own, and keeps
   * 4 MiB of it once it has compiled something.
   */
  mallocArenasMax: 2,

  /**
   * libuv's threads: a flush of five members and the log's two copies at once. More wake each other for every small read, and cost more than they gain
   * (native-notes/thread-pool.md). Of a node with a partner some are for what must go on while disks hold theirs (device/disk-lane.ts).
   */
  ioThreads: 8,
  ioThreadsOfPair: 12,

  /** Events kept in memory for `events`; some 300 bytes each, but one may name a file whose path is 32 KiB long. */
  eventsMax: 4096,
  eventsBytesMax: 2 * MIB,
  /** A follower that does not read is dropped before it holds this many events of ours. */
  eventsUnsentMax: 1024,

  /** A management request is a few names and numbers. */
  requestBytesMax: 64 * KIB,
  /** Connections to the management socket, followers of events among them; and to a set-up's terminal, where two nodes install. */
  managementConnectionsMax: 64,
  installConnectionsMax: 32,
  /** A request's head has come by then, and at the terminal its body; how often that is looked at. A body may take long at the management socket: a restore. */
  requestHeadMsMax: 10_000,
  requestCheckMs: 5_000,
  /** A connection to the terminal that moves nothing. */
  installStuckMsMax: 60_000,
  /** Files in one page of `fs files`: some 100 KiB of JSON, so that a million files never stand in memory at once. */
  filesPageMax: 1000,

  /** Owners of locks that a node writes about itself; clients name themselves, so both numbers are bounds against nonsense. */
  lockOwnersMax: 1024,
  hostNameCharactersMax: 255,
  /** Of so many locked files `lock list` finds the names: each may cost a search. */
  lockNamesMax: 256,
  /** Rows in one page of `lock list`: some two milliseconds to make. */
  locksPageMax: 500,

  /** Disk numbers are shown as #001. */
  diskNumberMax: 999,

  /** How often it is looked whether a scrub is due. */
  scrubScheduleMs: 60_000,
  /** How often it is looked whether a backup is due, and how soon one that failed is tried again at most. */
  backupScheduleMs: 10_000,
  backupRetryMs: 600_000,
  /** Configurable waits before the cabinet helps itself (spare, search for disks), seconds: a day. */
  careSecondsMax: 86_400,
  /** Unless the configuration says otherwise, a member is left out when its calls take so many times longer than its neighbours', for so long. */
  slowDiskFactor: 5,
  slowDiskSeconds: 5,
  /** The longest time from one scheduled scrub to the next, seconds: ten years, far below what a label holds. */
  scrubEverySecondsMax: 315_360_000,

  /** How often members of shared groups are asked whether they are there, and missing ones looked for. */
  sharedTendMs: 10_000,
  /** How often a node looks whether its records have changed; what changes is written. */
  recordsLookMs: 2_000,
  /** How often "last seen" of the clients is written. */
  recordsSeenMs: 10_000,
  /** Clients that are remembered as seen; the one that was seen longest ago leaves. */
  recordsSeenMax: 1024,

  /** A start waits this long for what a killed daemon has still to let go of. */
  claimMs: 1_000,
  /** Clean shutdown: replies that are still under way may take this long. */
  drainMs: 5_000,
  /** `rig down` and systemd wait this long for a clean stop before they kill. */
  stopMs: 60_000,
  /** `rig up` waits this long for the daemon's first answer (journal replay of a large file system included). */
  startMs: 120_000,
} as const;

assert(LIMITS.dataCacheBytesMin < LIMITS.dataCacheBytesDefault, "the default data cache is above its minimum");
assert(
  LIMITS.processBytesMax + LIMITS.dataCacheBytesDefault + LIMITS.metadataCacheBytesDefault === LIMITS.residentBytesMax,
  "the promise is the sum of the process and its default caches",
);
assert(
  LIMITS.groupBufferBytesMax + LIMITS.readMemoryBytes + LIMITS.dataCacheBytesMax < 4 * GIB - MIB,
  "the largest data cache and a group's buffers fit into one arena of 32-bit addresses",
);
assert(LIMITS.eventsUnsentMax < LIMITS.eventsMax, "a follower is dropped before the ring has gone round");
assert(LIMITS.drainMs < LIMITS.stopMs, "draining ends before the daemon would be killed");
