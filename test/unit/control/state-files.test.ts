import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { test } from "node:test";
import { EventLog } from "../../../src/control/event-log.js";
import { StateFiles } from "../../../src/control/state-files.js";
import { SILENT } from "../../../src/lib/log.js";
import { HandClock } from "../../support/hand-clock.js";

test("state files: what cannot be written is told once, read back meanwhile, and written when it can be", async (t) => {
  const folder = mkdtempSync(path.join(os.tmpdir(), "stripeward-state-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const clock = new HandClock();
  const events = new EventLog(clock, SILENT);
  const files = new StateFiles(clock, events);
  const place = path.join(folder, "state");
  // Nobody can make a file in what is a file, root or not.
  writeFileSync(place, "");
  const book = path.join(place, "book.json");
  files.writeJson(book, "the list of backups", [1]);
  files.writeJson(book, "the list of backups", [1, 2]);
  files.writeJson(path.join(place, "known.json"), "the list of disks", ["/d"]);
  assert.match(files.trouble ?? "", /^the list of backups cannot be written \(.*\): it is kept in memory/);
  assert.deepEqual(files.readJson(book), [1, 2]);
  assert.deepEqual(
    events.last(10).map(({ kind }) => kind),
    ["state-not-written"],
  );
  rmSync(place);
  await clock.advance(5000);
  assert.equal(files.trouble, null);
  assert.deepEqual(JSON.parse(readFileSync(book, "utf8")), [1, 2]);
  assert.deepEqual(readdirSync(place).sort(), ["book.json", "known.json"]);
  assert.equal(events.last(10).at(-1)?.kind, "state-written");
  writeFileSync(book, "not JSON");
  assert.equal(files.readJson(book), undefined);
  files.end();
});
