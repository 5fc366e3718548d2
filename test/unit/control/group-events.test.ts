import assert from "node:assert/strict";
import { test } from "node:test";
import { groupEvent } from "../../../src/control/group-events.js";
import type { GroupEvent } from "../../../src/raid/contract.js";

function said(kind: GroupEvent["kind"], detail: GroupEvent["detail"] = {}, disk?: number): string {
  const event = groupEvent({ kind, group: "g", detail, ...(disk === undefined ? {} : { disk }) });
  return `${event.severity}: ${event.what}`;
}

test("events: a fault names disk, byte, file and what was done", () => {
  const where = { position: 12345, file: "/data/a.txt (block 17)" };
  const done = "rewritten from the other disks";
  assert.equal(
    said("scrub-fault", { ...where, what: "did not match its checksum", done }, 3),
    "warning: group g: disk #003, byte 12345: /data/a.txt (block 17) did not match its checksum; rewritten from the other disks",
  );
  assert.equal(
    said("scrub-fault", { lu: 2, at: 8192, what: "parity differs" }),
    "warning: group g: LU #2, byte 8192: parity differs",
  );
  assert.equal(said("scrub-fault"), "warning: group g: a place: is wrong");
  assert.equal(
    said("healed", where, 3),
    "warning: group g: disk #003, byte 12345 (/data/a.txt (block 17)) was bad and has been rewritten",
  );
  assert.equal(said("lost-blocks", { lu: 1, at: 0 }), "error: group g: LU #1, byte 0 was given up and is lost");
  assert.equal(
    said("unread-block", { position: 4096 }, 2),
    "warning: group g: disk #002, byte 4096 cannot be read now; it stays as it is, and is tried again",
  );
  assert.equal(
    said("block-back", { lu: 1, at: 0 }),
    "info: group g: LU #1, byte 0 could not be read, and is there again",
  );
  assert.equal(
    said("rebuild-waits", { for: 2, position: 4096 }, 4),
    "warning: group g: the rebuild of disk #004 waits for disk #002: unreadable at byte 4096",
  );
  assert.match(said("rebuild-goes-on", {}, 4), /^info: .*the rebuild of disk #004 waits for nothing any more/);
  assert.match(
    said("disk-lent", {}, 4),
    /^info: .*disk #004 is here again, and what its successor lacks is read from it/,
  );
  assert.equal(
    said("read-error", { position: 4096, error: "EIO" }, 2),
    "warning: group g: disk #002, byte 4096 could not be read: EIO",
  );
});

test("events: a place that could not be read and was repaired at once", () => {
  assert.equal(
    said("read-error", { position: 4096, repaired: true }, 2),
    "warning: group g: disk #002, byte 4096 could not be read; rewritten from the other disks",
  );
});

test("events: members come and go by number and with the reason", () => {
  assert.equal(
    said("member-failed", { reason: "20 errors" }, 7),
    "error: group g: disk #007 is no longer used: 20 errors",
  );
  assert.equal(said("member-failed", { gone: true }, 7), "error: group g: disk #007 was pulled out");
  assert.equal(said("member-released", {}, 7), "info: group g: disk #007 was let go, its path is free");
  assert.match(said("member-slow", {}, 7), /^warning: .*disk #007 answers much later/);
  assert.equal(said("member-well", {}, 7), "info: group g: disk #007 answers in time again");
  assert.match(said("member-returned", {}, 7), /disk #007 is back/);
  assert.match(said("member-stale", { reason: "was put back" }, 7), /disk #007 is stale and is not read: was put back/);
  assert.match(
    said("member-replaced", { replaces: 3 }, 7),
    /disk #007 takes the place of disk #003 and is being rebuilt/,
  );
  assert.match(said("member-replaced", {}, 7), /disk #007 takes the place of another/);
});

test("events: states of the group have the severity of what a person must do", () => {
  assert.equal(said("degraded"), "warning: group g: redundancy is lost");
  assert.equal(said("complete"), "info: group g: redundancy is whole again");
  assert.match(said("failed"), /^error: group g: too many disks are lost/);
  assert.match(said("replayed"), /^info: /);
  assert.match(said("resynced"), /^info: /);
});

test("events: work in the background tells how it ended", () => {
  assert.equal(said("task-started", { kind: "rebuild" }, 4), "info: group g: the rebuild of disk #004 began");
  assert.equal(said("task-started", { kind: "grow" }, 4), "info: group g: the growth on to disk #004 began");
  const scrub = { kind: "scrub", state: "done", found: 0, healed: 0 };
  assert.equal(said("task-ended", scrub), "info: group g: the scrub is done: nothing was wrong");
  assert.equal(
    said("task-ended", { ...scrub, found: 3, healed: 3 }),
    "warning: group g: the scrub is done: 3 places wrong, 3 healed",
  );
  assert.match(said("task-ended", { ...scrub, found: 3, healed: 1 }), /^error: .*3 places wrong, 1 healed/);
  assert.equal(
    said("task-ended", { kind: "rebuild", state: "done", found: 2, healed: 0 }, 4),
    "error: group g: the rebuild of disk #004 is done: 2 blocks given up",
  );
  assert.equal(
    said("task-ended", { kind: "rebuild", state: "failed", reason: "disk #002: EIO" }, 4),
    "error: group g: the rebuild of disk #004 failed: disk #002: EIO",
  );
  assert.equal(
    said("task-ended", { kind: "scrub", state: "cancelled", doneBytes: 1048576 }),
    "info: group g: the scrub was given up after 1 MiB",
  );
});

test("events: the facts stay beside the sentence", () => {
  const { kind, detail } = groupEvent({ kind: "read-error", group: "g", disk: 2, detail: { position: 4096 } });
  assert.deepEqual([kind, detail], ["group-read-error", { group: "g", disk: 2, position: 4096 }]);
});
