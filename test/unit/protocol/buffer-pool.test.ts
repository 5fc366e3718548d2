import { equal, notEqual } from "node:assert/strict";
import { test } from "node:test";
import { BufferPool } from "../../../src/protocol/rpc/buffer-pool.js";

const SMALL = 4096;
const LARGE = 65536;

test("buffer pool: what comes back is handed out again, in its size", () => {
  const pool = new BufferPool([SMALL, LARGE], 8 * LARGE);
  const [small, large] = [pool.acquire(1), pool.acquire(SMALL + 1)];
  equal(small.length, SMALL);
  equal(large.length, LARGE);
  pool.release(small);
  pool.release(large);
  equal(pool.acquire(LARGE), large);
  equal(pool.acquire(SMALL), small);
  equal(pool.freeBytes, 0);
});

test("buffer pool: all that was out at once is kept, up to the bound of out and kept together", () => {
  const pool = new BufferPool([SMALL, LARGE], 4 * LARGE);
  const out = Array.from({ length: 6 }, () => pool.acquire(LARGE));
  pool.release(out[0]!);
  pool.release(out[1]!);
  equal(pool.freeBytes, 0, "more than the bound is out still");
  for (const buffer of out.slice(2)) pool.release(buffer);
  equal(pool.freeBytes, 4 * LARGE);
});

test("buffer pool: buffers of other sizes leave for one that has to be made", () => {
  const pool = new BufferPool([SMALL, LARGE], 2 * LARGE);
  const large = [pool.acquire(LARGE), pool.acquire(LARGE)];
  for (const buffer of large) pool.release(buffer);
  equal(pool.freeBytes, 2 * LARGE);
  pool.acquire(SMALL);
  equal(pool.freeBytes, LARGE);
  pool.acquire(LARGE);
  notEqual(pool.acquire(LARGE), large[0]);
});

test("buffer pool: what is larger than all sizes is made, and forgotten", () => {
  const pool = new BufferPool([SMALL], 4 * SMALL);
  const buffer = pool.acquire(LARGE);
  equal(buffer.length, LARGE);
  pool.release(buffer);
  equal(pool.freeBytes, 0);
});
