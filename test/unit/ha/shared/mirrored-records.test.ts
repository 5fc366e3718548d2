import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { test } from "node:test";
import type { SharedGroup } from "../../../../src/ha/shared/group.js";
import {
  type MirrorEvent,
  MirroredNodeRecords,
  type MirrorOptions,
} from "../../../../src/ha/shared/mirrored-records.js";
import { readNodeRecords } from "../../../../src/ha/shared/read-records.js";
import { SystemClock } from "../../../../src/lib/clock.js";
import { isStorageError, StorageError } from "../../../../src/lib/errors.js";
import { SILENT } from "../../../../src/lib/log.js";
import { SeededRandom } from "../../../../src/lib/prng.js";
import { SharedRig, scratchFolder } from "../../../support/shared-rig.js";

const clock = new SystemClock();
const awake = setInterval(() => {}, 1000);
test.after(() => clearInterval(awake));

class Pair {
  readonly rigs = [new SharedRig({ seed: 1 }), new SharedRig({ seed: 2, role: "backup" })] as const;
  groups: SharedGroup[] = [];
  readonly events: MirrorEvent[] = [];
  // Of one cabinet: two stores of the same node must not share a scratch file, which their own uuids see to.
  readonly scratchDir = scratchFolder();

  async create(): Promise<void> {
    for (const rig of this.rigs) await rig.create();
    await this.reopen();
  }

  async reopen(): Promise<void> {
    this.groups = [await this.rigs[0].open(), await this.rigs[1].open()];
  }

  open(more: Partial<MirrorOptions> = {}): Promise<MirroredNodeRecords> {
    const epoch = more.epoch ?? 1;
    return MirroredNodeRecords.open({
      ...{ node: "chn1", scratchDir: this.scratchDir, clock, random: new SeededRandom(3), log: SILENT },
      places: this.groups.map((group) => ({
        name: group.name,
        open: (force) => group.openForWriting("chn1", { writer: "chn1", epoch, force }),
      })),
      onEvent: (event) => this.events.push(event),
      ...{ epoch, ...more },
    });
  }

  fail(side: number): void {
    for (const device of this.rigs[side]!.devices) device.fail("ENXIO");
  }

  async bringBack(side: number): Promise<void> {
    const rig = this.rigs[side]!;
    for (const device of rig.devices) device.heal();
    const group = this.groups[side]!;
    for (const [slot, { state }] of group.describe().members.entries()) {
      if (state !== "online") await group.returnMember(await rig.disk(slot));
    }
  }

  async hosts(side: number): Promise<string[]> {
    const reader = await (await this.rigs[side]!.open()).openForReading("chn1");
    const view = await readNodeRecords(reader, { scratchDir: this.scratchDir, clock, log: SILENT });
    return view?.records.client.map(({ value }) => value.host) ?? [];
  }
}

async function pair(): Promise<Pair> {
  const made = new Pair();
  await made.create();
  return made;
}

function seen(records: MirroredNodeRecords, host: string): string {
  return records.upsert("client", host, { what: "mount", host, path: "/data" });
}

test("mirrored records: a commit is on both groups when it resolves", async () => {
  const made = await pair();
  const records = await made.open();
  seen(records, "a");
  await records.durable();
  deepEqual([await made.hosts(0), await made.hosts(1)], [["a"], ["a"]]);
  equal(
    made.rigs.every((rig) => rig.devices.every(({ unflushedSectors }) => unflushedSectors === 0)),
    true,
  );
  await records.close();
  deepEqual(made.events, []);
});

for (const side of [0, 1]) {
  test(`mirrored records: side ${side} is lost, the other goes on, it is told once, and filled again`, async () => {
    const made = await pair();
    const records = await made.open();
    seen(records, "before");
    await records.durable();
    made.fail(side);
    for (const host of ["during 1", "during 2"]) {
      seen(records, host);
      await records.durable();
    }
    records.delete("client", "before");
    await records.durable();
    equal(made.events.length, 1);
    deepEqual([made.events[0]!.kind, made.events[0]!.place], ["lost", made.groups[side]!.name]);
    deepEqual(await made.hosts(1 - side), ["during 1", "during 2"]);
    await records.tend();
    deepEqual(made.events.length, 1, "still lost, and not told again");
    await made.bringBack(side);
    await records.tend();
    seen(records, "while it is filled");
    await records.settled();
    await records.durable();
    deepEqual(
      made.events.map(({ kind }) => kind),
      ["lost", "mirrored"],
    );
    deepEqual(await made.hosts(side), ["during 1", "during 2", "while it is filled"]);
    deepEqual(await made.hosts(side), await made.hosts(1 - side));
    deepEqual(
      records.places().map(({ state }) => state),
      ["mirrored", "mirrored"],
    );
    await records.close();
  });
}

test("mirrored records: at the next start the newer side wins, and the other is brought up to date", async () => {
  const made = await pair();
  let records = await made.open();
  seen(records, "old");
  await records.durable();
  made.fail(0);
  seen(records, "new");
  await records.durable();
  await records.close();
  for (const group of made.groups) await group.close();
  for (const device of made.rigs[0].devices) device.heal();
  await made.reopen();
  records = await made.open();
  deepEqual(
    records.list("client").map(({ key }) => key),
    ["new", "old"],
  );
  await records.settled();
  deepEqual(await made.hosts(0), ["new", "old"]);
  await records.close();
});

