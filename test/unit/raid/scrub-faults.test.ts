import { deepEqual, equal, ok } from "node:assert/strict";
import { test } from "node:test";
import { nextTurn } from "../../../src/lib/next-turn.js";
import { BLOCK_BYTES, type LuByte, MIB } from "../../../src/lib/units.js";
import { xorBytes } from "../../../src/parity/xor-bytes.js";
import { EVERY_LAYOUT, ScrubFixture } from "../../support/scrub-fixture.js";

const AT = 37 * BLOCK_BYTES;
const FREE_AT = 2 * MIB + 5 * BLOCK_BYTES;

function block(all: Buffer, at: number): Buffer {
  return all.subarray(at, at + BLOCK_BYTES);
}

for (const [level, members] of EVERY_LAYOUT) {
  const name = `scrub: RAID-${level} on ${members}`;

  test(`${name}: a healthy group is read from end to end, and nothing is found`, async () => {
    const all = await new ScrubFixture(level, members).start();
    const { group, inspector } = all;
    all.rig.events.length = 0;
    const reads = all.rig.devices.map((device) => device!.counters.bytesRead);
    const task = await all.scrub();
    deepEqual([task.state, task.found, task.healed], ["done", 0, 0]);
    equal(task.doneBytes, task.totalBytes);
    for (const [i, device] of all.rig.devices.entries()) {
      ok(device!.counters.bytesRead - reads[i]! >= task.totalBytes, "every row in use was read");
    }
    deepEqual(
      all.rig.events.map((event) => event.kind),
      ["task-started", "task-ended"],
    );
    equal(inspector.slices[0]![0], 0);
    equal(inspector.slices.at(-1)![1], all.lu.sizeBytes);
    for (const [i, [from, to]] of inspector.slices.entries()) {
      if (i > 0) equal(from, inspector.slices[i - 1]![1]);
      ok(to - from <= inspector.sliceBytes);
    }
    equal(inspector.closed, 1);
    const { scrub } = group.describe();
    deepEqual([scrub.state, scrub.atBytes], ["idle", 0]);
    ok(scrub.finishedMs >= scrub.startedMs && scrub.startedMs > 0);
    equal(group.counters().healedBlocks, 0);
    await group.close();
  });

  for (const copy of level === 1 ? [0, 1] : [0]) {
    test(`${name}: a rotten block (copy ${copy}) is healed, and told with disk, place and file`, async () => {
      const all = await new ScrubFixture(level, members).start();
      const place = all.placeOf(AT, copy);
      const before = await all.look(place);
      all.rot(place);
      const task = await all.scrub();
      deepEqual([task.state, task.found, task.healed], ["done", 1, 1]);
      ok((await all.look(place)).equals(before));
      const others = level === 5 ? "rewritten from the other disks" : "rewritten from the other copy";
      const detail = {
        ...{ position: place.position, lu: 1, at: AT },
        ...{ file: "/file (block 37)", what: "checksum", done: others, healed: true },
      };
      deepEqual(all.events("scrub-fault"), [{ kind: "scrub-fault", group: "g", disk: place.disk + 1, detail }]);
      deepEqual(all.events("healed"), [], "one line tells of it");
      const { errors } = all.group.describe().disks[place.disk]!;
      deepEqual(errors, { read: 0, write: 0, checksum: 1, repaired: 1 });
      equal(all.group.counters().healedBlocks, 1);
      equal((await all.scrub()).found, 0);
      await all.group.close();
    });
  }

  test(`${name}: with heal off a fault is reported, and nothing is written`, async () => {
    const all = await new ScrubFixture(level, members).start();
    const place = all.placeOf(AT);
    all.rot(place);
    const second = level === 5 ? all.parityOf(3 * MIB) : all.placeOf(3 * MIB, 1);
    all.rot(second);
    const rotten = await all.look(place);
    let writes = 0;
    all.rig.before = (operation) => {
      if (operation === "write") writes++;
    };
    const task = await all.scrub(all.options(false));
    deepEqual([task.state, task.found, task.healed], ["done", 2, 0]);
    ok((await all.look(place)).equals(rotten));
    equal(writes, 0);
    deepEqual(
      all.events("scrub-fault").map(({ detail }) => [detail.done, detail.healed]),
      [
        ["reported only", false],
        ["reported only", false],
      ],
    );
    const repaired = all.group.describe().disks.reduce((sum, { errors }) => sum + errors!.repaired, 0);
    equal(repaired, 0);
    await all.group.close();
  });

  test(`${name}: a block that the disk cannot read comes from the others and is written again`, async () => {
    for (const inspected of [true, false]) {
      const all = await new ScrubFixture(level, members).start();
      const place = all.placeOf(AT);
      const before = await all.look(place);
      all.rot(place);
      all.unreadable(place);
      const task = await all.scrub(all.options(true, inspected ? all.inspector : null));
      deepEqual([task.state, task.found, task.healed], ["done", 1, 1]);
      ok((await all.look(place)).equals(before));
      const fault = all.events("scrub-fault")[0]!;
      deepEqual([fault.disk, fault.detail.what], [place.disk + 1, "unreadable"]);
      const { errors } = all.group.describe().disks[place.disk]!;
      deepEqual([errors!.checksum, errors!.repaired], [0, 1]);
      ok(errors!.read > 0);
      await all.group.close();
    }
  });

  test(`${name}: a block of zeros that the disk cannot read is found too`, async () => {
    const all = await new ScrubFixture(level, members).start();
    const zeros = Buffer.alloc(BLOCK_BYTES);
    await all.lu.write(zeros, AT as LuByte);
    all.inspector.own(AT, zeros);
    equal((await all.scrub()).found, 0);
    const place = all.placeOf(AT);
    all.unreadable(place);
    const task = await all.scrub();
    deepEqual([task.found, task.healed], [1, 1]);
    ok((await all.look(place)).equals(zeros));
    await all.group.close();
  });

  test(`${name}: a block that nothing proves stays as it is, is named, and its neighbours are healed`, async () => {
    const all = await new ScrubFixture(level, members).start();
    const places = level === 5 ? [all.placeOf(AT), all.parityOf(AT)] : [all.placeOf(AT, 0), all.placeOf(AT, 1)];
    for (const [i, place] of places.entries()) all.rot(place, 0xa0 + i);
    all.rot(all.placeOf(AT + BLOCK_BYTES));
    const task = await all.scrub();
    equal(task.healed, 1);
    ok((await all.look(places[0]!)).equals(Buffer.alloc(BLOCK_BYTES, 0xa0)));
    const lost = all.events("lost-blocks");
    deepEqual(
      lost.map(({ disk, detail }) => [disk, detail.at, detail.file, detail.blocks]),
      [[places[0]!.disk + 1, AT, "/file (block 37)", 1]],
    );
    const unrepaired = all.events("scrub-fault").filter(({ detail }) => detail.done === "cannot be repaired");
    equal(unrepaired.length, level === 5 ? 1 : 2);
    equal(task.found, unrepaired.length + 1);
    await all.group.close();
  });

  test(`${name}: two blocks of one column that cannot be read are lost, and the scrub goes on`, async () => {
    const all = await new ScrubFixture(level, members).start();
    const other = level === 5 ? all.placeOf(AT + all.chunkBytes) : all.placeOf(AT, 1);
    all.unreadable(all.placeOf(AT));
    all.unreadable(other);
    const task = await all.scrub();
    deepEqual([task.state, task.found, task.healed], ["done", 2, 0]);
    equal(all.events("lost-blocks").length, level === 5 ? 2 : 1);
    equal(all.group.describe().state, "clean");
    await all.group.close();
  });

  test(`${name}: what cannot be read and is nobody's is told, and is no loss`, async () => {
    const all = await new ScrubFixture(level, members).start();
    all.inspector.owned.delete(AT);
    all.unreadable(all.placeOf(AT));
    all.unreadable(level === 5 ? all.parityOf(AT) : all.placeOf(AT, 1));
    const task = await all.scrub();
    deepEqual([task.state, task.found, task.healed], ["done", 2, 0]);
    equal(all.events("scrub-fault").length, 2);
    equal(all.events("lost-blocks").length, 0);
    await all.group.close();
  });

  test(`${name}: what nobody owns is made to agree, and nobody is bothered`, async () => {
    const all = await new ScrubFixture(level, members).start();
    for (let at = 2 * MIB; at < 3 * MIB; at += BLOCK_BYTES) all.inspector.owned.delete(at);
    const place = level === 5 ? all.parityOf(FREE_AT) : all.placeOf(FREE_AT, 1);
    const before = await all.look(place);
    all.rot(place);
    const task = await all.scrub();
    deepEqual([task.state, task.found, task.healed], ["done", 0, 0]);
    ok((await all.look(place)).equals(before));
    equal(all.events("scrub-fault").length, 0);
    await all.group.close();
  });

  test(`${name}: where nobody knows which is right, redundancy is made to agree, and the report says so`, async () => {
    const all = await new ScrubFixture(level, members).start();
    const place = level === 5 ? all.parityOf(AT) : all.placeOf(AT, 1);
    const before = await all.look(place);
    all.rot(place);
    const task = await all.scrub(all.options(true, null));
    deepEqual([task.found, task.healed], [1, 1]);
    ok((await all.look(place)).equals(before));
    const fault = all.events("scrub-fault")[0]!;
    const what = level === 5 ? "parity" : "copy";
    deepEqual([fault.disk, fault.detail.what, fault.detail.file], [place.disk + 1, what, null]);
    ok(String(fault.detail.done).includes("nobody can say which was right"));
    equal(all.group.describe().disks[place.disk]!.errors!.checksum, 0);
    ok((await all.readAll()).equals(all.content));
    await all.group.close();
  });

  test(`${name}: a fault that a second look does not confirm is none`, async () => {
    const all = await new ScrubFixture(level, members).start();
    // Its owner has written it anew, and the write is still waiting for the scrub's lock.
    all.inspector.answers.set(
      AT,
      Array.from({ length: level === 5 ? 3 : 4 }, () => "bad"),
    );
    const task = await all.scrub();
    deepEqual([task.state, task.found], ["done", 0]);
    equal(all.inspector.answers.get(AT)!.length, 0);
    equal(all.rig.events.filter(({ kind }) => kind !== "task-started" && kind !== "task-ended").length, 0);
    await all.group.close();
  });

  test(`${name}: what is newer in memory is put in place, and neither found bad nor healed with older content`, async () => {
    const all = await new ScrubFixture(level, members).start();
    const fresh = Buffer.alloc(3 * BLOCK_BYTES, 0x5a);
    await all.lu.write(fresh, AT as LuByte);
    fresh.copy(all.content, AT);
    all.inspector.own(AT, fresh);
    const task = await all.scrub();
    deepEqual([task.state, task.found], ["done", 0]);
    ok((await all.look(all.placeOf(AT))).equals(block(all.content, AT)));
    ok((await all.readAll()).equals(all.content));
    await all.group.close();
  });

  test(`${name}: clients that write meanwhile lose nothing, and nothing is reported`, async () => {
    const all = await new ScrubFixture(level, members, 16 * 1024).start();
    const { rig, lu, content } = all;
    const slow = (operation: string): Promise<void> | undefined =>
      operation === "read" || rig.random.below(2) === 0 ? undefined : nextTurn();
    rig.before = (operation) => slow(operation);
    let writing = true;
    // Each client has a part of its own; who owns a block learns of its new content only when it was written.
    const client = async (first: number): Promise<void> => {
      while (writing) {
        const step = rig.random.below(3) === 0 ? lu.stripeBytes : BLOCK_BYTES * (1 + rig.random.below(4));
        const at = first + Math.floor(rig.random.below(MIB - step) / BLOCK_BYTES) * BLOCK_BYTES;
        const fresh = Buffer.alloc(step, rig.random.below(256));
        for (let i = 0; i < step; i += BLOCK_BYTES) all.inspector.owned.delete(at + i);
        await lu.write(fresh, at as LuByte);
        if (rig.random.below(4) === 0) await lu.flush();
        fresh.copy(content, at);
        all.inspector.own(at, fresh);
      }
    };
    const clients = [0, MIB, 2 * MIB, 3 * MIB].map(client);
    for (let i = 0; i < 4; i++) {
      const task = await all.scrub();
      deepEqual([task.state, task.found, task.healed], ["done", 0, 0]);
    }
    writing = false;
    await Promise.all(clients);
    ok((await all.readAll()).equals(content));
    await all.group.close();
    await all.reopen();
    ok((await all.readAll()).equals(content));
    await all.group.close();
  });
}

