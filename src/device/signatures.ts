import type { Region } from "./identify.js";

/** Bytes at a fixed place near the start of a disk. */
interface Signature {
  /** As it completes the sentence "the disk carries …". */
  readonly what: string;
  /** Byte offset on the disk. */
  readonly at: number;
  readonly bytes: Buffer;
}

function text(what: string, at: number, magic: string): Signature {
  return { what, at, bytes: Buffer.from(magic, "latin1") };
}

function hex(what: string, at: number, magic: string): Signature {
  return { what, at, bytes: Buffer.from(magic.replaceAll(" ", ""), "hex") };
}

/**
 * Offsets as in util-linux libblkid/src/superblocks. Volume managers first: a disk under LUKS or LVM is that, whatever an older
 * file system left behind elsewhere.
 */
export const SIGNATURES: readonly Signature[] = [
  text("a LUKS volume", 0, "LUKS\xba\xbe"),
  ...[0, 1, 2, 3].map((sector) => text("an LVM2 physical volume", 512 * sector + 24, "LVM2 001")),
  hex("a bcache device", 4096 + 24, "c68573f6 4e1a 45ca 8265 f57f48ba6d81"),
  hex("a bcachefs file system", 4096 + 24, "c68573f6 66ce 90a9 d96a 60cf803df7ef"),
  text("a Ceph BlueStore device", 0, "bluestore block device"),
  text("an XFS file system", 0, "XFSB"),
  text("a btrfs file system", 65536 + 64, "_BHRfS_M"),
  ...[4096, 8192, 16384, 65536].flatMap((page) => [
    text("swap space", page - 10, "SWAPSPACE2"),
    text("swap space", page - 10, "SWAP-SPACE"),
  ]),
  text("an NTFS file system", 3, "NTFS    "),
  text("an exFAT file system", 3, "EXFAT   "),
  text("a FAT file system", 54, "FAT12   "),
  text("a FAT file system", 54, "FAT16   "),
  text("a FAT file system", 82, "FAT32   "),
  hex("an F2FS file system", 1024, "1020f5f2"),
  hex("an EROFS file system", 1024, "e2e1f5e0"),
  text("a squashfs file system", 0, "hsqs"),
  text("a JFS file system", 32768, "JFS1"),
  text("a ReiserFS file system", 65536 + 52, "ReIsEr"),
  text("an ISO 9660 file system", 32768 + 1, "CD001"),
  text("a GPT partition table", 512, "EFI PART"),
  text("a GPT partition table", 4096, "EFI PART"),
];

export function byTable(head: Region): string | null {
  for (const { what, at, bytes } of SIGNATURES) if (head.has(at, bytes)) return what;
  return null;
}

const EXT = { magic: 1024 + 56, compatible: 1024 + 92, incompatible: 1024 + 96 } as const;
const EXT_HAS_JOURNAL = 0x4;
/** extents, 64bit, flex_bg, inline data and the like: ext3 knows up to 0x1f (without 0x10, meta_bg, which ext4 shares). */
const EXT4_INCOMPATIBLE = ~0x1f;

/** ext2, ext3 or ext4, told apart by their features as blkid does. */
export function ext(head: Region): string | null {
  if (head.u16(EXT.magic) !== 0xef53) return null;
  if ((head.u32(EXT.incompatible) & EXT4_INCOMPATIBLE) !== 0) return "an ext4 file system";
  return (head.u32(EXT.compatible) & EXT_HAS_JOURNAL) !== 0 ? "an ext3 file system" : "an ext2 file system";
}

const MD_MAGIC = 0xa92b4efc;
const SECTOR = 512;

/** Linux md: superblock 1.1 at the start, 1.2 at 4 KiB, 1.0 and 0.90 near the end (md(4)). */
export function md(head: Region, tail: Region, sizeBytes: number): string | null {
  const one = (region: Region, at: number): boolean => region.u32(at) === MD_MAGIC && region.u32(at + 4) === 1;
  if (one(head, 0)) return "a Linux md RAID member (metadata 1.1)";
  if (one(head, 4096)) return "a Linux md RAID member (metadata 1.2)";
  const sectors = Math.floor(sizeBytes / SECTOR);
  if (one(tail, Math.floor((sectors - 16) / 8) * 8 * SECTOR)) return "a Linux md RAID member (metadata 1.0)";
  const old = Math.floor(sizeBytes / 65536) * 65536 - 65536;
  // Version 0.90 is in the byte order of the machine that made it.
  if (tail.u32(old) === MD_MAGIC || tail.u32(old) === 0xfc4e2ba9) return "a Linux md RAID member (metadata 0.90)";
  return null;
}

const ZFS_LABEL = 256 * 1024;
const ZFS_UBERBLOCKS = 128 * 1024;
/** 0x00bab10c as u64, in either byte order. */
const ZFS_MAGIC = [Buffer.from("0cb1ba0000000000", "hex"), Buffer.from("0000000000bab10c", "hex")];

/** ZFS: four labels of 256 KiB, two at each end; the upper half of a label is an array of uberblocks, 1 KiB apart or more. */
export function zfs(head: Region, tail: Region, sizeBytes: number): string | null {
  const end = Math.floor(sizeBytes / ZFS_LABEL) * ZFS_LABEL;
  for (const label of [0, ZFS_LABEL, end - 2 * ZFS_LABEL, end - ZFS_LABEL]) {
    for (let at = label + ZFS_UBERBLOCKS; at < label + ZFS_LABEL; at += 1024) {
      for (const magic of ZFS_MAGIC) if (head.has(at, magic) || tail.has(at, magic)) return "a ZFS pool member";
    }
  }
  return null;
}

/** The copy at the very end outlives what overwrote the start; what our rounding of the size cuts off cannot be seen. */
export function gptBackup(tail: Region, sizeBytes: number): string | null {
  return tail.has(sizeBytes - SECTOR, Buffer.from("EFI PART")) ? "a GPT partition table" : null;
}

const MBR_ENTRIES = 446;

/** A boot signature alone proves little: there must be an entry, and every entry's status must be a possible one. */
export function mbr(head: Region): string | null {
  if (head.u16(510) !== 0xaa55) return null;
  let used = 0;
  for (let at = MBR_ENTRIES; at < 510; at += 16) {
    const status = head.u16(at) & 0xff;
    const type = head.u16(at + 4) & 0xff;
    if (status !== 0 && status !== 0x80) return null;
    if (type !== 0 && head.u32(at + 12) > 0) used++;
  }
  return used > 0 ? "an MBR partition table" : null;
}
