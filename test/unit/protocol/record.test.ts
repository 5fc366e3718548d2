import assert from "node:assert/strict";
import { test } from "node:test";
import { BufferPool } from "../../../src/protocol/rpc/buffer-pool.js";
import { RecordError, RecordReader } from "../../../src/protocol/rpc/record.js";
import { pattern } from "./fixture.js";

const LIMIT = 1024 * 1024 + 65536;

function collector(recordBytesMax = LIMIT) {
  const pool = new BufferPool([4096, 65536, 327680, LIMIT], 16 * 1024 * 1024);
  const records: Buffer[] = [];
  const sink = {
    stalled: false,
    recordBytesMax,
    copied: 0,
    room: 0,
    roomMax: Number.POSITIVE_INFINITY,
    takeRoom(byteCount: number) {
      if (sink.room + byteCount > sink.roomMax) return false;
      sink.room += byteCount;
      return true;
    },
    giveRoom(byteCount: number) {
      sink.room -= byteCount;
    },
    onRecord(buffer: Buffer, start: number, end: number, lease: Buffer | null) {
      records.push(Buffer.from(buffer.subarray(start, end)));
      if (lease !== null) {
        sink.copied++;
        pool.release(lease);
      }
    },
  };
  return { pool, records, sink, reader: new RecordReader(sink, pool, 4096) };
}

function mark(last: boolean, byteCount: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE((last ? 0x80000000 : 0) + byteCount);
  return bytes;
}

const whole = (record: Buffer) => Buffer.concat([mark(true, record.length), record]);

test("record: all complete records of a chunk are handed on without copying", () => {
  const { reader, records, sink } = collector();
  const sent = [pattern(40), pattern(100, 2), pattern(7, 3)];
  reader.feed(Buffer.concat(sent.map(whole)), 0);
  assert.deepEqual(records, sent);
  assert.equal(sink.copied, 0);
  assert.equal(reader.partial, false);
});

test("record: a stream cut at every byte boundary gives the same records", () => {
  const first = Buffer.concat([mark(false, 5), pattern(5), mark(false, 0), mark(true, 9), pattern(9, 4)]);
  const stream = Buffer.concat([first, whole(pattern(12, 5)), whole(pattern(33, 6))]);
  const expected = [Buffer.concat([pattern(5), pattern(9, 4)]), pattern(12, 5), pattern(33, 6)];
  for (let cut = 0; cut <= stream.length; cut++) {
    const { reader, records } = collector();
    reader.feed(stream.subarray(0, cut), 0);
    reader.feed(stream.subarray(cut), 0);
    assert.deepEqual(records, expected, `cut at ${cut}`);
  }
});

test("record: a stream of single bytes gives the same records", () => {
  const { reader, records } = collector();
  for (const byte of whole(pattern(50))) reader.feed(Buffer.from([byte]), 0);
  assert.deepEqual(records, [pattern(50)]);
});

test("record: one record in fragments split at every place", () => {
  const record = pattern(48);
  for (let cut = 0; cut <= record.length; cut++) {
    const { reader, records } = collector();
    const parts = [mark(false, cut), record.subarray(0, cut), mark(true, record.length - cut), record.subarray(cut)];
    reader.feed(Buffer.concat(parts), 0);
    assert.deepEqual(records, [record], `cut at ${cut}`);
  }
});

test("record: the largest record is assembled out of chunks, and its buffer is used again", () => {
  const { reader, records, pool } = collector();
  const record = pattern(LIMIT);
  for (let round = 0; round < 3; round++) {
    const stream = whole(record);
    for (let at = 0; at < stream.length; at += 65536) reader.feed(stream.subarray(at, at + 65536), 0);
  }
  assert.equal(records.length, 3);
  assert.ok(records.every((got) => got.equals(record)));
  assert.ok(pool.freeBytes <= LIMIT + 327680);
});

test("record: a mark above the limit is refused before anything is allocated", () => {
  for (const bytes of [mark(true, 0x7fffffff), mark(false, 0x7fffffff), mark(true, LIMIT + 1)]) {
    const { reader } = collector();
    const before = process.memoryUsage().arrayBuffers;
    assert.throws(() => reader.feed(bytes, 0), RecordError);
    assert.ok(process.memoryUsage().arrayBuffers - before < 65536);
  }
});

test("record: fragments that pass the limit together are refused", () => {
  const { reader } = collector(100);
  reader.feed(Buffer.concat([mark(false, 60), pattern(60)]), 0);
  assert.throws(() => reader.feed(mark(true, 41), 0), RecordError);
});

test("record: endless empty fragments are refused", () => {
  const { reader } = collector();
  assert.throws(() => reader.feed(Buffer.alloc(4 * 5000), 0), RecordError);
});

test("record: a stalled sink stops the reader behind a record, and it goes on there", () => {
  const { reader, records, sink } = collector();
  const stream = Buffer.concat([whole(pattern(8)), whole(pattern(8, 2))]);
  const { onRecord } = sink;
  sink.onRecord = (buffer, start, end, lease) => {
    onRecord(buffer, start, end, lease);
    sink.stalled = true;
  };
  const stopped = reader.feed(stream, 0);
  assert.equal(stopped, 12);
  sink.stalled = false;
  reader.feed(stream, stopped);
  assert.deepEqual(records, [pattern(8), pattern(8, 2)]);
});

test("record: room for all that a record can become is taken before it is read, and given back", () => {
  const { reader, records, sink } = collector();
  const stream = whole(pattern(300_000));
  reader.feed(stream.subarray(0, 100), 0);
  assert.equal(sink.room, 327_680);
  reader.feed(stream, 100);
  assert.deepEqual([sink.room, records.length], [0, 1]);
  reader.feed(Buffer.concat([mark(false, 64), pattern(64)]), 0);
  assert.equal(sink.room, LIMIT, "a record of fragments may become the largest");
  reader.close();
  assert.equal(sink.room, 0);
});

test("record: without room the reader stops, and goes on when it is granted", () => {
  const { reader, records, sink } = collector();
  sink.roomMax = 0;
  const stream = Buffer.concat([whole(pattern(20)), whole(pattern(70_000))]);
  const first = stream.subarray(0, 100);
  assert.equal(reader.feed(first, 0), 28, "up to the mark of the second record");
  assert.deepEqual([records.length, reader.waitsForRoom, sink.room], [1, true, 0]);
  assert.equal(reader.feed(first, 28), 28);
  sink.room = 327_680;
  reader.roomGranted();
  assert.equal(reader.feed(stream, 28), stream.length);
  assert.deepEqual([records.length, sink.room], [2, 0]);
});