test("scrub: RAID-5: a write that comes into memory while the scrub waits for its rows is put in place under the lock", async () => {
  const all = await new ScrubFixture(5, 3).start();
  const { rig, lu, content, inspector } = all;
  let release = (): void => {};
  const gate = new Promise<void>((resolve) => {
    release = resolve;
  });
  let reached = false;
  rig.before = (operation) => {
    if (operation !== "write") return undefined;
    reached = true;
    return gate;
  };
  const whole = lu.write(content.subarray(0, lu.stripeBytes), 0 as LuByte);
  while (!reached) await nextTurn();
  const fresh = Buffer.alloc(BLOCK_BYTES, 0x5a);
  fresh.copy(content, BLOCK_BYTES);
  inspector.own(BLOCK_BYTES, fresh);
  const small = lu.write(fresh, BLOCK_BYTES as LuByte);
  await all.group.scrub(all.options());
  for (let i = 0; i < 20; i++) await nextTurn();
  release();
  await Promise.all([whole, small]);
  const task = await all.ended();
  deepEqual([task.state, task.found], ["done", 0]);
  equal(inspector.judged, 0, "not even looked at twice");
  ok((await all.look(all.placeOf(BLOCK_BYTES))).equals(fresh));
  ok((await all.readAll()).equals(content));
  await all.group.close();
});

