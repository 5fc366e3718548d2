import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { mkdirSync, renameSync } from "node:fs";
import path from "node:path";
import { type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { NfsClient } from "../support/nfs-client.js";
import { Rig } from "../support/rig.js";

/** A disk that is put back as it was yesterday (I-2): the real daemon, on files. */
interface DiskRow {
  readonly number: number;
  readonly path: string;
  readonly state: string;
  readonly reason?: string;
}

const FILES = 120;
const digest = (data: Buffer) => createHash("sha256").update(data).digest("hex");

class Cabinet {
  readonly files = new Map<string, string>();

  constructor(readonly rig: Rig) {}

  static async up(t: TestContext): Promise<Cabinet> {
    const rig = await Rig.up({ disks: 4, diskSize: "128M" });
    t.after(() => rig.remove());
    return new Cabinet(rig);
  }

  file(number: number): string {
    return this.rig.description.disks.find((disk) => disk.number === number)!.path;
  }

  async write(day: string): Promise<void> {
    const client = await NfsClient.connect(this.rig.port);
    const { handle: root } = await client.mount("/data");
    for (let i = 0; i < FILES; i++) {
      const data = randomBytes(1 + ((i * 7919) % 60_000));
      const { status, handle } = await client.create(root, `${day}${i}`);
      assert.equal(status, 0);
      assert.equal((await client.write(handle!, 0, data, 2)).status, 0);
      this.files.set(`${day}${i}`, digest(data));
    }
    await client.close();
  }

  async verify(when: string): Promise<void> {
    const client = await NfsClient.connect(this.rig.port);
    const { handle: root } = await client.mount("/data");
    for (const [name, wanted] of this.files) {
      const { status, handle } = await client.lookup(root, name);
      assert.equal(status, 0, `${when}: ${name} is gone`);
      const { status: read, data } = await client.read(handle!, 0, 100_000);
      assert.equal(read, 0, `${when}: ${name} cannot be read`);
      assert.equal(digest(data), wanted, `${when}: ${name} has other contents`);
    }
    await client.close();
    await this.rig.ok(["fs", "check", "data"]);
  }

  async stop(how: "clean" | "crash"): Promise<void> {
    if (how === "crash") await this.rig.kill();
    await this.rig.down();
  }

  async disk(number: number): Promise<DiskRow> {
    const disks = (await this.rig.json(["disk", "list"])) as DiskRow[];
    return disks.find((disk) => disk.number === number)!;
  }

  async untilOnline(number: number): Promise<void> {
    for (const untilMs = Date.now() + 60_000; ; await sleep(100)) {
      const { state } = await this.disk(number);
      if (state === "online") return;
      assert.ok(Date.now() < untilMs, `disk #${number} is ${state} after a minute`);
    }
  }

  async said(kind: string): Promise<string> {
    const events = (await this.rig.json(["events"])) as { kind: string; what: string }[];
    return events.findLast((event) => event.kind === kind)?.what ?? "";
  }
}

function copy(from: string, to: string): void {
  const { status, stderr } = spawnSync("cp", ["--sparse=always", from, to], { encoding: "utf8" });
  assert.equal(status, 0, stderr);
}

for (const how of ["crash", "clean"] as const) {
  test(`put back: a disk of yesterday (${how} stop since): stale, served without it, brought up, and a sound one may go`, async (t) => {
    const cabinet = await Cabinet.up(t);
    const { rig } = cabinet;
    await cabinet.write("yesterday");
    await cabinet.stop("clean");
    const clone = path.join(rig.dir, "clone");
    copy(cabinet.file(3), clone);
    await rig.up();
    await cabinet.write("today");
    await cabinet.stop(how);
    copy(clone, cabinet.file(3));
    await rig.up();
    assert.match(await cabinet.said("group-member-stale"), /disk #003 is stale.*put back as it was at an earlier time/);
    await cabinet.verify("with yesterday's disk");
    await cabinet.untilOnline(3);
    await cabinet.verify("when it is brought up");
    await rig.ok(["disk", "fail", "1"]);
    await cabinet.verify("without a sound disk");
  });
}

test("put back: the disk of yesterday is taken out again, and two of them are refused without a byte written", async (t) => {
  const cabinet = await Cabinet.up(t);
  const { rig } = cabinet;
  await cabinet.write("yesterday");
  await cabinet.stop("clean");
  const [clones, now] = [path.join(rig.dir, "clones"), path.join(rig.dir, "now")];
  for (const folder of [clones, now]) mkdirSync(folder);
  for (const number of [2, 3]) copy(cabinet.file(number), path.join(clones, String(number)));
  await rig.up();
  await cabinet.write("today");
  await cabinet.stop("crash");
  for (const number of [1, 2, 3, 4]) copy(cabinet.file(number), path.join(now, String(number)));

  for (const number of [2, 3]) copy(path.join(clones, String(number)), cabinet.file(number));
  await rig.up();
  const groups = (await rig.json(["group", "list"])) as { state: string }[];
  assert.equal(groups[0]?.state, "failed");
  for (const number of [2, 3]) assert.equal((await cabinet.disk(number)).state, "stale");
  await rig.down();
  for (const number of [1, 4]) {
    const { status } = spawnSync("cmp", [cabinet.file(number), path.join(now, String(number))]);
    assert.equal(status, 0, `disk #${number} was written`);
  }

  copy(path.join(now, "2"), cabinet.file(2));
  await rig.up();
  await cabinet.verify("with yesterday's disk");
  await cabinet.stop("crash");
  const taken = cabinet.file(3);
  renameSync(taken, `${taken}.out`);
  await rig.up();
  await cabinet.verify("when it is taken out again");
});
