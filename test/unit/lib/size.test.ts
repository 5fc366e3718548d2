import assert from "node:assert/strict";
import { test } from "node:test";
import { formatSizes } from "../../../src/lib/size.js";

test("size: two that differ never read alike", () => {
  assert.deepEqual(formatSizes(200 << 20, 256 << 20), ["200 MiB", "256 MiB"]);
  assert.deepEqual(formatSizes(4096, 4096), ["4 KiB", "4 KiB"]);
  const [has, needed] = [255 * 2 ** 20 + 4096, 255 * 2 ** 20 + 8192];
  assert.deepEqual(formatSizes(has, needed), ["255 MiB (267390976 bytes)", "255 MiB (267395072 bytes)"]);
});
