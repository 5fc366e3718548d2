import assert from "node:assert/strict";
import { test } from "node:test";
import { type ImageMap, noteImage } from "../../../src/pagestore/images.js";

test("images: whatever is noted how often, they stand in the order of their positions", () => {
  const images: ImageMap = new Map();
  for (let i = 0; i < 1000; i++) noteImage(images, (i * 37) % 101, i * 4096, i);
  const positions = [...images.values()].map(({ position }) => position);
  assert.equal(positions.length, 101);
  assert.deepEqual(
    positions,
    Array.from({ length: 101 }, (_, i) => (899 + i) * 4096),
  );
  for (const [page, image] of images) assert.equal(image.page, page);
});

test("images: an older image never takes the place of a newer one", () => {
  const images: ImageMap = new Map();
  noteImage(images, 1, 8192, 1);
  assert.throws(() => noteImage(images, 1, 4096, 2), /behind the older/);
});
