import assert from "node:assert/strict";
import { test } from "node:test";
import { nextTurn } from "../../../src/lib/next-turn.js";
import { SharedFlush } from "../../../src/lib/shared-flush.js";

interface Call {
  readonly finish: () => void;
  readonly fail: (error: Error) => void;
}

function shared(): { flushes: SharedFlush; calls: Call[] } {
  const calls: Call[] = [];
  const flushes = new SharedFlush(
    () => new Promise((resolve, reject) => calls.push({ finish: resolve, fail: reject })),
  );
  return { flushes, calls };
}

const settle = (): Promise<void> => nextTurn();

test("flush sharing: callers at the same time share one", async () => {
  const { flushes, calls } = shared();
  const all = [flushes.flush(), flushes.flush(), flushes.flush()];
  assert.equal(calls.length, 1);
  calls[0]?.finish();
  await Promise.all(all);
  assert.equal(calls.length, 1);
});

test("flush sharing: one that began before a write completed does not count for it; later callers share the next", async () => {
  const { flushes, calls } = shared();
  const done: string[] = [];
  const first = flushes.flush().then(() => done.push("first"));
  flushes.wrote();
  const later = [1, 2].map(() => flushes.flush().then(() => done.push("later")));
  flushes.wrote();
  later.push(flushes.flush().then(() => done.push("later")));
  assert.equal(calls.length, 1);
  calls[0]?.finish();
  await first;
  await settle();
  assert.deepEqual(done, ["first"]);
  assert.equal(calls.length, 2);
  calls[1]?.finish();
  await Promise.all(later);
  assert.equal(calls.length, 2);
});

test("flush sharing: a failure reaches those who shared it, and the next is tried afresh", async () => {
  const { flushes, calls } = shared();
  const first = flushes.flush();
  flushes.wrote();
  const next = flushes.flush();
  calls[0]?.fail(new Error("disk"));
  await assert.rejects(first, { message: "disk" });
  await settle();
  calls[1]?.finish();
  await next;
  const last = flushes.flush();
  calls[2]?.finish();
  await last;
});