for (const cutAt of [12, 18, 24, 30, 36]) {
  test(`mirrored records: a side that is half filled is never taken for the newer one (${cutAt} writes)`, async () => {
    const made = await pair();
    let records = await made.open();
    for (let i = 0; i < 300; i++) seen(records, `host ${String(i).padStart(3, "0")}`);
    await records.durable();
    made.fail(1);
    seen(records, "x");
    await records.durable();
    await made.bringBack(1);
    let writes = 0;
    made.rigs[1].before = (operation) => {
      if (operation === "writeThrough" && ++writes > cutAt) throw new StorageError("ENXIO", "off");
    };
    await records.tend();
    await records.settled();
    made.rigs[1].before = null;
    for (const rig of made.rigs) rig.crash("none");
    await made.reopen();
    records = await made.open();
    equal(records.list("client").length, 301);
    await records.settled();
    equal((await made.hosts(1)).length, 301);
    await records.close();
  });
}

test("mirrored records: a side whose copies were used apart is lost at first, and filled from the other", async () => {
  const made = await pair();
  for (const slot of [0, 1]) {
    const group = await made.rigs[0].open([slot]);
    await (await made.rigs[0].writer(group)).close();
    await group.close();
  }
  const records = await made.open();
  match(made.events[0]!.reason!, /each without the other/);
  seen(records, "a");
  await records.durable();
  await records.tend();
  await records.settled();
  await records.durable();
  deepEqual(
    records.places().map(({ state }) => state),
    ["mirrored", "mirrored"],
  );
  deepEqual(await made.hosts(0), ["a"]);
  await records.close();
});

test("mirrored records: with a higher epoch the side that went on wins, whatever the counters say", async () => {
  const made = await pair();
  let records = await made.open({ epoch: 1 });
  seen(records, "common");
  await records.durable();
  made.fail(1);
  for (let i = 0; i < 9; i++) {
    seen(records, `only on the first ${i}`);
    await records.durable();
  }
  await records.close();
  for (const group of made.groups) await group.close();
  // Taken over from the backup while the first group was away, and written to once.
  for (const device of made.rigs[1].devices) device.heal();
  made.fail(0);
  await made.reopen().catch(() => {});
  made.groups = [await made.rigs[1].open()];
  records = await made.open({ epoch: 2 });
  seen(records, "taken over");
  await records.durable();
  await records.close();
  await made.groups[0]!.close();
  for (const device of made.rigs[0].devices) device.heal();
  await made.reopen();
  records = await made.open({ epoch: 3 });
  deepEqual(
    records.list("client").map(({ key }) => key),
    ["common", "taken over"],
  );
  await records.settled();
  deepEqual(await made.hosts(0), ["common", "taken over"]);
  await records.close();
});

test("mirrored records: what one side has no room for stands on neither", async () => {
  const made = await pair();
  const said: string[] = [];
  const records = await made.open({ onRefused: (what) => said.push(what) });
  const long = "y".repeat(1000);
  let i = 0;
  while (seen(records, `${i} ${long}`) === "written") if (++i % 64 === 0) await records.durable();
  await records.durable();
  deepEqual(await made.hosts(0), await made.hosts(1));
  match(said.join(), /is full/);
  await records.close();
});

test("mirrored records: both lost is an error, and so is a newer owner", async () => {
  const made = await pair();
  const records = await made.open();
  made.fail(0);
  made.fail(1);
  seen(records, "a");
  await rejects(records.durable(), (error) => isStorageError(error, "EIO"));
  equal(seen(records, "b"), "refused");
  await records.close();
  await rejects(made.open(), StorageErrorOf("EIO", "ENXIO"));
  const other = await pair();
  const mine = await other.open({ epoch: 1 });
  const theirs = await other.rigs[0].open();
  await theirs.openForWriting("chn1", { writer: "chn5", epoch: 2 });
  seen(mine, "a");
  await rejects(mine.durable(), (error) => isStorageError(error, "ESTALE"));
  await rejects(other.open({ epoch: 1 }), (error) => isStorageError(error, "ESTALE") || isStorageError(error, "EBUSY"));
});

function StorageErrorOf(...codes: readonly string[]): (error: unknown) => boolean {
  return (error) => isStorageError(error) && codes.includes(error.code);
}

test("mirrored records: without a backup the shared group alone will do", async () => {
  const made = await pair();
  made.groups = [made.groups[0]!];
  const records = await made.open();
  seen(records, "a");
  await records.durable();
  await records.close();
  deepEqual(await made.hosts(0), ["a"]);
});

test("mirrored records: what was acknowledged is on both after a crash at any write", async () => {
  let operations = 0;
  let cut = false;
  const life = async (made: Pair, acknowledged: Set<string>, before: (operation: string) => void) => {
    for (const rig of made.rigs) rig.before = before;
    const records = await made.open();
    for (let i = 0; i < 8; i++) {
      seen(records, `h${i}`);
      await records.durable();
      // Nobody is there any more to hear it.
      if (cut) return;
      acknowledged.add(`h${i}`);
    }
  };
  await life(await pair(), new Set(), (operation) => {
    if (operation !== "read") operations++;
  });
  equal(operations > 60, true);
  for (let cutAt = 1; cutAt <= operations; cutAt += 5) {
    const made = await pair();
    const acknowledged = new Set<string>();
    let count = 0;
    cut = false;
    const power = (operation: string) => {
      if (operation !== "read" && ++count >= cutAt) cut = true;
      if (cut) throw new StorageError("ENXIO", "the power is off");
    };
    await life(made, acknowledged, power).catch(() => {});
    for (const rig of made.rigs) {
      rig.before = null;
      rig.crash("random");
    }
    for (const side of [0, 1]) {
      const hosts = await made.hosts(side);
      for (const host of acknowledged) ok(hosts.includes(host), `cut at ${cutAt}: ${host} is not on side ${side}`);
    }
  }
});
