import assert from "node:assert/strict";
import { test } from "node:test";
import { CHECK_ITEMS_PER_SLICE, CHECK_ROWS_PER_SLICE } from "../../../../src/fs/contents/check.js";
import { EXTENT_ROWS_AFTER } from "../../../../src/fs/contents/schema.js";
import { isStorageError } from "../../../../src/lib/errors.js";
import { nextTurn } from "../../../../src/lib/next-turn.js";
import { SeededRandom } from "../../../../src/lib/prng.js";
import { BLOCK_BYTES, KIB, MIB } from "../../../../src/lib/units.js";
import { bytes, Rig } from "./fixture.js";

const SEED = Number(process.env.SEED ?? Date.now() % 1_000_000);

async function checked(rig: Rig, onSlice: (itemCount: number) => void = () => {}): Promise<string[]> {
  const faults: string[] = [];
  const files = rig.inodes.numbers();
  for await (const fault of rig.contents.check({ files, onSlice })) faults.push(`${fault.ino}: ${fault.what}`);
  return faults;
}

/** Files of one block in each of `groupCount` groups: many rows, little data. */
async function manyRows(rig: Rig, fileCount: number, groupCount: number): Promise<void> {
  for (let ino = 10; ino < 10 + fileCount; ino++) {
    const inode = rig.inodes.load(ino) ?? rig.inodes.create(ino);
    for (let i = 0; i < groupCount; i++) await rig.write(inode, i * 64 * BLOCK_BYTES, bytes(BLOCK_BYTES, i));
    await rig.contents.stabilize(inode);
  }
  await rig.store.checkpoint();
}

test("check: in slices of bounded length, with a turn for others between them", async () => {
  const rig = await Rig.create();
  await manyRows(rig, 10, 100);
  const slices: number[] = [];
  let turns = 0;
  const turn = setInterval(() => turns++, 0);
  const others: number[] = [];
  const faults = await checked(rig, (itemCount) => {
    slices.push(itemCount);
    setImmediate(() => others.push(slices.length));
  });
  clearInterval(turn);
  assert.deepEqual(faults, []);
  assert.ok(Math.max(...slices) <= Math.max(CHECK_ROWS_PER_SLICE, CHECK_ITEMS_PER_SLICE));
  assert.deepEqual(slices.slice(0, 15), new Array(15).fill(CHECK_ROWS_PER_SLICE));
  assert.ok(new Set(others).size >= 15, "each slice is followed by a turn of the event loop");
  await rig.close();
});

test("check: going on behind a row does not read the rows before it", async () => {
  const rig = await Rig.create();
  const plan = rig.store.db.prepare<[number, number, number], { detail: string }>(
    `EXPLAIN QUERY PLAN ${EXTENT_ROWS_AFTER}`,
  );
  assert.deepEqual(
    plan.all(1, 1, 1).map(({ detail }) => detail),
    ["SEARCH extent USING PRIMARY KEY ((ino,grp)>(?,?))"],
  );
  await rig.close();
});

test("check: a second one is refused while it runs; one that is left lets the next begin", async () => {
  const rig = await Rig.create();
  await manyRows(rig, 2, 100);
  const first = rig.contents.check()[Symbol.asyncIterator]();
  const done = first.next();
  await assert.rejects(checked(rig), (error) => isStorageError(error, "EBUSY"));
  await done;
  assert.deepEqual(await checked(rig), []);
  await rig.close();
});

