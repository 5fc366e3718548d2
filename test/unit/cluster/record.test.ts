import { deepEqual, equal, match, throws } from "node:assert/strict";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { type TestContext, test } from "node:test";
import { lockFolder, RecordBook, terminalName } from "../../../src/cluster/record.js";

function folder(t: TestContext): string {
  const made = mkdtempSync(path.join(os.tmpdir(), "stripeward-record-"));
  t.after(() => rmSync(made, { recursive: true, force: true }));
  return made;
}

const STEPS = [
  { id: "a", what: "do a", node: null },
  { id: "b", what: "do b", node: "chn1" },
];

test("record: before and after each step it is in the file who does what, and when", (t) => {
  const place = folder(t);
  let seconds = 0;
  const now = () => new Date(Date.UTC(2026, 0, 1, 0, 0, seconds++));
  const book = RecordBook.open(place, { x: 1 }, STEPS, now);
  const stored = () => RecordBook.read(place)!.steps[0]!;
  deepEqual([stored().state, stored().attempts], ["pending", 0]);
  book.begin("a", "me@here");
  deepEqual(
    [stored().state, stored().by, stored().begun, stored().ended],
    ["running", "me@here", "2026-01-01T00:00:00.000Z", null],
  );
  book.failed("a", "me@here", "no disk");
  deepEqual([stored().state, stored().outcome], ["failed", "no disk"]);
  book.begin("a", "me@here");
  book.done("a", "me@here", "made");
  deepEqual(
    [stored().state, stored().attempts, stored().ended, stored().outcome],
    ["done", 2, "2026-01-01T00:00:03.000Z", "made"],
  );
  equal(existsSync(path.join(place, "cluster.json.new")), false);
  throws(() => book.begin("c", "me"), /no step "c"/);
});

test("record: opened again it goes on; steps that the plan has no more are left out", (t) => {
  const place = folder(t);
  RecordBook.open(place, {}, STEPS).done("a", "me", "made");
  const again = RecordBook.open(place, {}, [STEPS[0]!, { id: "c", what: "do c", node: null }]);
  deepEqual(
    again.record.steps.map(({ id, state }) => [id, state]),
    [
      ["a", "done"],
      ["c", "pending"],
    ],
  );
  equal(again.isDone("a"), true);
});

test("record: a file that is none of ours is refused, and so is a second set-up at the same time", (t) => {
  const place = folder(t);
  equal(RecordBook.read(place), null);
  const release = lockFolder(place);
  throws(() => lockFolder(place), /another "cluster init" is at work in /);
  release();
  lockFolder(place)();
  writeFileSync(path.join(place, "cluster.json"), '{"version":2}');
  throws(() => RecordBook.read(place), /cluster\.json is no record of a set-up by this version/);
  match(terminalName(), /^.+@.+$/);
  equal(readFileSync(path.join(place, "cluster.json"), "utf8"), '{"version":2}');
});
