import assert from "node:assert/strict";
import { test } from "node:test";
import { durationArgument, formatDuration } from "../../../src/cli/duration.js";

test("duration: the two largest units", () => {
  const cases: [number, string][] = [
    ...([
      [0, "0 s"],
      [59.9, "59 s"],
      [60, "1 min"],
      [200, "3 min 20 s"],
    ] as [number, string][]),
    ...([
      [3600, "1 h"],
      [7500, "2 h 5 min"],
      [100_800, "1 d 4 h"],
      [604_800, "7 d"],
    ] as [number, string][]),
  ];
  for (const [seconds, text] of cases) assert.equal(formatDuration(seconds), text);
});

test("duration: as people write it, and never", () => {
  assert.equal(durationArgument("90s"), 90);
  assert.equal(durationArgument("30m"), 1800);
  assert.equal(durationArgument("12h"), 43_200);
  assert.equal(durationArgument("7d"), 604_800);
  assert.equal(durationArgument("2w"), 1_209_600);
  assert.equal(durationArgument("never"), 0);
  for (const wrong of ["", "7", "d", "0d", "-1d", "7 days", "1y"]) {
    assert.throws(() => durationArgument(wrong), /wants a time such as 12h, 7d or 2w, or never/);
  }
});
