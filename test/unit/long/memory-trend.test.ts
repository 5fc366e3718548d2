import assert from "node:assert/strict";
import { test } from "node:test";
import { afterWarmUp, type MemorySample, slopeOf } from "../../long/memory-trend.js";

function samplesOf(resident: (hours: number) => number): MemorySample[] {
  return Array.from({ length: 360 }, (_, i) => {
    const hours = i / 120;
    return { hours, residentMib: resident(hours), heapMib: 50, externalMib: 100 };
  });
}

test("memory trend: a leak shows beside noise, caches that fill at first do not", () => {
  const noise = (hours: number) => 15 * Math.sin(hours * 997);
  const filling = afterWarmUp(samplesOf((hours) => 300 + noise(hours) - 200 * Math.exp(-hours * 12)));
  assert.ok(Math.abs(slopeOf(filling, ({ residentMib }) => residentMib)) < 3);
  const leaking = afterWarmUp(samplesOf((hours) => 300 + noise(hours) + 40 * hours));
  assert.ok(Math.abs(slopeOf(leaking, ({ residentMib }) => residentMib) - 40) < 3);
  assert.equal(
    slopeOf(leaking, ({ heapMib }) => heapMib),
    0,
  );
});
