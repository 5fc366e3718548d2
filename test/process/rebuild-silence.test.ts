import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { closeSync, ftruncateSync, openSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import type { GroupRow, StatusReport, TaskReport } from "../../src/control/types.js";
import { NfsClient } from "../support/nfs-client.js";
import { Rig } from "../support/rig.js";

const FILE_BYTES = 24 * 1024 * 1024;
const CALL_BYTES = 1024 * 1024;

async function writeFile(rig: Rig, name: string, data: Buffer): Promise<void> {
  const client = await NfsClient.connect(rig.port);
  const { handle: root } = await client.mount("/data");
  const { handle } = await client.create(root, name);
  assert.ok(handle !== null);
  for (let at = 0; at < data.length; at += CALL_BYTES) {
    assert.equal((await client.write(handle, at, data.subarray(at, at + CALL_BYTES))).status, 0);
  }
  await client.close();
}

async function isWhole(rig: Rig, name: string, data: Buffer): Promise<boolean> {
  const client = await NfsClient.connect(rig.port);
  const { handle: root } = await client.mount("/data");
  const { handle } = await client.lookup(root, name);
  assert.ok(handle !== null);
  let whole = true;
  for (let at = 0; at < data.length && whole; at += CALL_BYTES) {
    const { data: found } = await client.read(handle, at, CALL_BYTES);
    whole = data.subarray(at, at + CALL_BYTES).equals(found);
  }
  await client.close();
  return whole;
}

async function group(rig: Rig): Promise<GroupRow> {
  return ((await rig.json(["group", "list"])) as GroupRow[])[0]!;
}

async function until(what: string, holds: () => Promise<boolean>): Promise<void> {
  const end = performance.now() + 90_000;
  while (!(await holds())) {
    assert.ok(performance.now() < end, what);
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

test("rebuild: another disk does not answer for a while: it is waited for, said so, and nothing is lost", async (t) => {
  const rig = await Rig.up({ disks: 4, diskSize: "192M" });
  t.after(() => rig.remove());
  const data = randomBytes(FILE_BYTES);
  for (const name of ["one", "two", "three"]) await writeFile(rig, name, data);
  const fresh = path.join(rig.dir, "fresh.img");
  const fd = openSync(fresh, "w");
  ftruncateSync(fd, 192 * 1024 * 1024);
  closeSync(fd);
  await rig.ok(["disk", "add", fresh]);
  // The old disk is gone: nobody but the others can tell.
  await rig.ok(["rig", "fault", "--disk", "4", "--kind", "gone"]);
  await until("the disk is missed", async () => (await group(rig)).state === "degraded");
  await rig.ok(["rig", "fault", ...["--disk", "2", "--kind", "eio", "--on", "read", "--at", "12M", "--bytes", "40M"]]);
  await rig.ok(["disk", "replace", "4", "--with", "5"]);
  await until("it waits", async () => {
    const [task] = (await group(rig)).tasks.filter(({ kind }) => kind === "rebuild");
    return /^waits for disk #002: unreadable at byte \d+/.test(task?.reason ?? "");
  });
  const status = (await rig.json(["status"])) as StatusReport;
  assert.equal(status.state, "degraded");
  assert.match(
    status.warnings.join("\n"),
    /cannot be read now and the rebuild waits for disk #002: unreadable at byte/,
  );
  assert.match(await rig.ok(["group", "list"]), /the rebuild of disk #005 waits for disk #002: unreadable at byte/);
  assert.match(await rig.ok(["events"]), /the rebuild of disk #005 waits for disk #002: unreadable at byte/);
  const { lostBlocks, unreadable } = await group(rig);
  assert.equal(lostBlocks, 0);
  assert.ok(unreadable > 0);
  await rig.ok(["rig", "fault", "--clear", "--disk", "2"]);
  const { task } = (await rig.json(["group", "rebuild", "--wait"])) as TaskReport;
  assert.deepEqual([task?.state, task?.found], ["done", 0]);
  for (const name of ["one", "two", "three"]) assert.ok(await isWhole(rig, name, data), name);
  assert.match(await rig.ok(["fs", "check", "data", "--data"]), /clean/);
  assert.match(await rig.ok(["status"]), /is CLEAN/);
});
