import { equal } from "node:assert/strict";
import { test } from "node:test";
import { PartnerWatch, type Sighting } from "../../../src/ha/partner-watch.js";
import type { Heartbeat } from "../../../src/ha/record.js";

function beat(sequence: number, pid = 1): Heartbeat {
  return {
    ...{ node: "chn1", sequence, bootId: "boot", pid, processStart: 1, network: "", version: "1" },
    ...{
      service: { host: "127.0.0.1", port: 2049 },
      owned: [],
      wants: [],
      letGo: [],
      trouble: null,
      ...{ reach: null, silent: [], ailing: [], lacks: [] },
      wallMs: 0,
    },
  };
}

/** Of three disks: what those that can be read hold; null: no beat. */
function sighting(...sequences: readonly (number | null)[]): Sighting {
  const found = sequences.flatMap((sequence) => (sequence === null ? [] : [beat(sequence)]));
  return { found, readCount: sequences.length, diskCount: 3 };
}

/** Looks at the disks, each at its time. */
function watching(...looks: readonly (readonly [number, Sighting])[]): PartnerWatch {
  const watch = new PartnerWatch();
  for (const [atMs, seen] of looks) watch.note(seen, atMs, atMs);
  return watch;
}

test("partner watch: silence goes from the last rise to the last look, not up to now", () => {
  const watch = watching([0, sighting(1, 1, 1)], [200, sighting(2, 2, 2)], [900, sighting(2, 2, 2)]);
  equal(watch.silenceMs, 700);
});

test("partner watch: an old beat at the first look is no life, a beat where there was none is", () => {
  equal(watching([0, sighting(7, 7, 7)], [5000, sighting(7, 7, 7)]).silenceMs, 5000);
  // The first look came before the partner's first beat; then this process was stopped for ten seconds.
  equal(watching([0, sighting(null, null, null)], [10_000, sighting(50, 50, 50)]).silenceMs, 0);
});

test("partner watch: what is on one disk of three is not taken for life when all can be read", () => {
  const watch = watching([0, sighting(5, 5, 5)], [3000, sighting(6, 5, 5)], [4000, sighting(9, 5, 5)]);
  equal(watch.silenceMs, 4000);
  equal(watching([0, sighting(5, 5, 5)], [3000, sighting(6, 6, 5)]).silenceMs, 0);
});

test("partner watch: with two disks of three one of them may be all that shows a beat", () => {
  equal(watching([0, sighting(5, 5)], [3000, sighting(6, 5)]).silenceMs, 0);
});

test("partner watch: time in which too few disks can be read is not silence", () => {
  const watch = watching(
    [0, sighting(5, 5, 5)],
    [1000, sighting(5, 5, 5)],
    [9000, sighting(5)],
    [10_000, sighting(5, 5, 5)],
  );
  equal(watch.silenceMs, 2000);
});

test("partner watch: a dead partner's beats do not live by being read from other disks each time", () => {
  const looks = [sighting(9, 9, 8), sighting(9, 8), sighting(8, 9, 9), sighting(8, 8), sighting(9, 8)] as const;
  const watch = watching(...looks.map((look, i) => [i * 1000, look] as const));
  equal(watch.silenceMs, 4000);
  equal(watch.view(4000).heartbeat?.sequence, 9);
});

test("partner watch: a process that counts from a lower number is alive, whatever its predecessor left", () => {
  const old = [beat(50, 1), beat(50, 1), beat(50, 1)];
  const watch = watching([0, { found: old, readCount: 3, diskCount: 3 }]);
  watch.note({ found: [beat(3, 2), beat(3, 2), beat(50, 1)], readCount: 3, diskCount: 3 }, 3000, 3000);
  equal(watch.silenceMs, 0);
  watch.note({ found: [beat(4, 2), beat(4, 2), beat(50, 1)], readCount: 3, diskCount: 3 }, 5000, 5000);
  equal(watch.silenceMs, 0);
});

test("partner watch: its wall clock is known by the beat that came soonest, not by one that was long on its way", () => {
  const watch = new PartnerWatch();
  const at = (sequence: number, wallMs: number): Sighting => {
    const found = [1, 2, 3].map(() => ({ ...beat(sequence), wallMs }));
    return { found, readCount: 3, diskCount: 3 };
  };
  watch.note(at(1, 5000), 1000, 1000);
  equal(watch.view(1000).wallStartMs, null, "the first may be old");
  watch.note(at(2, 50_200), 1200, 1210);
  // We did not run for nine seconds; the same beat is read again, and then one that was written nine seconds ago.
  watch.note(at(2, 50_200), 10_200, 10_200);
  watch.note(at(3, 50_400), 10_400, 10_400);
  equal(watch.view(10_500).wallStartMs, 50_200 - 1210);
});
