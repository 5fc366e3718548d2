import { deepEqual, equal } from "node:assert/strict";
import { test } from "node:test";
import { Retry } from "../../../src/ha/retry.js";

/** How long it waits after each failure. */
function waits(retry: Retry, reasons: readonly string[]): number[] {
  return reasons.map((why) => {
    retry.failed(why, 0);
    let ms = 0;
    while (!retry.isDue(ms)) ms += 100;
    return ms;
  });
}

test("retry: the wait doubles up to ten seconds while the reason stays the same", () => {
  deepEqual(
    waits(
      new Retry(),
      Array.from({ length: 7 }, () => "too few disks"),
    ),
    [500, 1000, 2000, 4000, 8000, 10_000, 10_000],
  );
});

test("retry: another reason, or a reset, begins anew", () => {
  const retry = new Retry();
  deepEqual(waits(retry, ["a", "a", "b", "b"]), [500, 1000, 500, 1000]);
  equal(retry.waits, true);
  retry.reset();
  equal(retry.waits, false);
  equal(retry.isDue(0), true);
  deepEqual(waits(retry, ["b"]), [500]);
});

test("retry: what is held back stays so, whatever changes", () => {
  const retry = new Retry();
  retry.hold(2000);
  retry.reset();
  equal(retry.isDue(1999), false);
  equal(retry.isDue(2000), true);
});
