import { z } from "zod";
import { crc32c } from "../lib/crc32c.js";
import { StorageError } from "../lib/errors.js";
import { BLOCK_BYTES } from "../lib/units.js";

/**
 * The blocks in the reserved area of a disk (raid/layout.ts), 4096 bytes each: docs/format/reserved.md has the same table.
 *   block 0..7    heartbeat of chn1..chn8; only that node writes it
 *   block 16..23  lease that chn1..chn8 has, had, or claims on the group that the disk is a member of; only that node writes it, so that no
 *                 late write of one node can hide what another has claimed meanwhile. The highest epoch counts.
 * A block: 0 [8] magic "SWHEARTB" or "SWLEASEB", 8 u32 version, 12 u32 CRC-32C of the block with this field zero, 16 u32 length, 20 JSON in
 * UTF-8, zeros to 4096. What has another version, or a field that is missing, is not read.
 */
export const HEARTBEAT_BLOCK = 0;
export const LEASE_BLOCK = 16;
export const RECORD_VERSION = 1;

const FIELDS = { magic: 0, version: 8, checksum: 12, length: 16, body: 20 } as const;
const MAGIC = { heartbeat: "SWHEARTB", lease: "SWLEASEB" } as const;
type Kind = keyof typeof MAGIC;

const count = z.int().min(0);

const address = z.object({ host: z.string(), port: z.int().min(0).max(65535) });
export type ServiceAddress = z.infer<typeof address>;

const heartbeat = z.object({
  node: z.string(),
  /** Rises with every beat, over restarts. */
  sequence: count,
  /** Of the kernel: two processes with the same one are on one host. */
  bootId: z.string(),
  pid: count,
  /** Clock ticks after the boot at which the process began (proc(5), stat, field 22): a process id is used again, this pair is not. */
  processStart: count,
  /** Its network on that host; empty: not known. A version before this one has no such field. */
  network: z.string().default(""),
  version: z.string(),
  /** Where clients find this node's own groups. */
  service: address.nullable(),
  /** Groups that it serves, by UUID. */
  owned: z.array(z.string()),
  /** Groups that it asks its partner for. */
  wants: z.array(z.string()),
  /** What it has let go and could not write so on the group's own disks: up to this epoch the group is not in its hands. A version before this one has no such field. */
  letGo: z.array(z.object({ group: z.string(), epoch: count })).default([]),
  /** Why it could not take over now; empty when it could, null when it has not looked yet. */
  trouble: z.array(z.string()).nullable(),
  /** Of the targets that it knows to answer, how many do now; null: it knows none. A version before this one has no such field. */
  reach: z.object({ reached: count, targets: count }).nullable().default(null),
  /** Addresses of its clients that have all fallen silent and do not answer it. A version before this one has no such field. */
  silent: z.array(z.string()).default([]),
  /** Groups that it serves and that are not whole. A version before this one has no such field. */
  ailing: z.array(z.object({ group: z.string(), state: z.enum(["degraded", "failed"]) })).default([]),
  /** Groups of which it cannot use all disks now, and how many not; those that have failed count, too. A version before this one has no such field. */
  lacks: z.array(z.object({ group: z.string(), disks: count })).default([]),
  /** Its clock, for people: nothing is decided by it. */
  wallMs: count,
});

const lease = z.object({
  group: z.string(),
  /** Rises with every change of hands. */
  epoch: count,
  /** Rises with every change under one epoch. */
  sequence: count,
  owner: z.string(),
  /**
   * claimed: wanted, and not had yet. withdrawn: the claim gave way to another one. held, released: had, and not any more.
   * A claim on its way may be seen on few disks, and withdrawn after that: only what was held says who was the last to write to the group.
   */
  state: z.enum(["claimed", "withdrawn", "held", "released"]),
  /** The highest epoch under which this node has had the group; 0: none. */
  heldEpoch: count,
  /** Why it changed, and when by the owner's clock: for people. */
  reason: z.string(),
  wallMs: count,
});

export type Heartbeat = z.infer<typeof heartbeat>;
export type GroupLack = Heartbeat["lacks"][number];
export type Reach = NonNullable<Heartbeat["reach"]>;
export type Lease = z.infer<typeof lease>;

export function encodeHeartbeat(value: Heartbeat): Buffer {
  return encode("heartbeat", value);
}

export function encodeLease(value: Lease): Buffer {
  return encode("lease", value);
}

/** @returns null for anything but a whole heartbeat of this version */
export function decodeHeartbeat(block: Buffer): Heartbeat | null {
  return heartbeat.safeParse(decode("heartbeat", block)).data ?? null;
}

export function decodeLease(block: Buffer): Lease | null {
  return lease.safeParse(decode("lease", block)).data ?? null;
}

/** @throws StorageError EINVAL when it does not fit a block */
function encode(kind: Kind, value: object): Buffer {
  const body = Buffer.from(JSON.stringify(value));
  if (body.length > BLOCK_BYTES - FIELDS.body) throw new StorageError("EINVAL", `a ${kind} does not fit its block`);
  const block = Buffer.alloc(BLOCK_BYTES);
  block.write(MAGIC[kind], FIELDS.magic, "latin1");
  block.writeUInt32LE(RECORD_VERSION, FIELDS.version);
  block.writeUInt32LE(body.length, FIELDS.length);
  body.copy(block, FIELDS.body);
  block.writeUInt32LE(crc32c(block), FIELDS.checksum);
  return block;
}

function decode(kind: Kind, block: Buffer): unknown {
  if (block.toString("latin1", FIELDS.magic, FIELDS.version) !== MAGIC[kind]) return null;
  if (block.readUInt32LE(FIELDS.version) !== RECORD_VERSION) return null;
  const length = block.readUInt32LE(FIELDS.length);
  if (length > BLOCK_BYTES - FIELDS.body) return null;
  const copy = Buffer.from(block);
  copy.writeUInt32LE(0, FIELDS.checksum);
  if (crc32c(copy) !== block.readUInt32LE(FIELDS.checksum)) return null;
  try {
    return JSON.parse(block.toString("utf8", FIELDS.body, FIELDS.body + length));
  } catch {
    return null;
  }
}
