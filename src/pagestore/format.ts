import { type Clock, SystemClock } from "../lib/clock.js";
import type { Random } from "../lib/prng.js";
import { BLOCK_BYTES, type LuByte, MIB } from "../lib/units.js";
import type { LogicalUnit } from "../lu/lu.js";
import { type BufferSource, ORDINARY_MEMORY } from "./buffers.js";
import { type Geometry, KIND_BYTES, NAME_BYTES, planGeometry, UUID_BYTES } from "./layout.js";
import { checkText, readNewestSuperblock, SUPERBLOCKS_BYTES, writeSuperblock } from "./superblock.js";

export interface FormatOptions {
  readonly lu: LogicalUnit;
  /** What the database is for (16 bytes): `fs`. */
  readonly kind: string;
  /** 64 bytes. */
  readonly name: string;
  /** Default: 64 MiB, at most a quarter of the LU. */
  readonly logBytes?: number;
  readonly random: Random;
  readonly clock?: Clock;
  readonly arena?: BufferSource;
}

export interface PageStoreIdentity {
  readonly kind: string;
  readonly name: string;
  readonly uuid: string;
  /** Since 1970 UTC. */
  readonly createdSeconds: number;
}

/**
 * Make an empty page store; whatever the LU held is lost. Superblocks and log are written: log and checksums of an earlier store
 * carry another uuid, and the page area is empty by the superblock's word.
 * @throws StorageError EINVAL (name too long, log too small), ENOSPC (LU too small), EIO
 */
export async function formatPageStore(options: FormatOptions): Promise<void> {
  const { lu } = options;
  checkText(options.kind, KIND_BYTES, "the kind");
  checkText(options.name, NAME_BYTES, "the name");
  const geometry = planGeometry(lu.sizeBytes, options.logBytes);
  const uuid = randomUuid(options.random);
  const buffer = (options.arena ?? ORDINARY_MEMORY).take(SUPERBLOCKS_BYTES, "page store format");
  // First away with both old ones: the newer generation would win over ours.
  buffer.fill(0);
  await lu.writeThrough([buffer], 0 as LuByte);
  await fillLog(lu, geometry);
  await writeSuperblock(lu, buffer.subarray(0, BLOCK_BYTES), {
    uuid,
    kind: options.kind,
    name: options.name,
    createdSeconds: (options.clock ?? new SystemClock()).wallTime().seconds,
    geometry,
    generation: 1,
    epoch: 0,
    pageCount: 0,
    tableBlocksUsed: 0,
    checkpointSeq: 0,
    tailSeq: 1,
    tailPosition: 0,
    tailChain: 0,
    closed: true,
  });
}

const FILL_BYTES = MIB;

/**
 * Write the log once from end to end. Nothing reads it (records carry the store's uuid), but where the disks are sparse files their host
 * allocates the space now, and not within the synchronous writes of the first commits, which take longer for it (one client creating files: 300 a second, 540 with this).
 */
async function fillLog(lu: LogicalUnit, { logStart, logBytes }: Geometry): Promise<void> {
  const zeros = Buffer.alloc(FILL_BYTES);
  for (let done = 0; done < logBytes; done += FILL_BYTES) {
    const byteCount = Math.min(FILL_BYTES, logBytes - done);
    await lu.write(zeros.subarray(0, byteCount), (logStart + done) as LuByte);
  }
  await lu.flush();
}

/** What page store the LU carries, or null. Reads two blocks. */
export async function probePageStore(lu: LogicalUnit): Promise<PageStoreIdentity | null> {
  const superblock = await readNewestSuperblock(lu, { healedBlocks: 0 });
  if (superblock === null) return null;
  const { kind, name, createdSeconds } = superblock;
  return { kind, name, uuid: uuidText(superblock.uuid), createdSeconds };
}

/** RFC 9562, section 5.4 (version 4). */
function randomUuid(random: Random): Buffer {
  const uuid = Buffer.alloc(UUID_BYTES);
  random.fill(uuid);
  uuid[6] = ((uuid[6] ?? 0) & 0x0f) | 0x40;
  uuid[8] = ((uuid[8] ?? 0) & 0x3f) | 0x80;
  return uuid;
}

export function uuidText(uuid: Buffer): string {
  const hex = uuid.toString("hex");
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}
