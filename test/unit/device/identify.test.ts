import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import path from "node:path";
import { test } from "node:test";
import { openFileDevice } from "../../../src/device/file-device.js";
import { identify, refuseForeign } from "../../../src/device/identify.js";
import { MemoryDevice } from "../../../src/device/memory-device.js";
import { SILENT } from "../../../src/lib/log.js";
import { SeededRandom } from "../../../src/lib/prng.js";
import { KIB, MIB } from "../../../src/lib/units.js";
import { skipAloud } from "../../contract/block-device.js";
import { makeSparse, scratchFolder } from "../../contract/disks.js";

const { folder, remove } = scratchFolder();
process.on("exit", remove);

const SIZE = 16 * MIB;

/** What `identify` says of a disk with these bytes at these places. */
async function verdict(bytes: ReadonlyArray<readonly [number, Buffer]>, sizeBytes = SIZE): Promise<string | null> {
  const device = new MemoryDevice({ sizeBytes, random: new SeededRandom(1), alignmentBytes: 4096 });
  for (const [at, content] of bytes) device.poke(content, at);
  return identify(device);
}

function u32(...values: number[]): Buffer {
  const bytes = Buffer.alloc(4 * values.length);
  for (const [i, value] of values.entries()) bytes.writeUInt32LE(value, 4 * i);
  return bytes;
}

const latin = (text: string): Buffer => Buffer.from(text, "latin1");

test("identify: nothing, noise, and our own label are not foreign", async () => {
  assert.equal(await verdict([]), null);
  assert.equal(await verdict([], 4096), null, "a disk of one block");
  const noise = Buffer.alloc(MIB);
  new SeededRandom(3).fill(noise);
  assert.equal(await verdict([[0, noise]]), null);
  const ext4 = [1024 + 56, latin("\x53\xef")] as const;
  assert.equal(await verdict([[0, latin("STRPWARD")], ext4]), null);
  assert.equal(await verdict([[4096, latin("STRPWARD")], ext4]), null, "the first slot is torn, the second is ours");
});

const MD_MAGIC = 0xa92b4efc;
const mbrEntry = Buffer.from("80000000 83000000 00080000 00100000".replaceAll(" ", ""), "hex");
const BY_HAND: ReadonlyArray<readonly [string, ReadonlyArray<readonly [number, Buffer]>]> = [
  ["an ext2 file system", [[1024 + 56, latin("\x53\xef")]]],
  [
    "an ext3 file system",
    [
      [1024 + 56, latin("\x53\xef")],
      [1024 + 92, u32(0x4)],
    ],
  ],
  [
    "an ext4 file system",
    [
      [1024 + 56, latin("\x53\xef")],
      [1024 + 92, u32(0x4, 0x40)],
    ],
  ],
  ["an XFS file system", [[0, latin("XFSB")]]],
  ["a btrfs file system", [[64 * KIB + 64, latin("_BHRfS_M")]]],
  ["a Linux md RAID member (metadata 1.1)", [[0, u32(MD_MAGIC, 1)]]],
  ["a Linux md RAID member (metadata 1.2)", [[4096, u32(MD_MAGIC, 1)]]],
  ["a Linux md RAID member (metadata 1.0)", [[SIZE - 8 * KIB, u32(MD_MAGIC, 1)]]],
  ["a Linux md RAID member (metadata 0.90)", [[SIZE - 64 * KIB, u32(MD_MAGIC, 0, 90)]]],
  [
    "an LVM2 physical volume",
    [
      [512, latin("LABELONE")],
      [512 + 24, latin("LVM2 001")],
    ],
  ],
  ["a LUKS volume", [[0, latin("LUKS\xba\xbe\x00\x02")]]],
  ["a bcache device", [[4096 + 24, Buffer.from("c68573f64e1a45ca8265f57f48ba6d81", "hex")]]],
  ["swap space", [[64 * KIB - 10, latin("SWAPSPACE2")]]],
  [
    "an NTFS file system",
    [
      [3, latin("NTFS    ")],
      [510, latin("\x55\xaa")],
    ],
  ],
  [
    "a FAT file system",
    [
      [82, latin("FAT32   ")],
      [510, latin("\x55\xaa")],
    ],
  ],
  ["a ZFS pool member", [[128 * KIB + 4 * KIB, u32(0x00bab10c, 0)]]],
  ["a ZFS pool member", [[SIZE - 128 * KIB, u32(0x00bab10c, 0)]]],
  ["a ZFS pool member", [[SIZE - 384 * KIB, Buffer.from("0000000000bab10c", "hex")]]],
  [
    "a GPT partition table",
    [
      [512, latin("EFI PART")],
      [446, mbrEntry],
      [510, latin("\x55\xaa")],
    ],
  ],
  ["a GPT partition table", [[SIZE - 512, latin("EFI PART")]]],
  [
    "an MBR partition table",
    [
      [446, mbrEntry],
      [510, latin("\x55\xaa")],
    ],
  ],
];

