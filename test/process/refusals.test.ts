import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { closeSync, ftruncateSync, openSync, readFileSync, statSync, writeFileSync, writeSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { Rig } from "../support/rig.js";

/** A file of this size that carries an ext4 file system, as far as anybody looks. */
function ext4(file: string, sizeBytes: number): void {
  const fd = openSync(file, "w");
  ftruncateSync(fd, sizeBytes);
  writeSync(fd, Buffer.alloc(8192, 0x5a), 0, 8192, 4096);
  const superblock = Buffer.alloc(1024, 0x11);
  superblock.writeUInt16LE(0xef53, 0x38);
  writeSync(fd, superblock, 0, 1024, 1024);
  closeSync(fd);
}

function digestOf(files: readonly string[]): string[] {
  return files.map((file) => createHash("sha256").update(readFileSync(file)).digest("hex"));
}

/** When each was written last: also a write of what stands there already shows. */
function writtenAt(files: readonly string[]): bigint[] {
  return files.map((file) => statSync(file, { bigint: true }).mtimeNs);
}

/** Nothing is written any more: bits of the bitmap are cleared (every 5 s), metadata is at its place. */
async function still(files: readonly string[]): Promise<void> {
  const since = () => Date.now() - Math.max(...writtenAt(files).map((ns) => Number(ns / 1_000_000n)));
  while (since() < 12_000) await new Promise((resolve) => setTimeout(resolve, 500));
}

const MIB = 1024 * 1024;

test("refusals: every order that is refused leaves every disk as it was, byte for byte", async (t) => {
  const rig = await Rig.up({ disks: 3, diskSize: "192M" });
  t.after(() => rig.remove());
  const at = (name: string): string => path.join(rig.dir, name);
  const strangers = [at("small.img"), at("large.img"), at("tiny.img")];
  ext4(strangers[0]!, 128 * MIB);
  ext4(strangers[1]!, 192 * MIB);
  ext4(strangers[2]!, 16 * MIB);
  const unused = [at("unused.img"), at("less.img")];
  for (const [i, file] of unused.entries()) {
    writeFileSync(file, "");
    const fd = openSync(file, "r+");
    ftruncateSync(fd, (i === 0 ? 192 : 128) * MIB);
    closeSync(fd);
    await rig.ok(["disk", "add", file]);
  }
  for (const name of ["sixth.img", "seventh.img"]) {
    const fd = openSync(at(name), "w");
    ftruncateSync(fd, 128 * MIB);
    closeSync(fd);
    await rig.ok(["disk", "add", at(name)]);
  }
  await rig.ok(["group", "create", "second", "--disks", "6,7"]);
  writeFileSync(at("junk.backup"), Buffer.alloc(100_000, 3));
  const [small, large, tiny] = strangers as [string, string, string];
  const members = rig.description.disks.map((disk) => disk.path);
  const all = [...strangers, ...unused, ...members, at("sixth.img"), at("seventh.img")];
  await still(all);
  const before = digestOf(all);
  const quiet = writtenAt(all);
  const refused: readonly (readonly [string, RegExp])[] = [
    [`disk add ${large}`, /carries an ext4 file system/],
    [`disk add ${tiny} --force`, /too small/],
    [`disk add ${at("nothing.img")} --force`, /nothing|no such|not there|ENOENT/i],
    [`disk add ${unused[0]}`, /is already disk #004/],
    [`disk replace 3 --with ${small} --force`, /are needed/],
    [`disk replace 3 --with ${large}`, /carries an ext4 file system/],
    [`disk replace 9 --with ${large} --force`, /there is no disk #009/],
    [`disk replace 4 --with ${large} --force`, /in no group/],
    ["disk replace 3 --with 5", /are needed/],
    ["disk replace 3 --with 3", /cannot take its own place/],
    ["disk replace 3 --with 2", /is in group/],
    ["disk remove 3", /is in use/],
    ["disk spare 3", /is in group/],
    ["disk unspare 2", /is in group/],
    ["disk fail 4", /in no group/],
    ["group create rig --disks 4,5", /exists already/],
    ["group create other --disks 4,4", /named twice/],
    ["group create other --disks 4", /at least two disks/],
    ["group create other --disks 3,4", /is in group/],
    ["group create other --disks 4,5 --chunk 3K", /chunk/],
    ["group grow rig --disk 5", /needs|are needed/],
    ["group grow rig --disk 3", /is in group/],
    ["group assemble rig", /is assembled/],
    ["group rebuild rig --disk 2", /is online/],
    ["group rebuild rig --give-up", /waits for nothing/],
    ["group scrub rig --resume", /no scrub is under way/],
    ["lu create more --size 10T --group rig", /left for RAID-5/],
    ["lu create data --size 1M --group rig", /has an LU "data" already/],
    ["lu create more --size 1M --raid 1 --group none", /none/],
    ["lu resize data 1M --group rig", /cannot become smaller/],
    ["lu resize data.meta 100M --group rig", /its size cannot change/],
    ["lu delete data --group rig", /carries file system/],
    ["fs create data --size 1M --group second --raid 1", /exists already/],
    ["fs create more --size 10T --metadata-size 1M --group second --raid 1", /left for RAID-1/],
    ["shared create --disks 4,4", /named twice/],
    ["shared create --disks 3,4", /is in group/],
    ["export add /none --client 10.0.0.0/8", /none/],
    ["export add /data --client 10.0.0.0/99", /./],
    [`backup restore ${at("junk.backup")} --fs more --group second`, /./],
    [`backup restore ${at("nothing.backup")} --fs more --group second`, /./],
  ];
  const wrong: string[] = [];
  for (const [order, text] of refused) {
    const { status, stderr } = await rig.cli(order.split(" "));
    if (status === 0) wrong.push(`${order}: not refused`);
    else if (!text.test(stderr)) wrong.push(`${order}: ${stderr}`);
    for (const [i, time] of writtenAt(all).entries()) {
      if (time !== quiet[i]) wrong.push(`${order}: ${all[i]} was written`);
      quiet[i] = time;
    }
  }
  assert.deepEqual(wrong, []);
  assert.deepEqual(digestOf(all), before);
});
