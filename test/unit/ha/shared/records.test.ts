import { deepEqual, equal, match, rejects } from "node:assert/strict";
import { test } from "node:test";
import { NodeRecords, type NodeRecordsOptions } from "../../../../src/ha/shared/node-records.js";
import type { PartitionLu } from "../../../../src/ha/shared/partition.js";
import { readNodeRecords } from "../../../../src/ha/shared/read-records.js";
import { SystemClock } from "../../../../src/lib/clock.js";
import { isStorageError, StorageError } from "../../../../src/lib/errors.js";
import { SILENT } from "../../../../src/lib/log.js";
import { SeededRandom } from "../../../../src/lib/prng.js";
import { openPageStore } from "../../../../src/pagestore/open.js";
import { SharedRig, scratchFolder } from "../../../support/shared-rig.js";

const scratchDir = scratchFolder();
const clock = new SystemClock();
// Each store gets an identity of its own, and a scratch file with it.
const random = new SeededRandom(2);
const common = { scratchDir, clock, log: SILENT } as const;
// The clock's timers do not keep the process alive.
const awake = setInterval(() => {}, 1000);
test.after(() => clearInterval(awake));

async function rig(members = 2) {
  const made = new SharedRig({ members });
  await made.create();
  return made;
}

function open(lu: PartitionLu, more: Partial<NodeRecordsOptions> = {}): Promise<NodeRecords> {
  return NodeRecords.open({ ...common, lu, node: "chn1", epoch: 1, random, ...more });
}

function mount(i: number, path = "/data") {
  return { what: "mount", host: `10.0.${i >> 8}.${i & 255}`, path } as const;
}

test("records: four kinds survive a restart, and each comes back as it was", async () => {
  const made = await rig();
  let group = await made.open();
  let records = await open(await made.writer(group));
  equal(records.upsert("client", "a", mount(1)), "written");
  records.upsert("user", "uid 0", { what: "administrator", uid: 0, how: "owner of the socket" });
  records.upsert("service", "nfs", { what: "service", name: "nfs", state: "running" });
  records.upsert("daemon", "part x", { what: "part", name: "x", state: "clean" });
  await records.durable();
  await records.close();
  await group.close();
  group = await made.open();
  records = await open(await made.writer(group));
  deepEqual(
    records.list("client").map(({ key, value }) => [key, value]),
    [["a", mount(1)]],
  );
  equal(records.size, 4);
  equal(records.delete("daemon", "part x"), true);
  equal(records.delete("daemon", "part x"), false);
  await records.close();
  await group.close();
  const view = await readNodeRecords(await (await made.open()).openForReading("chn1"), common);
  deepEqual(
    [view?.records.client.length, view?.records.user.length, view?.records.service.length, view?.records.daemon],
    [1, 1, 1, []],
  );
  equal(view?.records.service[0]?.value.what, "service");
});

test("records: what has not changed is not written", async () => {
  const made = await rig();
  const records = await open(await made.writer(await made.open()));
  records.upsert("client", "a", mount(1));
  await records.durable();
  const { writes } = made.devices[0]!.counters;
  const { age } = records;
  for (let i = 0; i < 20; i++) {
    equal(records.upsert("client", "a", mount(1)), "unchanged");
    await records.durable();
  }
  equal(made.devices[0]!.counters.writes, writes);
  deepEqual(records.age, age);
});

test("records: a commit is one write on each copy, and no flush", async () => {
  const made = await rig();
  const lu = await made.writer(await made.open());
  const records = await open(lu);
  await lu.settled();
  const counters = () => made.devices.map(({ counters: { writes, flushes } }) => [writes, flushes]);
  const before = counters();
  for (let i = 0; i < 5; i++) records.upsert("client", `k${i}`, mount(i));
  await records.durable();
  deepEqual(
    counters(),
    before.map(([writes, flushes]) => [writes! + 1, flushes]),
  );
});

test("records: acknowledged ones are there after a crash at any write, on each copy alone", async () => {
  const whole = await rig();
  let operations = 0;
  let cut = false;
  const life = async (made: SharedRig, acknowledged: Map<string, string>) => {
    const records = await open(await made.writer(await made.open()));
    for (let i = 0; i < 12; i++) {
      const key = `k${i % 5}`;
      records.upsert("client", key, mount(i));
      await records.durable();
      // Nobody is there any more to hear it.
      if (cut) return;
      acknowledged.set(key, mount(i).host);
    }
  };
  whole.before = (operation) => void (operation !== "read" && operations++);
  await life(whole, new Map());
  for (let cutAt = 1; cutAt <= operations; cutAt += 3) {
    const made = await rig();
    let count = 0;
    cut = false;
    made.before = (operation) => {
      if (operation !== "read" && ++count >= cutAt) cut = true;
      if (cut) throw new StorageError("ENXIO", "the power is off");
    };
    const acknowledged = new Map<string, string>();
    await life(made, acknowledged).catch(() => {});
    made.before = null;
    made.crash("random");
    for (const slots of [[0], [1], [0, 1]]) {
      const view = await readNodeRecords(await (await made.open(slots)).openForReading("chn1"), common);
      const found = new Map(view?.records.client.map(({ key, value }) => [key, value.host]));
      for (const [key, host] of acknowledged) {
        // One more may be there that was not acknowledged.
        const newer = found.get(key) !== host && Number(found.get(key)?.split(".")[3]) > Number(host.split(".")[3]);
        equal(found.get(key) === host || newer, true, `cut at ${cutAt}, copies ${slots}: ${key} is ${found.get(key)}`);
      }
    }
  }
});