test(`check: random changes while it runs are no faults, SEED=${SEED}`, async () => {
  const random = new SeededRandom(SEED);
  const rig = await Rig.create({ random: new SeededRandom(SEED + 1), freedGroupsPerStep: 8, cacheBytes: 8 * MIB });
  await manyRows(rig, 20, 100);
  let running = true;
  let changes = 0;
  const numbers = Array.from({ length: 24 }, (_, i) => 10 + i);
  const change = async () => {
    const which = random.below(24);
    const ino = numbers[which]!;
    const inode = rig.inodes.load(ino) ?? rig.inodes.create(ino);
    const choice = random.below(10);
    const at = random.below(100) * 64 * BLOCK_BYTES + random.below(5 * BLOCK_BYTES);
    if (choice < 5) await rig.write(inode, at, bytes(1 + random.below(40 * KIB), changes));
    else if (choice < 7) await rig.contents.stabilize(inode);
    else if (choice < 9) await rig.truncate(inode, at);
    else {
      rig.discard(inode);
      numbers[which] = 100 + changes;
    }
    changes++;
  };
  const load = async () => {
    while (running) {
      await change().catch((error: unknown) => assert.ok(isStorageError(error, "ESTALE"), String(error)));
      if (random.below(4) === 0) await nextTurn();
    }
  };
  const loads = [load(), load(), load()];
  for (let round = 0; round < 12; round++) assert.deepEqual(await checked(rig), []);
  running = false;
  await Promise.all(loads);
  assert.ok(changes > 100, `${changes} changes`);
  assert.deepEqual(await rig.faults(), []);
  await rig.close();
});

test("check: each kind of damage is named", async () => {
  const damage: Array<[sql: string, expected: RegExp]> = [
    ["DELETE FROM extent WHERE ino = 12 AND grp = 1", /12: counts 5 blocks and has 4/],
    ["DELETE FROM extent WHERE ino = 12 AND grp = 1", /0: 1 blocks are marked as allocated, and nothing maps them/],
    ["DELETE FROM extent WHERE ino = 12", /12: counts 5 blocks and has 0/],
    ["UPDATE extent SET map = substr(map, 1, 20) WHERE ino = 12 AND grp = 1", /12: the map of group 1 is damaged/],
    ["UPDATE extent SET grp = 9 WHERE ino = 12 AND grp = 4", /12: block 576 lies behind the end of the file/],
    [
      "INSERT INTO extent SELECT 99, grp, map FROM extent WHERE ino = 12 AND grp = 1",
      /99: extents of a file that does/,
    ],
    ["INSERT INTO extent SELECT 99, grp, map FROM extent WHERE ino = 12 AND grp = 1", /99: block 64 shares block/],
    [
      "UPDATE extent SET map = (SELECT map FROM extent WHERE ino = 11 AND grp = 2) WHERE ino = 12 AND grp = 2",
      /12: block 128 shares block/,
    ],
    [
      "UPDATE extent SET map = CAST(substr(map, 1, 16) || x'f03e00000000' || substr(map, 23) AS BLOB) WHERE ino = 12 AND grp = 3",
      /12: block 192 at 16112 is not marked as allocated/,
    ],
    ["UPDATE segment SET bitmap = zeroblob(length(bitmap)) WHERE seg = 0", /0: the row of segment 0 differs/],
    ["INSERT INTO freeing VALUES (12, 2)", /12: is not being freed from group 2 on/],
    ["INSERT INTO freeing VALUES (12, 2)", /12: reaches into group 2, which is being freed/],
  ];
  for (const [sql, expected] of damage) {
    const rig = await Rig.create({ dataBytes: 64 * MIB });
    await manyRows(rig, 5, 5);
    assert.deepEqual(await checked(rig), []);
    rig.store.db.exec(sql);
    const faults = await checked(rig);
    assert.ok(
      faults.some((fault) => expected.test(fault)),
      `${sql}: ${faults.join("; ")}`,
    );
    await rig.close();
  }
});

test("check: used blocks that no extent backs are a fault, of a file without extents too", async () => {
  const rig = await Rig.create();
  await manyRows(rig, 3, 5);
  rig.inodes.create(50).usedBlocks = 3;
  rig.inodes.load(11)!.usedBlocks += 1;
  await rig.store.durable();
  assert.deepEqual(await checked(rig), ["11: counts 6 blocks and has 5", "50: counts 3 blocks and has 0"]);
  await rig.close();
});
