import assert from "node:assert/strict";
import { test } from "node:test";
import { KIB } from "../../../src/lib/units.js";
import { isScratchTrouble } from "../../../src/pagestore/scratch.js";
import { filled, MemoryFileSystem } from "../../support/memory-file-system.js";
import { ALICE, bytes, makeFile, namesOf, refused } from "../../support/namespace-fixture.js";

/** Of the events that tell of room. */
function told(memory: MemoryFileSystem): string[] {
  return memory.events.flatMap(({ kind }) => (kind === "room" || kind === "no-room" ? [kind] : []));
}

test("scratch folder full: nothing is created or written, everything else goes on, and all of it when there is room again", async () => {
  const memory = await MemoryFileSystem.open();
  const { root } = memory.fs;
  const file = await makeFile(memory.fs, ALICE, root, "file");
  await makeFile(memory.fs, ALICE, root, "other");
  await memory.fs.write(ALICE, file, 0, bytes("stable"), "stable");
  await memory.fs.write(ALICE, file, 100, bytes("not yet"), "unstable");
  memory.folder.fill();
  // The first commit finds out; it has been promised, and has room.
  await memory.fs.commit(ALICE, file, 0, 0);
  await refused("EBUSY", () => makeFile(memory.fs, ALICE, root, "new"));
  await refused("EBUSY", () => memory.fs.write(ALICE, file, 0, bytes("new"), "unstable"));
  assert.match(memory.fs.trouble() ?? "", /no room for the copy of its metadata in the state directory/);
  const target = Buffer.alloc(7);
  await memory.fs.read(ALICE, file, 100, target);
  assert.equal(target.toString(), "not yet");
  for (let i = 0; i < 50; i++) await memory.fs.setattr(ALICE, file, { mode: 0o600 + (i % 8) });
  await memory.fs.setattr(ALICE, file, { sizeBytes: 3 });
  await memory.fs.remove(ALICE, root, bytes("other"));
  assert.deepEqual(namesOf(memory.fs, root), [".", "..", "file"]);
  assert.equal(memory.fs.failed, null);
  memory.folder.clear();
  await memory.fs.write(ALICE, await makeFile(memory.fs, ALICE, root, "new"), 0, filled(200 * KIB, 3), "stable");
  assert.equal(memory.fs.trouble(), null);
  assert.deepEqual(told(memory), ["no-room", "room"]);
  await memory.crash();
  assert.deepEqual(namesOf(memory.fs, root), [".", "..", "file", "new"]);
  assert.deepEqual((await memory.fs.check({ data: true })).faults, []);
  await memory.end();
});

test("scratch folder full, and the room that was held is gone too: the file system stops, loses nothing that was answered, and is mounted again", async () => {
  const memory = await MemoryFileSystem.open();
  const { root } = memory.fs;
  const file = await makeFile(memory.fs, ALICE, root, "file");
  memory.folder.fill();
  memory.folder.forget();
  memory.folder.fill();
  await refused("EBUSY", () => memory.fs.setattr(ALICE, file, { mode: 0o640 }));
  assert.equal(isScratchTrouble(memory.fs.failed), true);
  const [event] = memory.events.filter(({ kind }) => kind === "failed");
  assert.ok(event?.kind === "failed");
  assert.deepEqual(event.error.detail, {
    cause: "there is no room for the copy of the metadata in the state directory",
    scratch: true,
  });
  memory.folder.clear();
  await memory.fs.close();
  await memory.mount();
  assert.equal(memory.fs.getattr(file).mode, 0o644);
  await memory.fs.setattr(ALICE, file, { mode: 0o640 });
  await memory.end();
});
