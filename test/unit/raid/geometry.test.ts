import { deepEqual, equal, ok } from "node:assert/strict";
import { test } from "node:test";
import { MIB } from "../../../src/lib/units.js";
import { type CopyPlace, Raid1Geometry, Raid5Geometry, RowMap } from "../../../src/raid/geometry.js";
import { planShape } from "../../../src/raid/layout.js";

const CHUNK = 64 * 1024;

function rows(count: number): RowMap {
  const shape = planShape(100 * MIB, 3, CHUNK);
  return new RowMap(shape, [
    { first: 7, count: 1 },
    { first: 2, count: count - 1 },
  ]);
}

test("geometry: RAID-5 is md's left-symmetric layout", () => {
  const g = new Raid5Geometry(5, CHUNK, 1, rows(2));
  // Documentation/md of Linux: a row per stripe, members 0 to 4, data chunks 0 to 3, P the parity.
  const table: string[] = [];
  for (let stripe = 0; stripe < 5; stripe++) {
    const line: string[] = new Array(5).fill("?");
    line[g.parityMember(stripe)] = "P";
    for (let i = 0; i < 4; i++) line[g.dataMember(stripe, i)] = String(i);
    table.push(line.join(""));
  }
  deepEqual(table, ["0123P", "123P0", "23P01", "3P012", "P0123"]);
});

test("geometry: parity stays on a member for a run of stripes, and moves to the one before with the next", () => {
  const g = new Raid5Geometry(3, CHUNK, 4, rows(2));
  const parity = Array.from({ length: 16 }, (_, stripe) => g.parityMember(stripe));
  deepEqual(parity, [2, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0, 2, 2, 2, 2]);
  deepEqual([g.dataMember(3, 0), g.dataMember(3, 1), g.dataMember(4, 0), g.dataMember(4, 1)], [0, 1, 2, 0]);
});

for (const [members, parityRun] of [
  [3, 1],
  [4, 16],
  [5, 1],
  [5, 16],
  [8, 4],
] as const) {
  test(`geometry: every chunk of RAID-5 on ${members}, parity run ${parityRun}, has one place, and parity the rest`, () => {
    const g = new Raid5Geometry(members, CHUNK, parityRun, rows(3));
    const seen = new Set<string>();
    for (let stripe = 0; stripe < g.stripeCount; stripe++) {
      for (let i = 0; i < g.dataMembers; i++) seen.add(`${g.dataMember(stripe, i)}/${g.memberByte(stripe)}`);
      seen.add(`${g.parityMember(stripe)}/${g.memberByte(stripe)}`);
    }
    equal(seen.size, (3 * MIB * members) / CHUNK);
    equal(g.capacityBytes, 3 * MIB * (members - 1));
  });
}

for (const members of [2, 3, 4, 5, 7]) {
  test(`geometry: the two copies of a RAID-1 chunk on ${members} lie on different members, and nothing is left over`, () => {
    const g = new Raid1Geometry(members, CHUNK, rows(3));
    const seen = new Set<string>();
    const place = { member: 0, inLu: 0 } as CopyPlace;
    for (let chunk = 0; chunk < g.chunkCount; chunk++) {
      const on: number[] = [];
      for (const copy of [0, 1]) {
        g.locate(chunk, copy, place);
        on.push(place.member);
        seen.add(`${place.member}/${g.rows.memberByte(place.inLu)}`);
      }
      ok(on[0] !== on[1]);
    }
    equal(seen.size, (3 * MIB * members) / CHUNK);
    equal(g.capacityBytes, (3 * MIB * members) / 2);
  });
}

test("geometry: the chunks of a pair of chunk rows are those whose copies lie there", () => {
  const g = new Raid1Geometry(5, CHUNK, rows(3));
  deepEqual(g.chunksIn(4 * CHUNK, 8 * CHUNK), { first: 10, end: 20 });
});

test("geometry: rows in several runs map and overlap as they lie on the member", () => {
  const map = rows(3);
  const start = 2 * MIB + 4 * MIB;
  equal(map.memberByte(0), start + 7 * MIB);
  equal(map.memberByte(MIB), start + 2 * MIB);
  equal(map.memberByte(3 * MIB - 1), start + 4 * MIB - 1);
  deepEqual(map.overlaps(start + 3 * MIB, start + 8 * MIB), [
    { from: 0, to: MIB },
    { from: 2 * MIB, to: 3 * MIB },
  ]);
});
