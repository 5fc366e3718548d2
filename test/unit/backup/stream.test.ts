import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { encodePart } from "../../../src/backup/encode.js";
import { BLOCK, GROUP, jsonRecord, type OutgoingRecord, RECORD, RecordType } from "../../../src/backup/format.js";
import { groupRecord } from "../../../src/backup/rows.js";
import { StreamScanner } from "../../../src/backup/scan.js";
import { SeededRandom } from "../../../src/lib/prng.js";
import { BLOCK_BYTES, KIB } from "../../../src/lib/units.js";
import { backupId, bytesOf, headerOf, piecesOf } from "../../support/backup-fixture.js";

const ROOT_ROW = [1, 7, 2, 0o755, 2, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 1, 0, 1, 0, 3, null, null];

/** A part with three groups of which the second is a hole. */
function* recordsOf(number: number, more = {}, end = {}): Generator<OutgoingRecord> {
  const data = Buffer.alloc(64 * BLOCK_BYTES);
  new SeededRandom(number).fill(data);
  yield jsonRecord(RecordType.header, headerOf(number, more));
  yield jsonRecord(RecordType.inodes, [ROOT_ROW]);
  yield jsonRecord(RecordType.entries, [[1, "name", 3, 2]]);
  yield jsonRecord(RecordType.tables, { inodes: 1, entries: 1, nextIno: 3 });
  yield groupRecord(2, 0, [...Array(64).keys()], data);
  yield groupRecord(2, 1, [], data);
  yield groupRecord(2, 2, [0, 63], data);
  yield jsonRecord(RecordType.end, { records: 7, groups: 3, dataBytes: 66 * BLOCK_BYTES, ...end });
}

const partOf = (number: number, more = {}, end = {}) =>
  bytesOf(encodePart(Buffer.from(backupId(number), "hex"), recordsOf(number, more, end)));

const scan = (...parts: Buffer[]) => new StreamScanner(piecesOf(...parts)).run();

test("stream: the offsets are those of docs/format/backup.md", () => {
  const text = readFileSync("docs/format/backup.md", "utf8");
  for (const [name, table] of Object.entries({ BLOCK, RECORD, GROUP })) {
    const section = text.split(/^## /m).find((part) => part.split("\n")[0]?.includes(`\`${name}\``)) ?? "";
    const rows = [...section.matchAll(/^\| *(\d+) *\| *(\w+) *\|[^|]*\|[^|]*\|$/gm)];
    assert.deepEqual(Object.fromEntries(rows.map(([, offset, field]) => [field, Number(offset)])), table, name);
  }
});

test("stream: what is written is read, in whole blocks", async () => {
  const stream = await partOf(1);
  assert.equal(stream.length % BLOCK.end, 0);
  const groups: [number, number, number[], number][] = [];
  const scanner = new StreamScanner(piecesOf(stream), {
    group: ({ ino, group, slots, data }) => {
      groups.push([ino, group, [...slots], data.length]);
    },
    inodes: (rows) => assert.deepEqual(rows, [ROOT_ROW]),
    entries: (entries) => assert.deepEqual(entries, [{ parent: 1, name: Buffer.from("name"), cookie: 3, ino: 2 }]),
  });
  const [part] = await scanner.run();
  assert.deepEqual(part?.header, headerOf(1));
  assert.deepEqual(part?.last, { ino: 2, group: 2 });
  assert.deepEqual([part?.from, part?.to], [0, stream.length]);
  assert.deepEqual(groups, [
    [2, 0, [...Array(64).keys()], 256 * KIB],
    [2, 1, [], 0],
    [2, 2, [0, 63], 2 * BLOCK_BYTES],
  ]);
});

test("stream: a flipped bit anywhere is found, and its block named", async () => {
  const stream = await partOf(1);
  const random = new SeededRandom(3);
  for (let i = 0; i < 300; i++) {
    const at = i < 2 * BLOCK.content ? i : random.next() % stream.length;
    const bad = Buffer.from(stream);
    bad[at]! ^= 1 << (random.next() % 8);
    const block = at - (at % BLOCK.end);
    await assert.rejects(scan(bad), new RegExp(`damaged at byte ${block}: `), `byte ${at}`);
  }
});

test("stream: cut anywhere it is not whole", async () => {
  const stream = await partOf(1);
  for (let blocks = 0; blocks * BLOCK.end < stream.length; blocks++) {
    await assert.rejects(
      scan(stream.subarray(0, blocks * BLOCK.end)),
      /damaged at byte \d+: (the stream ends|nothing)/,
    );
    await assert.rejects(scan(stream.subarray(0, blocks * BLOCK.end + 5000)), /ends inside a block/);
  }
});

test("stream: blocks that are missing, twice there or of another backup are named", async () => {
  const stream = await partOf(1);
  const other = await partOf(2);
  const block = (from: Buffer, index: number) => from.subarray(index * BLOCK.end, (index + 1) * BLOCK.end);
  const [first, second, third] = [block(stream, 0), block(stream, 1), block(stream, 2)];
  await assert.rejects(scan(first, third), /at byte 65536: block 2 stands where block 1 should be/);
  await assert.rejects(scan(first, second, second), /at byte 131072: block 1 stands where block 2 should be/);
  await assert.rejects(scan(first, block(other, 1)), /at byte 65536: a block of another backup/);
});

test("stream: behind its end a device may hold anything", async () => {
  const stream = await partOf(1);
  const [part] = await scan(stream, Buffer.alloc(3 * BLOCK.end, 0xee));
  assert.equal(part?.to, stream.length);
});

test("stream: an end that counts otherwise, tables that do, and a reader of another version", async () => {
  await assert.rejects(partOf(1, {}, { groups: 4 }).then(scan), /another number of records/);
  const records = [...recordsOf(1)].filter(({ type }) => type !== RecordType.entries);
  await assert.rejects(
    bytesOf(encodePart(Buffer.from(backupId(1), "hex"), records)).then(scan),
    /another number of rows/,
  );
});

test("stream: a part that was broken off counts when another goes on from it", async () => {
  const whole = await partOf(1);
  const broken = whole.subarray(0, 3 * BLOCK.end);
  const next = await partOf(2, { continues: backupId(1) });
  const parts = await scan(broken, next);
  assert.deepEqual(
    parts.map(({ end, from }) => [end !== null, from]),
    [
      [false, 0],
      [true, broken.length],
    ],
  );
  await assert.rejects(scan(broken, await partOf(2)), /ends too early/);
});

test("stream: what the daemon could not do is told in its words", async () => {
  const records = [...recordsOf(1)].slice(0, 5);
  records.push(jsonRecord(RecordType.failed, { message: "the snapshot was given up" }));
  await assert.rejects(
    bytesOf(encodePart(Buffer.from(backupId(1), "hex"), records)).then(scan),
    /^StorageError: the snapshot was given up$/,
  );
});
