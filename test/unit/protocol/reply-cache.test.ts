import assert from "node:assert/strict";
import { test } from "node:test";
import { MemoryReplyCache } from "../../../src/protocol/rpc/reply-cache.js";
import { latencyQuantileUs, ProcedureCounter } from "../../../src/protocol/rpc/statistics.js";

const WAITER = () => {};

function open(bounds: Partial<{ entriesMax: number; bytesMax: number; ageMsMax: number }> = {}) {
  const time = { nowMs: 0 };
  const clock = {
    monotonicMs: () => time.nowMs,
    wallTime: () => ({ seconds: 0, nanoseconds: 0 }),
    after: () => () => {},
  };
  return { time, cache: new MemoryReplyCache(clock, { entriesMax: 10, bytesMax: 1000, ageMsMax: 100, ...bounds }) };
}

test("reply cache: new, waiting, known, abandoned", () => {
  const { cache } = open();
  const heard: string[] = [];
  assert.equal(cache.begin("a", WAITER), "new");
  assert.equal(
    cache.begin("a", (reply) => heard.push(String(reply))),
    "waiting",
  );
  cache.complete("a", Buffer.from("done"));
  assert.deepEqual(heard, ["done"]);
  assert.deepEqual(cache.begin("a", WAITER), Buffer.from("done"));
  cache.abandon("a", null);
  assert.deepEqual(cache.begin("a", WAITER), Buffer.from("done"));
  assert.equal(cache.begin("b", WAITER), "new");
  cache.abandon("b", null);
  assert.equal(cache.begin("b", WAITER), "new");
});

test("reply cache: those who asked last hear an answer that is not kept", () => {
  const { cache } = open();
  const heard: string[] = [];
  cache.begin("a", WAITER);
  for (let i = 0; i < 10; i++) cache.begin("a", (reply) => heard.push(`${i} ${reply}`));
  cache.abandon("a", Buffer.from("later"));
  assert.deepEqual(
    heard,
    [2, 3, 4, 5, 6, 7, 8, 9].map((i) => `${i} later`),
  );
  assert.equal(cache.begin("a", WAITER), "new");
});

test("reply cache: bounded in entries, bytes and age; what is in progress stays", () => {
  for (const bounds of [{ entriesMax: 50 }, { entriesMax: 1e6, bytesMax: 1000 }]) {
    const { cache } = open(bounds);
    cache.begin("slow", WAITER);
    for (let i = 0; i < 20000; i++) {
      assert.equal(cache.begin(`k${i}`, WAITER), "new");
      if (i % 3 === 0) cache.abandon(`k${i}`, null);
      else cache.complete(`k${i}`, Buffer.alloc(20));
      assert.ok(cache.size <= 52, `${cache.size} entries`);
    }
    assert.equal(cache.begin("slow", WAITER), "waiting");
    assert.ok(Buffer.isBuffer(cache.begin("k19999", WAITER)));
  }
  const { cache, time } = open();
  cache.begin("a", WAITER);
  cache.complete("a", Buffer.alloc(1));
  time.nowMs = 101;
  assert.equal(cache.begin("a", WAITER), "new");
});

test("reply cache: what was answered before is found until it is too old; its source's last word counts", () => {
  const { cache, time } = open();
  const adopt = (source: number, replies: Readonly<Record<string, number>>) =>
    cache.adopt(source, {
      count: Object.keys(replies).length,
      find: (key) =>
        replies[key] === undefined ? null : { reply: Buffer.from(`${source} ${key}`), ageMs: replies[key] },
    });
  adopt(1, { young: 10, old: 90 });
  adopt(2, { other: 0 });
  assert.deepEqual(cache.begin("young", WAITER), Buffer.from("1 young"));
  assert.deepEqual(cache.begin("old", WAITER), Buffer.from("1 old"));
  assert.deepEqual(cache.begin("other", WAITER), Buffer.from("2 other"));
  assert.equal(cache.begin("unknown", WAITER), "new");
  cache.complete("unknown", Buffer.from("done"));
  adopt(2, { unknown: 0 });
  assert.deepEqual(cache.begin("unknown", WAITER), Buffer.from("done"), "known already");
  assert.equal(cache.begin("other", WAITER), "new", "its source has not got it any more");
  time.nowMs = 11;
  assert.deepEqual(cache.begin("young", WAITER), Buffer.from("1 young"));
  assert.equal(cache.begin("old", WAITER), "new");
  time.nowMs = 101;
  assert.equal(cache.begin("young", WAITER), "new");
});

test("statistics: latencies fall into buckets of powers of two", () => {
  const counter = new ProcedureCounter();
  for (const ms of [0, 0.0005, 0.001, 0.0015, 0.1, 3, 1e9]) counter.record(ms);
  const buckets = Array.from(counter.latency);
  assert.equal(counter.calls, 7);
  assert.deepEqual([buckets[0], buckets[1], buckets[7], buckets[12], buckets.at(-1)], [2, 2, 1, 1, 1]);
  assert.equal(latencyQuantileUs(buckets, 0.5), 2);
  assert.equal(latencyQuantileUs(buckets, 1), 2 ** 21);
});