for (const members of [3, 5]) {
  test(`scrub: RAID-5 on ${members}: rotten parity under proven data is written anew`, async () => {
    const all = await new ScrubFixture(5, members).start();
    const place = all.parityOf(AT);
    const before = await all.look(place);
    all.rot(place);
    const task = await all.scrub();
    deepEqual([task.state, task.found, task.healed], ["done", 1, 1]);
    ok((await all.look(place)).equals(before));
    const fault = all.events("scrub-fault")[0]!;
    deepEqual([fault.disk, fault.detail.position, fault.detail.what], [place.disk + 1, place.position, "parity"]);
    equal(fault.detail.done, "parity written anew");
    deepEqual(all.group.describe().disks[place.disk]!.errors, { read: 0, write: 0, checksum: 1, repaired: 1 });
    await all.group.close();
  });

  test(`scrub: RAID-5 on ${members}: parity that cannot be read is computed from the data`, async () => {
    const all = await new ScrubFixture(5, members).start();
    const place = all.parityOf(AT);
    const before = await all.look(place);
    all.rot(place);
    all.unreadable(place);
    const task = await all.scrub();
    deepEqual([task.found, task.healed], [1, 1]);
    ok((await all.look(place)).equals(before));
    await all.group.close();
  });

  test(`scrub: RAID-5 on ${members}: rot in space that is half owned leaves data as it is`, async () => {
    const all = await new ScrubFixture(5, members).start();
    // Of the column one block has no owner: it or the parity may be wrong.
    all.inspector.owned.delete(AT);
    all.rot(all.placeOf(AT));
    const task = await all.scrub();
    deepEqual([task.found, task.healed], [1, 1]);
    ok((await all.look(all.placeOf(AT))).equals(Buffer.alloc(BLOCK_BYTES, 0xee)));
    const parity = Buffer.alloc(BLOCK_BYTES);
    const { stripeBytes } = all.lu;
    const first = Math.floor(AT / stripeBytes) * stripeBytes + (AT % all.chunkBytes);
    const data = await Promise.all(
      Array.from({ length: members - 1 }, (_, i) => all.look(all.placeOf(first + i * all.chunkBytes))),
    );
    xorBytes(parity, data);
    ok((await all.look(all.parityOf(AT))).equals(parity));
    ok(String(all.events("scrub-fault")[0]!.detail.done).startsWith("parity and data disagreed"));
    await all.group.close();
  });
}

test("scrub: a thousand events, and one for the rest", async () => {
  const all = await new ScrubFixture(1, 2).start();
  const rotten = 1020;
  for (let i = 0; i < rotten; i++) all.rot(all.placeOf(i * BLOCK_BYTES, 1));
  all.rig.events.length = 0;
  const task = await all.scrub();
  deepEqual([task.found, task.healed], [rotten, rotten]);
  const told = all.rig.events.filter(({ kind }) => kind.startsWith("scrub-"));
  equal(told.length, 1001);
  const last = all.events("scrub-fault").at(-1)!;
  deepEqual([last.detail.what, last.detail.untold], ["more", 20]);
  await all.group.close();
});
