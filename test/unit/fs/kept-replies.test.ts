import assert from "node:assert/strict";
import { test } from "node:test";
import { type ReplyRow, StoredReplies } from "../../../src/fs/kept-replies.js";

/** As the reply log writes them. */
function row(ageMs: number, ...replies: [key: string, reply: string][]): ReplyRow {
  const parts = replies.flatMap(([key, reply]) => {
    const length = Buffer.alloc(4);
    length.writeUInt32LE(reply.length);
    return [Buffer.of(key.length), Buffer.from(key, "latin1"), length, Buffer.from(reply)];
  });
  return { ageMs, replies: Buffer.concat(parts) };
}

test("kept replies: each is found by its key, with its age, and nothing else", () => {
  const rows: ReplyRow[] = [];
  for (let i = 0; i < 3000; i++) {
    rows.push(row(i, [`10.0.0.${i % 7} ${i} a`, `first ${i}`], [`10.0.0.${i % 7} ${i} b`, ""]));
  }
  const kept = new StoredReplies(rows);
  assert.equal(kept.count, 6000);
  for (let i = 0; i < 3000; i++) {
    const found = kept.find(`10.0.0.${i % 7} ${i} a`);
    assert.deepEqual([found?.reply.toString(), found?.ageMs], [`first ${i}`, i]);
    assert.equal(kept.find(`10.0.0.${i % 7} ${i} b`)?.reply.length, 0);
    assert.equal(kept.find(`10.0.0.${i % 7} ${i} `), null);
    assert.equal(kept.find(`10.0.0.${i % 7} ${i} aa`), null);
  }
});

test("kept replies: of two answers under one key the newer counts; none at all is no error", () => {
  const kept = new StoredReplies([row(9, ["k", "old"]), row(3, ["k", "new"])]);
  assert.equal(kept.find("k")?.reply.toString(), "new");
  assert.equal(new StoredReplies([]).find("k"), null);
  assert.equal(new StoredReplies([]).count, 0);
});
