import { deepEqual, equal, match } from "node:assert/strict";
import { test } from "node:test";
import { compareCopies } from "../../../src/control/compare-copies.js";
import type { ServedFileSystem } from "../../../src/control/layers.js";
import type { LuDescription } from "../../../src/lu/lu.js";
import type { Group, LuComparison, LuFault } from "../../../src/raid/contract.js";

const SERVED = { inspectors: () => new Map() } as unknown as ServedFileSystem;
const LU = { number: 1, name: "data" } as LuDescription;

function fault(what: LuFault["what"], position: number): LuFault {
  return { disk: 2, position, lu: 1, at: position, what, done: "told", healed: false, file: null };
}

function compared(answer: LuComparison) {
  return compareCopies([{ compareLu: async () => answer } as unknown as Group, LU], SERVED);
}

test("compare copies: what a disk does not give out is no problem of the file system, however much it is", async () => {
  const faults = [fault("unreadable", 0), fault("unreadable", 4096)];
  const { problems, notes } = await compared({ faults, wrong: 0, unreadable: 2048, why: null });
  deepEqual(problems, []);
  equal(notes.length, 3);
  equal(notes[2], "LU data: and 2046 other places that cannot be read");
});

test("compare copies: what is wrong is a problem each, and so is what was only counted", async () => {
  const faults = [fault("unreadable", 0), fault("copy", 4096)];
  const { problems, notes } = await compared({ faults, wrong: 3, unreadable: 1, why: null });
  equal(problems.length, 2);
  match(problems[0]!, /^LU data byte 4096, disk #002 byte 4096: the two copies differ; told$/);
  equal(problems[1], "LU data: and 2 other places");
  equal(notes.length, 1);
});
