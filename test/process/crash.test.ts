import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { NfsClient } from "../support/nfs-client.js";
import { Rig } from "../support/rig.js";

/** What the server said is stable, by name. */
type Acknowledged = Map<string, string>;

const digest = (data: Buffer) => createHash("sha256").update(data).digest("hex");

/** Writes files, each with one stable write or with unstable writes and COMMIT, until the connection breaks. */
async function load(port: number, worker: number, acknowledged: Acknowledged): Promise<void> {
  const client = await NfsClient.connect(port);
  try {
    const { handle: root } = await client.mount("/data");
    for (let i = 0; ; i++) {
      const name = `w${worker}-${i}`;
      const data = randomBytes(1 + ((i * 7919) % 90_000));
      const { status, handle } = await client.create(root, name);
      if (status !== 0 || handle === null) return;
      const stable = i % 2 === 0 ? 2 : 0;
      if ((await client.write(handle, 0, data, stable)).status !== 0) return;
      if (stable === 0 && (await client.commit(handle)).status !== 0) return;
      acknowledged.set(name, digest(data));
    }
  } catch {
    // The daemon was killed: what was not acknowledged by now does not count.
  } finally {
    await client.close();
  }
}

async function verify(port: number, acknowledged: Acknowledged): Promise<void> {
  const client = await NfsClient.connect(port);
  const { handle: root } = await client.mount("/data");
  for (const [name, wanted] of acknowledged) {
    const { status, handle } = await client.lookup(root, name);
    assert.equal(status, 0, `${name} was acknowledged and is gone`);
    const { data } = await client.read(handle!, 0, 100_000);
    assert.equal(digest(data), wanted, `${name} has other contents`);
  }
  await client.close();
}

test("crash: kill -9 under load, three times: every stable write is there and the check is clean", async (t) => {
  const rig = await Rig.up({ disks: 4, diskSize: "256M" });
  t.after(() => rig.remove());
  const acknowledged: Acknowledged = new Map();
  for (let round = 0; round < 3; round++) {
    const workers = [0, 1, 2, 3].map((worker) => load(rig.port, round * 10 + worker, acknowledged));
    await sleep(1500);
    await rig.kill();
    await Promise.all(workers);
    await rig.up();
    await rig.ok(["fs", "check", "data"]);
    await verify(rig.port, acknowledged);
  }
  assert.ok(acknowledged.size > 50, `only ${acknowledged.size} files were written`);
  t.diagnostic(`${acknowledged.size} acknowledged files survived three kills`);
});

const NOSPC = 28;

test("full: NFS3ERR_NOSPC, nothing damaged, and room again after a removal", async (t) => {
  const rig = await Rig.up({ disks: 3, diskSize: "128M" });
  t.after(() => rig.remove());
  const client = await NfsClient.connect(rig.port);
  t.after(() => client.close());
  const { handle: root } = await client.mount("/data");
  const data = randomBytes(1024 * 1024);
  const kept: string[] = [];
  let full = false;
  for (let i = 0; i < 400 && !full; i++) {
    const { status, handle } = await client.create(root, `f${i}`);
    if (status === 0) {
      const written = await client.write(handle!, 0, data, 2);
      if (written.status === 0) kept.push(`f${i}`);
      full = written.status === NOSPC;
      assert.ok(written.status === 0 || full, `status ${written.status}`);
    } else {
      assert.equal(status, NOSPC);
      full = true;
    }
  }
  assert.ok(full, "the file system was filled");
  assert.ok(kept.length > 20, `only ${kept.length} MiB fitted`);
  await rig.ok(["fs", "check", "data"]);
  for (const name of kept) {
    const { handle } = await client.lookup(root, name);
    assert.equal(digest((await client.read(handle!, 0, data.length)).data), digest(data), name);
  }
  for (const name of kept.slice(0, 8)) assert.equal((await client.remove(root, name)).status, 0);
  const again = await client.create(root, "again");
  assert.equal((await client.write(again.handle!, 0, data, 2)).status, 0);
  await rig.ok(["fs", "check", "data"]);
});

function residentMib(pid: number): number {
  const match = /VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, "utf8"));
  return Number(match?.[1]) / 1024;
}

test("memory: below 512 MiB while 600 MiB go in and come out", async (t) => {
  const rig = await Rig.up({ disks: 3, diskSize: "512M" });
  t.after(() => rig.remove());
  const data = randomBytes(1024 * 1024);
  const worker = async (n: number): Promise<void> => {
    const client = await NfsClient.connect(rig.port);
    const { handle: root } = await client.mount("/data");
    const { handle } = await client.create(root, `big${n}`);
    for (let i = 0; i < 150; i++) assert.equal((await client.write(handle!, i * data.length, data, 0)).status, 0);
    assert.equal((await client.commit(handle!)).status, 0);
    for (let i = 0; i < 150; i++) assert.equal((await client.read(handle!, i * data.length, data.length)).status, 0);
    await client.close();
  };
  await Promise.all([0, 1, 2, 3].map(worker));
  const peak = residentMib(rig.pid);
  t.diagnostic(`peak resident ${peak.toFixed(0)} MiB`);
  assert.ok(peak < 512, `peak resident ${peak} MiB`);
});
