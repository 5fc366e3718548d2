import assert from "node:assert/strict";
import { test } from "node:test";
import { XdrError, XdrReader } from "../../../src/protocol/xdr/reader.js";
import { XdrWriter } from "../../../src/protocol/xdr/writer.js";

function readerOf(write: (w: XdrWriter) => void): XdrReader {
  const w = new XdrWriter();
  write(w);
  return new XdrReader(w.bytes());
}

test("xdr: integers round trip at their edges", () => {
  const u32 = [0, 1, 0x7fffffff, 0x80000000, 0xffffffff];
  const u64 = [0, 1, 0xffffffff, 2 ** 32, 2 ** 32 + 1, 2 ** 44, Number.MAX_SAFE_INTEGER];
  const r = readerOf((w) => {
    for (const value of u32) w.u32(value);
    for (const value of u64) w.u64(value);
  });
  for (const value of u32) assert.equal(r.u32(), value);
  for (const value of u64) assert.equal(r.u64(), value);
  assert.equal(r.remaining, 0);
});

test("xdr: a u64 above 2^53 is never rounded to a safe integer", () => {
  for (const value of [2n ** 53n, 2n ** 53n + 1n, 2n ** 63n, 2n ** 64n - 1n]) {
    const r = readerOf((w) => w.bigU64(value));
    assert.ok(r.u64() > Number.MAX_SAFE_INTEGER, String(value));
  }
});

test("xdr: opaques of every length up to 130 round trip with zero padding", () => {
  for (let n = 0; n <= 130; n++) {
    const bytes = Buffer.alloc(n, 0xab);
    const w = new XdrWriter();
    w.opaque(bytes);
    w.u32(7);
    assert.equal(w.at % 4, 0);
    assert.ok(
      w
        .bytes()
        .subarray(4 + n, w.at - 4)
        .every((b) => b === 0),
    );
    const r = new XdrReader(w.bytes());
    assert.deepEqual(r.opaque(n), bytes);
    assert.equal(r.u32(), 7);
  }
});

test("xdr: a length above the limit or above what is there is refused", () => {
  const hostile = (length: number) => readerOf((w) => w.u32(length));
  assert.throws(() => hostile(65).opaque(64), XdrError);
  for (const length of [1, 0x7fffffff, 0x80000000, 0xfffffffd, 0xfffffffe, 0xffffffff]) {
    assert.throws(() => hostile(length).opaque(0xffffffff), XdrError, String(length));
  }
});

test("xdr: booleans and enumerations take only their values", () => {
  assert.throws(() => readerOf((w) => w.u32(2)).bool(), XdrError);
  assert.throws(() => readerOf((w) => w.u32(3)).choice(2), XdrError);
  assert.equal(readerOf((w) => w.u32(2)).choice(2), 2);
});

test("xdr: every truncation of a structure is refused", () => {
  const w = new XdrWriter();
  w.u32(1);
  w.u64(2);
  w.opaque(Buffer.from("abcde"));
  w.fixed(Buffer.alloc(8));
  const all = w.bytes();
  for (let n = 0; n < all.length; n++) {
    const r = new XdrReader(all, 0, n);
    assert.throws(
      () => {
        r.u32();
        r.u64();
        r.opaque(100);
        r.fixed(8);
      },
      XdrError,
      `${n} bytes`,
    );
  }
});
