import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { type TestContext, test } from "node:test";
import { StreamScanner } from "../../../src/backup/scan.js";
import { inspectTarget, readTarget, TargetWriter } from "../../../src/backup/target.js";
import { BackupAdmin } from "../../../src/control/backup/backup-admin.js";
import { BackupBook } from "../../../src/control/backup/backup-book.js";
import { BackupScheduler } from "../../../src/control/backup/backup-scheduler.js";
import { EventLog } from "../../../src/control/event-log.js";
import type { ServedFileSystem } from "../../../src/control/layers.js";
import { StateFiles } from "../../../src/control/state-files.js";
import { StorageError } from "../../../src/lib/errors.js";
import { SILENT } from "../../../src/lib/log.js";
import { SeededRandom } from "../../../src/lib/prng.js";
import { MIB } from "../../../src/lib/units.js";
import { restored } from "../../support/backup-fixture.js";
import { HandClock } from "../../support/hand-clock.js";
import { MemoryFileSystem } from "../../support/memory-file-system.js";
import { ALICE, makeFile, refused } from "../../support/namespace-fixture.js";
import { liveTree } from "../../support/snapshot-tree.js";

const HOUR_MS = 3_600_000;

/** What a daemon backs up with, over one file system in memory called `data`. */
async function world(t: TestContext) {
  const folder = mkdtempSync(path.join(os.tmpdir(), "stripeward-backup-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const memory = await MemoryFileSystem.open();
  t.after(() => memory.end());
  const clock = new HandClock();
  const events = new EventLog(clock, SILENT);
  const nothing = async () => {
    throw new StorageError("ENOENT", "there is no shared group");
  };
  // The scheduler asks for the names of what is mounted alone.
  const mounted = [{ name: "data", served: {} as ServedFileSystem }];
  const admin = () =>
    new BackupAdmin({
      ...{ node: "chn1", events, clock, random: new SeededRandom(clock.wallMs % 1_000_000_007) },
      book: new BackupBook(path.join(folder, "book.json"), path.join(folder, "book"), new StateFiles(clock, events)),
      shared: { group: () => undefined, records: nothing, openRecords: nothing },
      fileSystems: {
        mounted: () => mounted,
        backupSubject: (name) => ({
          ...{ name, uuid: "u", level: 5, sizeBytes: 32 * MIB, metadataBytes: 32 * MIB, usedBytes: 0 },
          snapshot: () => memory.fs.snapshot(),
        }),
        refill: nothing,
        requireFillable: () => {},
      },
    });
  const targets = path.join(folder, "targets");
  const schedule = { fileSystem: "data", to: path.join(targets, "b-{time}"), everySeconds: 3600, keep: 2 };
  const scheduler = (of: BackupAdmin) => new BackupScheduler({ admin: of, clock, events, schedules: [schedule] });
  const files = () => readdirSync(targets).sort();
  return { folder, targets, memory, clock, events, admin, scheduler, schedule, files };
}

async function partsOf(place: string): Promise<Buffer> {
  await new StreamScanner(readTarget(place)).run();
  return readFileSync(place);
}

test("scheduled backups: full, then incremental; chains of the length that is kept, and old ones go whole", async (t) => {
  const { targets, memory, clock, admin, scheduler, files } = await world(t);
  mkdirSync(targets);
  const backups = admin();
  const one = scheduler(backups);
  const shapes: string[] = [];
  for (let hour = 0; hour < 6; hour++) {
    const file = await makeFile(memory.fs, ALICE, memory.fs.root, `f${hour}`);
    await memory.fs.write(ALICE, file, 0, Buffer.alloc(100_000, hour), "stable");
    await one.review();
    await one.review();
    const rows = backups.rows();
    assert.ok(rows.every(({ state, verified }) => state === "finished" && verified !== null));
    assert.equal(files().length, rows.length, "what is in the list is there, and nothing else");
    shapes.push(rows.map(({ parent }) => (parent === null ? "F" : "i")).join(""));
    await clock.advance(HOUR_MS);
  }
  assert.deepEqual(shapes, ["F", "Fi", "FiF", "Fi", "FiF", "Fi"]);
  const [full, more] = files();
  const copy = await restored([await partsOf(path.join(targets, more!)), await partsOf(path.join(targets, full!))]);
  assert.deepEqual(await liveTree(copy.fs), await liveTree(memory.fs));
  await copy.end();
  const [row] = one.rows();
  assert.equal(row?.next, new Date(clock.wallMs).toISOString(), "the next is due now");
});

test("scheduled backups: made while the clock stood ten years ahead, and every hour after it is right again", async (t) => {
  const { targets, clock, events, admin, scheduler } = await world(t);
  mkdirSync(targets);
  clock.setWall(3650 * 24 * HOUR_MS);
  const backups = admin();
  await scheduler(backups).review();
  clock.setWall(-3650 * 24 * HOUR_MS);
  const one = scheduler(backups);
  const counts: number[] = [];
  for (let half = 0; half < 5; half++) {
    await one.review();
    counts.push(backups.rows().length);
    await clock.advance(HOUR_MS / 2);
  }
  assert.deepEqual(counts, [1, 1, 2, 2, 3]);
  assert.equal(events.last(100).filter(({ kind }) => kind === "time-in-future").length, 1);
  assert.equal(one.rows()[0]?.next, new Date(clock.wallMs + HOUR_MS / 2).toISOString());
});

test("scheduled backups: one that fails is told of, leaves nothing, and is tried again", async (t) => {
  const { targets, clock, events, admin, scheduler, files } = await world(t);
  const backups = admin();
  const one = scheduler(backups);
  await one.review();
  await one.review();
  const said = () => events.last(100).filter(({ kind }) => kind === "backup-failed");
  assert.equal(said().length, 1, "not again at once");
  assert.match(
    said()[0]!.what,
    /^the backup of file system data to .* that is due failed: the target .* cannot be written/,
  );
  assert.match(one.rows()[0]!.failure ?? "", /cannot be written/);
  assert.deepEqual(backups.rows(), []);
  mkdirSync(targets);
  await clock.advance(600_000);
  await one.review();
  assert.equal(files().length, 1);
  assert.equal(one.rows()[0]!.failure, null);
});

test("scheduled backups: a chain that has lost a link, and one whose record is lost, begin anew with a full one", async (t) => {
  const { folder, targets, clock, admin, scheduler, files } = await world(t);
  mkdirSync(targets);
  const first = admin();
  await scheduler(first).review();
  rmSync(path.join(targets, files()[0]!));
  await clock.advance(HOUR_MS);
  await scheduler(first).review();
  assert.deepEqual(
    first.rows().map(({ parent }) => parent),
    [null, null],
  );
  writeFileSync(path.join(folder, "book.json"), "not a book");
  await clock.advance(HOUR_MS);
  const second = admin();
  await scheduler(second).review();
  assert.deepEqual(
    second.rows().map(({ parent }) => parent),
    [null],
  );
});

test("backups: one that is not known, or has ended, is not gone on with", async (t) => {
  const { targets, admin, schedule } = await world(t);
  mkdirSync(targets);
  const backups = admin();
  const order = { fileSystem: "data", full: false, target: "x", series: schedule.to };
  const resume = (backup: string) => backups.begin({ ...order, resume: { backup, ino: 1, group: 0 } });
  await refused("ENOENT", () => resume("0".repeat(32)));
  const { backup, pieces } = backups.begin(order);
  await pieces.next();
  await refused("EBUSY", () => resume(backup));
  await pieces.return(undefined);
  assert.equal(backups.rows()[0]?.state, "broken-off");
  backups.finished(backup, "x", 1);
  await refused("EEXIST", () => resume(backup));
});

test("backups: a snapshot that is given up ends the stream with its sentence, not with an end", async (t) => {
  const { memory, admin } = await world(t);
  const file = await makeFile(memory.fs, ALICE, memory.fs.root, "f");
  for (let at = 0; at < 8; at++) await memory.fs.write(ALICE, file, at * 250_000, Buffer.alloc(250_000, at), "stable");
  const { pieces } = admin().begin({ fileSystem: "data", full: true, target: "x", series: "" });
  const first = await pieces.next();
  await memory.remount();
  async function* all() {
    if (first.done !== true) yield first.value;
    yield* pieces;
  }
  await assert.rejects(new StreamScanner(all()).run(), /given up: the file system is closed/);
});

test("target: one that disappears while it is written is found out at the end", async (t) => {
  const { folder } = await world(t);
  const place = path.join(folder, "target");
  const writer = await TargetWriter.open(place);
  await writer.write(Buffer.alloc(65_536, 1));
  rmSync(place);
  await assert.rejects(writer.finish(), /the target .* disappeared while it was written/);
  await writer.close();
  assert.deepEqual(await inspectTarget(place), { kind: "empty" });
  writeFileSync(place, "something else");
  assert.deepEqual(await inspectTarget(place), { kind: "foreign" });
  await refused("EINVAL", () => inspectTarget(folder));
});
