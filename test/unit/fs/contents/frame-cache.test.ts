import assert from "node:assert/strict";
import { test } from "node:test";
import { FrameCache } from "../../../../src/fs/contents/frame-cache.js";
import { BLOCK_BYTES } from "../../../../src/lib/units.js";
import { settle } from "../../../support/hand-clock.js";

/** Room for 32 frames, all of it taken; who is let in is noted. */
async function full() {
  const frames = new FrameCache(Buffer.alloc(64 * BLOCK_BYTES));
  await frames.reserve(frames.pinnedMax, "first");
  const admitted: string[] = [];
  const wait = (client: string, frameCount: number) =>
    frames.reserve(frameCount, client).then(
      () => void admitted.push(client),
      () => void admitted.push(`${client} failed`),
    );
  return { frames, admitted, wait };
}

test("frame cache: clients take turns for room, each in its own order", async () => {
  const { frames, admitted, wait } = await full();
  for (let i = 0; i < 24; i++) void wait("mad", 8);
  void wait("quiet", 1);
  void wait("other", 2);
  void wait("quiet", 1);
  await settle();
  assert.ok(frames.someoneWaits);
  assert.ok(!frames.hasRoom(1), "nobody goes ahead of those who wait");
  frames.unreserve(8);
  await settle();
  assert.deepEqual(admitted, ["mad"]);
  frames.unreserve(20);
  await settle();
  assert.deepEqual(admitted, ["mad", "quiet", "other", "mad", "quiet", "mad"]);
});

test("frame cache: a large request is not overtaken by small ones of others for ever", async () => {
  const { frames, admitted, wait } = await full();
  void wait("large", 16);
  for (let i = 0; i < 20; i++) void wait("small", 1);
  for (let freed = 0; freed < 15; freed++) frames.unreserve(1);
  await settle();
  assert.deepEqual(admitted, []);
  frames.unreserve(1);
  await settle();
  assert.deepEqual(admitted, ["large"]);
});

test("frame cache: when nothing can be written back all who wait are told, and the next may wait again", async () => {
  const { frames, admitted, wait } = await full();
  void wait("a", 1);
  void wait("b", 1);
  await settle();
  frames.failWaiters(new Error("no"));
  await settle();
  assert.deepEqual(admitted, ["a failed", "b failed"]);
  assert.ok(!frames.someoneWaits);
  void wait("a", 1);
  frames.unreserve(1);
  await settle();
  assert.deepEqual(admitted, ["a failed", "b failed", "a"]);
});
