import assert from "node:assert/strict";
import { test } from "node:test";
import { isStorageError } from "../../../src/lib/errors.js";
import { SILENT } from "../../../src/lib/log.js";
import type { LuByte } from "../../../src/lib/units.js";
import type { LogicalUnit } from "../../../src/lu/lu.js";
import { openPageStore } from "../../../src/pagestore/open.js";
import { clock, createTable, formattedLu, open, put, rows, temporaryDirectory } from "./rig.js";

// The owner's scratch copy has the name that a reader's would have.
const readerDir = temporaryDirectory();

function look(lu: LogicalUnit, more: { epoch?: () => number } = {}) {
  return openPageStore({ lu, scratchDir: readerDir, clock, log: SILENT, cacheBytes: 2 ** 20, readOnly: true, ...more });
}

test("page store, read only: sees what is durable, under whatever epoch, while the owner has it open", async () => {
  const lu = await formattedLu();
  const owner = await open(lu, { epoch: () => 7 });
  createTable(owner);
  put(owner, 1, "one");
  await owner.durable();
  put(owner, 2, "not durable");
  const view = await look(lu);
  assert.deepEqual(rows(view), [{ k: 1, v: "one" }]);
  await view.close();
  await owner.close();
  const later = await look(lu);
  assert.equal(rows(later).length, 2);
  await later.close();
});

test("page store, read only: nothing is written, flushed or healed, and nothing can be made durable", async () => {
  const lu = await formattedLu({ redundant: true });
  const owner = await open(lu);
  createTable(owner);
  put(owner, 1, "one");
  await owner.close();
  for (let at = 0; at < 128 * 1024; at += 4096) lu.corrupt(at);
  const before = { ...lu.counters, reads: 0, bytesRead: 0 };
  const view = await look(lu);
  assert.deepEqual(rows(view), [{ k: 1, v: "one" }]);
  put(view, 2, "two");
  for (const way of [view.durable(), view.checkpoint()]) {
    await assert.rejects(way, (error) => isStorageError(error, "EROFS"));
  }
  await view.close();
  assert.deepEqual({ ...lu.counters, reads: 0, bytesRead: 0 }, before);
});

test("page store, read only: a checkpoint of the owner in the middle of the reading is noticed", async () => {
  const lu = await formattedLu();
  const owner = await open(lu);
  createTable(owner);
  for (let k = 0; k < 50; k++) put(owner, k, "x".repeat(1000));
  await owner.durable();
  let checkpointed = false;
  const disturbed: LogicalUnit = Object.assign(Object.create(lu) as LogicalUnit, {
    read: async (target: Buffer, at: LuByte) => {
      await lu.read(target, at);
      // The superblock has been read; what it says is old when the rest is.
      if (at > 0 && !checkpointed) {
        checkpointed = true;
        await owner.checkpoint();
      }
    },
    readAlternatives: (target: Buffer, at: LuByte) => lu.readAlternatives(target, at),
    sizeBytes: lu.sizeBytes,
  });
  await assert.rejects(look(disturbed), (error) => isStorageError(error, "EBUSY") || isStorageError(error, "EIO"));
  const view = await look(lu);
  assert.equal(rows(view).length, 50);
  await view.close();
  await owner.close();
});
