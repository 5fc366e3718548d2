import assert from "node:assert/strict";
import { PassThrough } from "node:stream";
import { test } from "node:test";
import { printDisks } from "../../../src/cli/commands/disk.js";
import { describeScrub } from "../../../src/cli/commands/task.js";
import { diskOrPathArgument } from "../../../src/cli/context.js";
import { Output } from "../../../src/cli/output.js";
import type { DiskRow } from "../../../src/control/types.js";
import { NO_SCRUB } from "../../../src/raid/label.js";

const DISK: DiskRow = {
  ...{ number: 1, path: "/d1", sizeBytes: 1024, levels: [5], state: "online", group: "g", reason: null },
  ...{ errors: { read: 0, write: 0, checksum: 0, repaired: 0 }, slow: false },
};

test("disk list: errors and slowness stand below the table when there are any", () => {
  const stream = new PassThrough();
  const out = new Output(false, stream, false);
  const troubled = {
    ...DISK,
    number: 2,
    path: "/d2",
    errors: { read: 2, write: 0, checksum: 1, repaired: 3 },
    slow: true,
  };
  const spare = { ...DISK, number: 3, path: "/d3", levels: [], group: null, state: "spare" as const };
  printDisks(out, [DISK, troubled, spare, { ...DISK, number: 4, path: "/d4", state: "rebuilding", reason: "why" }]);
  assert.equal(
    String(stream.read()),
    [
      "DISK  VOLUME  RAID  STATE       GROUP  PATH",
      "#001  1 KiB   5     USED        g      /d1",
      "#002  1 KiB   5     USED        g      /d2",
      "#003  1 KiB   –     SPARE       –      /d3",
      "#004  1 KiB   5     REBUILDING  g      /d4",
      "disk #002: 2 read errors, 1 wrong checksum, 3 blocks repaired",
      "disk #002: slow: read only when there is no other way",
      "disk #004: why",
      "",
    ].join("\n"),
  );
});

test("disk replace --with: a number, else a path", () => {
  assert.equal(diskOrPathArgument("#007"), 7);
  assert.equal(diskOrPathArgument("7"), 7);
  assert.equal(diskOrPathArgument("/dev/sdx"), "/dev/sdx");
  assert.throws(() => diskOrPathArgument("0"), /is no disk number/);
});

test("group list: a scrub's schedule and last outcome", () => {
  const at = { startedMs: 1_000, finishedMs: 2_000 };
  assert.equal(describeScrub({ ...NO_SCRUB, everySeconds: 604_800 }), "scrubbed every 7 d; never yet");
  assert.equal(
    describeScrub({ ...NO_SCRUB, ...at, found: 1, healed: 1 }),
    "scrubbed by hand; last on 1970-01-01T00:00:02.000Z: 1 place wrong, 1 healed",
  );
  assert.equal(
    describeScrub({ ...NO_SCRUB, ...at, heal: false, found: 1 }),
    "scrubbed by hand; last on 1970-01-01T00:00:02.000Z: 1 place wrong, 0 healed (only reported)",
  );
  assert.equal(
    describeScrub({ ...NO_SCRUB, startedMs: 3_000, finishedMs: 2_000, state: "paused" }),
    "scrubbed by hand; paused since 1970-01-01T00:00:03.000Z: nothing wrong so far",
  );
});