test("records: a full partition is refused in one sentence, once, and goes on when there is room", async () => {
  const made = await rig(1);
  const said: string[] = [];
  const records = await open(await made.writer(await made.open()), { onRefused: (what) => said.push(what) });
  const long = "x".repeat(1000);
  let i = 0;
  while (records.upsert("client", `${i} ${long}`, mount(i, long)) === "written") {
    i++;
    if (i % 64 === 0) await records.durable();
  }
  equal(records.upsert("client", "another", mount(1)), "refused");
  deepEqual(said, ["the partition of node chn1 is full"]);
  equal(i > 300, true, `${i} records fit`);
  await records.durable();
  for (let k = 0; k < 100; k++) records.delete("client", `${k} ${long}`);
  await records.durable();
  equal(records.upsert("client", "another", mount(1)), "written");
  await records.durable();
  equal(records.upsert("client", "x".repeat(5000), mount(1)), "refused");
  match(said[1]!, /too large/);
  await records.close();
});

test("records: of each kind so many and no more", async () => {
  const made = await rig(1);
  const said: string[] = [];
  const records = await open(await made.writer(await made.open()), { onRefused: (what) => said.push(what) });
  for (let i = 0; i < 256; i++) records.upsert("daemon", `part ${i}`, { what: "part", name: "x", state: "y" });
  equal(records.upsert("daemon", "one more", { what: "part", name: "x", state: "y" }), "refused");
  equal(records.upsert("daemon", "part 7", { what: "part", name: "x", state: "changed" }), "written");
  deepEqual(said, ["node chn1 has 256 daemon records: no more are kept"]);
  await records.close();
});

test("records: a row of a shape that is not known is told, not guessed at", async () => {
  const made = await rig();
  const group = await made.open();
  const records = await open(await made.writer(group));
  records.upsert("client", "good", mount(1));
  records.put("client", { key: "odd", value: '{"what":"teleport"}', updatedMs: 1 });
  await records.durable();
  deepEqual(
    records.list("client").map(({ key }) => key),
    ["good"],
  );
  const view = await readNodeRecords(await (await made.open()).openForReading("chn1"), common);
  deepEqual([view?.records.client.length, view?.unknown], [1, [{ kind: "client", key: "odd" }]]);
});

test("records: two readers see whole states of a writer that never rests, and write nothing", async () => {
  const made = await rig();
  const group = await made.open();
  const records = await open(await made.writer(group));
  // Two rows of one commit always carry the same number.
  let round = 0;
  const commit = async () => {
    round++;
    for (const key of ["left", "right"]) records.upsert("client", key, mount(round, "/".padEnd(900, "y")));
    await records.durable();
  };
  await commit();
  let done = false;
  const writing = (async () => {
    while (!done) {
      await commit();
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  })();
  const look = async () => {
    const reader = await (await made.open()).openForReading("chn1");
    let last = 0;
    for (let i = 0; i < 12; i++) {
      const before = round;
      const view = await readNodeRecords(reader, common);
      const numbers = view!.records.client.map(
        ({ value }) => Number(value.host.split(".")[2]) * 256 + Number(value.host.split(".")[3]),
      );
      equal(numbers.length, 2);
      equal(numbers[0], numbers[1]);
      // Not older than what was durable when the reading began, and never back in time.
      equal(numbers[0]! >= before - 1 && numbers[0]! >= last, true, `${numbers[0]} after ${before} and ${last}`);
      last = numbers[0]!;
    }
  };
  await Promise.all([look(), look()]);
  done = true;
  await writing;
  equal(round > 20, true, `${round} commits`);
  await group.close();
});

test("records: reading writes nothing, not even what it would heal", async () => {
  const made = await rig();
  const group = await made.open();
  const records = await open(await made.writer(group));
  records.upsert("client", "a", mount(1));
  await records.close();
  await group.close();
  const writes = () => made.devices.map(({ counters }) => [counters.writes, counters.flushes]);
  // Both superblocks of the first copy are gone: a writer would write them again.
  made.devices[0]!.poke(Buffer.alloc(8192), 2 * 2 ** 20 + 65536);
  const before = writes();
  const reader = await (await made.open()).openForReading("chn1");
  equal((await readNodeRecords(reader, common))?.records.client.length, 1);
  const store = await openPageStore({ ...common, lu: reader, readOnly: true });
  await rejects(store.durable(), (error) => isStorageError(error, "EROFS"));
  await rejects(store.checkpoint(), (error) => isStorageError(error, "EROFS"));
  await store.close();
  deepEqual(writes(), before);
});

test("records: a node that never wrote any has none; another node's are not taken for its own", async () => {
  const made = await rig();
  const group = await made.open();
  equal(await readNodeRecords(await group.openForReading("chn4"), common), null);
  const lu = await made.writer(group);
  const records = await open(lu);
  await records.close();
  const again = await made.writer(group);
  await rejects(open(again, { node: "chn2" }), /holds "chn1" of kind "chn"/);
  await again.close();
});
