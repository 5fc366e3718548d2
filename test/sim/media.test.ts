import assert from "node:assert/strict";
import { test } from "node:test";
import { SeededRandom } from "../../src/lib/prng.js";
import { CRASHES, type Crash, Media, SECTOR_BYTES } from "./media.js";
import { Platter } from "./platter.js";

const BLOCK = 4096;

function bytes(fill: number, byteCount = BLOCK): Buffer {
  return Buffer.alloc(byteCount, fill);
}

function read(media: Media, position: number, byteCount = BLOCK): Buffer {
  const target = Buffer.alloc(byteCount);
  media.read(target, position);
  return target;
}

test("platter: a fork sees what is below, and what it writes stays its own", () => {
  const below = new Platter();
  below.write(bytes(1), 0);
  const fork = below.fork();
  fork.write(bytes(2, 512), 1024);
  const [a, b] = [Buffer.alloc(BLOCK), Buffer.alloc(BLOCK)];
  below.read(a, 0);
  fork.read(b, 0);
  assert.ok(a.equals(bytes(1)));
  assert.deepEqual([b[1023], b[1024], b[1535], b[1536]], [1, 2, 2, 1]);
  fork.release();
  fork.read(b, 0);
  assert.ok(b.equals(bytes(1)));
});

test("media: a write is seen at once, and a crash before a flush takes it back", () => {
  const media = new Media();
  media.write(bytes(1), 0);
  media.flush(media.number);
  media.write(bytes(2), 0);
  assert.ok(read(media, 0).equals(bytes(2)));
  media.crash("lost", [], new SeededRandom(1));
  assert.ok(read(media, 0).equals(bytes(1)));
});

test("media: a flush covers what was written before it was asked for, and no more", () => {
  const media = new Media();
  media.write(bytes(1), 0);
  const upTo = media.number;
  media.write(bytes(2), 0);
  media.write(bytes(3), BLOCK);
  media.flush(upTo);
  assert.ok(read(media, 0).equals(bytes(2)));
  media.crash("lost", [], new SeededRandom(1));
  assert.ok(read(media, 0).equals(bytes(1)));
  assert.ok(read(media, BLOCK).equals(bytes(0)));
});

test("media: what was written through stays, whatever older write of its place was in the cache", () => {
  for (const crash of CRASHES) {
    const media = new Media();
    media.write(bytes(1, 2 * BLOCK), 0);
    media.writeThrough(bytes(2), BLOCK);
    media.crash(crash, [], new SeededRandom(7));
    assert.ok(read(media, BLOCK).equals(bytes(2)), crash);
  }
});

/** Of many crashes: how many different outcomes there were, in sectors of two writes. */
function outcomes(crash: Crash): Set<string> {
  const seen = new Set<string>();
  for (let seed = 0; seed < 60; seed++) {
    const media = new Media();
    media.write(bytes(1, 2 * SECTOR_BYTES), 0);
    media.crash(crash, [{ number: 0, position: BLOCK, bytes: bytes(2, SECTOR_BYTES) }], new SeededRandom(seed));
    const found = read(media, 0, 2 * BLOCK);
    seen.add([found[0], found[SECTOR_BYTES], found[BLOCK]].join(""));
  }
  return seen;
}

test("media: torn keeps any sectors, reordered any writes, also of those still under way", () => {
  assert.deepEqual([...outcomes("lost")], ["000"]);
  assert.deepEqual([...outcomes("kept")], ["112"]);
  assert.deepEqual([...outcomes("reordered")].sort(), ["000", "002", "110", "112"]);
  assert.equal(outcomes("torn").size, 8);
});
