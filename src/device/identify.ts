import { StorageError } from "../lib/errors.js";
import { KIB } from "../lib/units.js";
import type { BlockDevice } from "./device.js";
import { byTable, ext, gptBackup, mbr, md, zfs } from "./signatures.js";

/** Both ends of a disk: far enough in for ZFS (two labels of 256 KiB), and for md 0.90 (at most 128 KiB before the end). */
const HEAD_BYTES = 512 * KIB;
const TAIL_BYTES = 768 * KIB;

/** Our own label begins so, in either of its two slots at the start of a disk. */
export const LABEL_MAGIC = Buffer.from("STRPWARD");

/** A piece of a disk, addressed by offsets on the disk. What lies outside of it reads as zero and matches nothing. */
export class Region {
  constructor(
    private readonly start: number,
    private readonly bytes: Buffer,
  ) {}

  has(at: number, magic: Buffer): boolean {
    const from = at - this.start;
    if (from < 0 || from + magic.length > this.bytes.length) return false;
    return this.bytes.compare(magic, 0, magic.length, from, from + magic.length) === 0;
  }

  u16(at: number): number {
    const from = at - this.start;
    return from < 0 || from + 2 > this.bytes.length ? 0 : this.bytes.readUInt16LE(from);
  }

  u32(at: number): number {
    const from = at - this.start;
    return from < 0 || from + 4 > this.bytes.length ? 0 : this.bytes.readUInt32LE(from);
  }
}

/**
 * What another system keeps on a disk, as it completes the sentence "the disk carries …" (`an ext4 file system`), or null when
 * nothing known is there, or a label of our own. Reads both ends, writes nothing.
 * @throws StorageError of the reads
 */
export async function identify(device: BlockDevice): Promise<string | null> {
  const head = await region(device, 0, HEAD_BYTES);
  if (head.has(0, LABEL_MAGIC) || head.has(4096, LABEL_MAGIC)) return null;
  const tail = await region(device, device.sizeBytes - TAIL_BYTES, TAIL_BYTES);
  const { sizeBytes } = device;
  return (
    md(head, tail, sizeBytes) ??
    byTable(head) ??
    ext(head) ??
    zfs(head, tail, sizeBytes) ??
    mbr(head) ??
    gptBackup(tail, sizeBytes)
  );
}

/** @throws StorageError EEXIST when somebody else's data is on the disk */
export async function refuseForeign(device: BlockDevice): Promise<void> {
  const what = await identify(device);
  if (what === null) return;
  throw new StorageError("EEXIST", `disk ${device.name} carries ${what}`, { device: device.name, what });
}

async function region(device: BlockDevice, position: number, byteCount: number): Promise<Region> {
  const start = Math.max(position, 0);
  const bytes = Buffer.alloc(Math.min(byteCount, device.sizeBytes - start));
  await device.read(bytes, start);
  return new Region(start, bytes);
}