for (const [what, bytes] of BY_HAND) {
  test(`identify: ${what}, ${bytes.length} field(s) from byte ${bytes[0]?.[0]}, by hand`, async () => {
    assert.equal(await verdict(bytes), what);
  });
}

test("identify: a boot signature without a possible partition is not a partition table", async () => {
  assert.equal(await verdict([[510, latin("\x55\xaa")]]), null);
  assert.equal(
    await verdict([
      [446, Buffer.alloc(64, 0x5a)],
      [510, latin("\x55\xaa")],
    ]),
    null,
  );
});

test("identify: refusing names the disk and what is on it", async () => {
  const device = new MemoryDevice({ name: "/disks/3", sizeBytes: SIZE, random: new SeededRandom(1) });
  await refuseForeign(device);
  device.poke(latin("XFSB"), 0);
  await assert.rejects(refuseForeign(device), { code: "EEXIST", message: "disk /disks/3 carries an XFS file system" });
});

const TOOLS: ReadonlyArray<readonly [string, number, string, ...string[]]> = [
  ["an ext2 file system", 16, "mkfs.ext2", "-q", "-F"],
  ["an ext3 file system", 16, "mkfs.ext3", "-q", "-F"],
  ["an ext4 file system", 16, "mkfs.ext4", "-q", "-F"],
  ["a btrfs file system", 128, "mkfs.btrfs", "-q"],
  ["an XFS file system", 320, "mkfs.xfs", "-q"],
  ["swap space", 16, "mkswap", "-q"],
  ["a FAT file system", 64, "mkfs.vfat"],
  ["an NTFS file system", 16, "mkfs.ntfs", "-q", "-F"],
  ["a LUKS volume", 32, "cryptsetup", "luksFormat", "--batch-mode", "--key-file", "/etc/hostname", "--pbkdf", "pbkdf2"],
];

for (const [what, sizeMib, tool, ...args] of TOOLS) {
  const name = `identify: ${what}, made by ${tool}`;
  const file = path.join(folder, tool);
  const environment = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` };
  if (spawnSync(tool, ["--version"], { env: environment }).error) {
    skipAloud(name, `${tool} is not installed`);
    continue;
  }
  test(name, async () => {
    makeSparse(file, sizeMib * MIB);
    const run = spawnSync(tool, [...args, file], { env: environment, encoding: "utf8" });
    assert.equal(run.status, 0, run.stderr);
    for (const direct of [false, true]) {
      const device = await openFileDevice(file, { mode: "read-only", direct, log: SILENT });
      assert.equal(await identify(device), what);
      await device.close();
    }
  });
}

test("identify: partition tables made by sfdisk", {
  skip: spawnSync("sfdisk", ["--version"]).error !== undefined,
}, async () => {
  for (const [label, what] of [
    ["gpt", "a GPT partition table"],
    ["dos", "an MBR partition table"],
  ] as const) {
    const file = makeSparse(path.join(folder, label), 32 * MIB);
    const run = spawnSync("sfdisk", ["-q", file], { input: `label: ${label}\n,8M\n`, encoding: "utf8" });
    assert.equal(run.status, 0, run.stderr);
    const device = await openFileDevice(file, { mode: "read-only", log: SILENT });
    assert.equal(await identify(device), what);
    await device.close();
  }
});
