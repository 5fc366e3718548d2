import { equal } from "node:assert/strict";
import { test } from "node:test";
import { LIVES_MAX } from "../../../src/raid/limits.js";
import { isBehind, type Lineal, NO_LINEAGE, wentApart } from "../../../src/raid/lineage.js";

/** @param lives  "a1 b5": life a from generation 1, life b from 5 */
function label(generation: number, wholeFrom: number, lives: string): Lineal {
  const entries = lives.split(" ").map((life) => ({ id: life[0]!, generation: Number(life.slice(1)) }));
  return { generation, lineage: { wholeFrom, lives: entries } };
}

const old = (generation: number): Lineal => ({ generation, lineage: NO_LINEAGE });

test("lineage: a disk is behind when its own label is below what every member has confirmed; a raise cut short makes nobody so", () => {
  equal(isBehind(label(4, 4, "a1"), 5), true);
  equal(isBehind(label(5, 4, "a1"), 5), false);
  equal(isBehind(label(6, 5, "a1 b6"), 5), false);
  // It is about to become a member: as whole as those that it was made by.
  equal(isBehind(label(0, 5, "a1"), 5), false);
  equal(isBehind(label(0, 4, "a1"), 5), true);
});

test("lineage: who comes from the same lives did not go apart, however old it is", () => {
  const ours = label(20, 20, "a1 b5 c9");
  for (const theirs of [label(1, 1, "a1"), label(4, 4, "a1"), label(8, 8, "a1 b5"), label(20, 19, "a1 b5 c9")]) {
    equal(wentApart(ours, theirs), false, JSON.stringify(theirs));
  }
  // Ahead in the same life: it is the newer one.
  equal(wentApart(label(20, 20, "a1 b5 c9"), label(21, 21, "a1 b5 c9")), false);
});

test("lineage: a life that the other does not know, or that it left earlier, is one apart", () => {
  equal(wentApart(label(20, 20, "a1 b5 c9"), label(9, 9, "a1 b5 d9")), true);
  equal(wentApart(label(9, 9, "a1 b5 d9"), label(20, 20, "a1 b5 c9")), true);
  // One was put back into the middle of life b and went on from there; the other has what life b did since.
  equal(wentApart(label(12, 12, "a1 b5 d8"), label(9, 9, "a1 b5")), true);
  equal(wentApart(label(12, 12, "a1 b5 d8"), label(8, 7, "a1 b5")), false);
});

test("lineage: what a crash cut short was not used: neither a first raise nor one of a life that others know", () => {
  equal(wentApart(label(9, 9, "a1 b5 c9"), label(9, 8, "a1 b5 d9")), false);
  equal(wentApart(label(1, 1, "a1"), label(1, 0, "a1")), false);
});

test("lineage: labels of before there were lives are told by their numbers", () => {
  equal(wentApart(label(6, 6, "a6"), old(5)), false);
  equal(wentApart(label(6, 6, "a6"), old(6)), true);
  equal(wentApart(old(5), old(5)), false);
  equal(wentApart(old(5), old(6)), true);
  equal(wentApart(old(5), label(6, 6, "a6")), true);
  // The first life after the upgrade has written nothing yet.
  equal(wentApart(label(6, 6, "b6"), label(6, 0, "a6")), false);
});

test("lineage: a label of before what is remembered is old, not apart", () => {
  const lives = Array.from({ length: LIVES_MAX }, (_, i) => ({ id: `${i}`, generation: 1000 + i }));
  const ours = { generation: 2000, lineage: { wholeFrom: 2000, lives } };
  equal(wentApart(ours, label(999, 999, "a1")), false);
  equal(wentApart(ours, label(1500, 1500, "a1 z1400")), true);
});
