import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { closeSync, openSync, readFileSync, writeSync } from "node:fs";
import { test } from "node:test";
import { NfsClient } from "../support/nfs-client.js";
import { Rig } from "../support/rig.js";

/** Change one byte of a file where these bytes stand. @returns where, or -1 */
function flip(file: string, content: Buffer): number {
  const bytes = readFileSync(file);
  const at = bytes.indexOf(content);
  if (at < 0) return -1;
  const fd = openSync(file, "r+");
  writeSync(fd, Buffer.of(bytes[at + 5]! ^ 1), 0, 1, at + 5);
  closeSync(fd);
  return at;
}

test("fs check --data: a block that is bad on one disk is named, healed, and decides the exit status", async (t) => {
  const rig = await Rig.up({ disks: 3, diskSize: "192M" });
  t.after(() => rig.remove());
  const data = randomBytes(4 * 1024 * 1024);
  const client = await NfsClient.connect(rig.port);
  const { handle: root } = await client.mount("/data");
  const { handle } = await client.create(root, "file");
  assert.ok(handle !== null);
  for (let at = 0; at < data.length; at += 1024 * 1024) {
    assert.equal((await client.write(handle, at, data.subarray(at, at + 1024 * 1024))).status, 0);
  }
  await client.close();
  assert.match(await rig.ok(["fs", "check", "data", "--data"]), /^data: clean/);
  await rig.down();
  const block = data.subarray(17 * 4096, 18 * 4096);
  const [found] = rig.description.disks
    .map(({ number, path }) => ({ number, position: flip(path, block) }))
    .filter(({ position }) => position >= 0);
  assert.ok(found !== undefined);
  await rig.up();
  const { status, stdout } = await rig.cli(["fs", "check", "data", "--data"]);
  assert.equal(status, 1);
  const place = `disk #00${found.number} byte ${found.position} \\(/file \\(block 17\\)\\)`;
  assert.match(
    stdout,
    new RegExp(`LU data byte \\d+, ${place}: does not match its checksum; rewritten from the other disks`),
  );
  assert.match(await rig.ok(["fs", "check", "data", "--data"]), /^data: clean/);
});
