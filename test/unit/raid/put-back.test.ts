import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { test } from "node:test";
import type { BlockDevice } from "../../../src/device/device.js";
import { isStorageError } from "../../../src/lib/errors.js";
import { nextTurn } from "../../../src/lib/next-turn.js";
import { SeededRandom } from "../../../src/lib/prng.js";
import { BLOCK_BYTES, type LuByte, MIB } from "../../../src/lib/units.js";
import type { Group } from "../../../src/raid/contract.js";
import { RING_START } from "../../../src/raid/journal.js";
import { LABEL } from "../../../src/raid/label.js";
import { readLabel, writeLabel } from "../../../src/raid/label-io.js";
import { rowsStart } from "../../../src/raid/layout.js";
import { NO_LINEAGE } from "../../../src/raid/lineage.js";
import { RaidRig } from "../../model/raid-rig.js";

/**
 * A disk that is put back as it was at an earlier moment (a clone, one virtual disk rolled back): it looks as good as any. Two LUs, one of each level
 * that the group can have, are filled anew in each life.
 */
const LENGTH = 40 * BLOCK_BYTES;
const GROUPS = [
  [2, [1]],
  [3, [1, 5]],
  [4, [5, 1]],
] as const;

class Fixture {
  readonly rig: RaidRig;
  group!: Group;
  content = Buffer.alloc(LENGTH);

  constructor(
    members: number,
    readonly levels: readonly (1 | 5)[],
  ) {
    this.rig = new RaidRig({ members, seed: 70 + members, diskBytes: 36 * MIB });
  }

  async create(): Promise<this> {
    this.group = await this.rig.create();
    for (const [i, level] of this.levels.entries()) await this.group.createLu(`lu${i}`, level, MIB);
    return this;
  }

  /** Everything in place, and flushed; other content for another `version`. */
  async write(version: number): Promise<void> {
    new SeededRandom(version).fill(this.content);
    for (const number of this.levels.keys()) {
      const lu = this.group.openLu(number + 1);
      await lu.write(this.content, 0 as LuByte);
      await lu.flush();
    }
  }

  async same(what: string): Promise<void> {
    for (const number of this.levels.keys()) {
      const found = Buffer.alloc(LENGTH);
      await this.group.openLu(number + 1).read(found, 0 as LuByte);
      ok(found.equals(this.content), `LU ${number + 1}: ${what}`);
    }
  }

  async stop(how: "clean" | "crash"): Promise<void> {
    if (how === "clean") await this.group.close();
    this.rig.crash("none");
  }

  async start(): Promise<void> {
    this.rig.reopen();
    this.group = await this.rig.assemble();
  }

  async image(disk: number): Promise<Buffer> {
    const device = this.rig.devices[disk]!;
    const image = Buffer.alloc(device.sizeBytes);
    // A group that runs would lose it to another handle.
    await device.read(image, 0).catch(() => device.reopen().read(image, 0));
    return image;
  }

  images(): Promise<Buffer[]> {
    return Promise.all(this.rig.devices.map((_, disk) => this.image(disk)));
  }

  put(disk: number, image: Buffer): void {
    this.rig.devices[disk]!.poke(image, 0);
  }

  /** So much time that everything which a running group does now and then has been done. */
  async passTime(periods: number): Promise<void> {
    for (let i = 0; i < periods; i++) {
      this.rig.clock.pass();
      for (let turn = 0; turn < 200; turn++) await nextTurn();
    }
  }

  async giveBack(disk: number): Promise<void> {
    const found = (await this.rig.found()).find(({ number }) => number === disk + 1)!;
    await this.group.returnDisk(found);
    equal((await this.rig.ended(this.group, "rebuild"))?.state, "done");
  }

  states(): string[] {
    return this.group.describe().disks.map(({ state }) => state);
  }

  /** Without any one of the members everything is there. */
  async sameWithoutAny(): Promise<void> {
    await this.rig.ended(this.group, "resync");
    await this.group.close();
    const devices = [...this.rig.devices];
    for (const missing of devices.keys()) {
      this.rig.devices = devices.map((device, i) => (i === missing ? null : device));
      await this.start();
      await this.same(`without disk ${missing}`);
      await this.group.close();
    }
    this.rig.devices = devices;
  }
}

/** Moments at which a disk may have been cloned; each leaves the group closed, with content that the clone has. */
const MOMENTS: Record<string, (all: Fixture, take: () => Promise<void>) => Promise<void>> = {
  "after a clean stop": async (all, take) => {
    await all.write(1);
    await all.stop("clean");
    await take();
  },
  "in the middle of the life before": async (all, take) => {
    await all.write(1);
    await take();
    await all.stop("clean");
  },
  "in a life that ended in a crash": async (all, take) => {
    await all.write(1);
    await all.stop("crash");
    await take();
  },
  "after an assembly without a write": async (all, take) => {
    await all.write(1);
    await all.stop("clean");
    await all.start();
    await all.same("of the first life");
    await take();
    await all.stop("clean");
  },
};

for (const [members, levels] of GROUPS) {
  for (const [moment, upTo] of Object.entries(MOMENTS)) {
    for (const how of ["clean", "crash"] as const) {
      test(`put back: one of ${members} as it was ${moment}, ${how} stop since: stale, then rebuilt`, async () => {
        for (let victim = 0; victim < members; victim++) {
          const all = await new Fixture(members, levels).create();
          let clone: Buffer = Buffer.alloc(0);
          await upTo(all, async () => {
            clone = await all.image(victim);
          });
          await all.start();
          await all.write(2);
          await all.stop(how);
          all.put(victim, clone);
          await all.start();
          deepEqual(
            all.states(),
            all.rig.devices.map((_, i) => (i === victim ? "stale" : "online")),
          );
          match(all.group.describe().disks[victim]!.reason ?? "", /put back as it was at an earlier time/);
          await all.same("with the stale disk beside it");
          await all.giveBack(victim);
          await all.same("after the rebuild");
          await all.sameWithoutAny();
        }
      });
    }
  }
}

test("put back: as it was some seconds before a crash, in the same life", async () => {
  const all = await new Fixture(3, [5, 1]).create();
  await all.write(1);
  await all.passTime(1);
  const clone = await all.image(1);
  await all.write(2);
  await all.passTime(1);
  await all.write(3);
  await all.stop("crash");
  all.put(1, clone);
  await all.start();
  deepEqual(all.states(), ["online", "stale", "online"]);
  await all.same("as it was flushed last");
  await all.giveBack(1);
  await all.sameWithoutAny();
});

test("put back: a group that nobody writes raises nothing, and its disks may be exchanged for clones", async () => {
  const all = await new Fixture(3, [5, 1]).create();
  await all.write(1);
  await all.passTime(8);
  const { generation } = all.group.describe();
  await all.passTime(4);
  equal(all.group.describe().generation, generation);
  await all.stop("clean");
  const clone = await all.image(1);
  await all.start();
  await all.stop("clean");
  all.put(1, clone);
  await all.start();
  equal(all.group.describe().state, "clean");
  await all.same("nothing was missed");
  await all.group.close();
});

for (const how of ["clean", "crash"] as const) {
  test(`put back: two of four at once, ${how} stop since: refused, and not one byte is written`, async () => {
    const all = await new Fixture(4, [5, 1]).create();
    await all.write(1);
    await all.stop("clean");
    const clones = await all.images();
    await all.start();
    await all.write(2);
    await all.stop(how);
    const now = await all.images();
    for (const disk of [0, 2]) all.put(disk, clones[disk]!);
    const mixed = await all.images();
    all.rig.reopen();
    await rejects(
      all.rig.assemble(),
      (error) => isStorageError(error, "EIO") && /2 of 4 members.*#1 stale.*#3 stale/.test(error.message),
    );
    for (const [disk, image] of (await all.images()).entries()) ok(image.equals(mixed[disk]!), `disk ${disk}`);
    for (const disk of [0, 2]) all.put(disk, now[disk]!);
    await all.start();
    equal(all.group.describe().state, "clean");
    await all.same("the disks as they were last");
    await all.sameWithoutAny();
  });
}

test("put back: the power fails at every write of a raise: whoever is whole is not called stale", async () => {
  for (let cutAt = 1; cutAt <= 24; cutAt++) {
    const all = await new Fixture(3, [5, 1]).create();
    await all.write(1);
    await all.stop("clean");
    await all.start();
    let writes = 0;
    const never = new Promise<void>(() => {});
    all.rig.before = (operation) => (operation !== "read" && ++writes >= cutAt ? never : undefined);
    const writing = all.group
      .openLu(1)
      .write(all.content, 0 as LuByte)
      .catch(() => {});
    void writing.then(() => all.group.openLu(1).flush()).catch(() => {});
    for (let turn = 0; turn < 200; turn++) await nextTurn();
    all.rig.before = () => {};
    all.rig.crash("random");
    await all.start();
    deepEqual(all.states(), ["online", "online", "online"], `cut at ${cutAt}`);
    await all.same(`cut at ${cutAt}`);
    await all.sameWithoutAny();
  }
});

test("put back: a member that is away is brought up by its marks only if it is as it was when it went", async () => {
  const all = await new Fixture(3, [5, 1]).create();
  await all.group.createLu("rest", 5, "max");
  await all.write(1);
  await all.stop("clean");
  const earlier = await all.image(1);
  await all.start();
  await all.write(2);
  await all.passTime(4);
  await all.stop("clean");
  const last = await all.image(1);
  const others = await all.images();
  const rebuilt = async (image: Buffer): Promise<number> => {
    for (const disk of [0, 2]) all.put(disk, others[disk]!);
    const away = all.rig.devices[1]!;
    all.rig.devices[1] = null;
    await all.start();
    await all.write(3);
    all.rig.devices[1] = away.reopen();
    all.put(1, image);
    await all.giveBack(1);
    const bytes = all.group.describe().tasks.find(({ kind }) => kind === "rebuild")!.totalBytes;
    await all.same("after the rebuild");
    await all.sameWithoutAny();
    return bytes;
  };
  const [short, full] = [await rebuilt(last), await rebuilt(earlier)];
  // Marks reach ahead of what was written, by 16 regions of a MiB.
  ok(short < 18 * MIB, `${short} bytes for what it missed`);
  ok(full > 25 * MIB, `${full} bytes for all`);
});

test("put back: two disks that ran on alone from the same moment do not mix their journals", async () => {
  const all = await new Fixture(2, [1]).create();
  await all.write(1);
  await all.stop("clean");
  const [first, second] = all.rig.devices;
  all.rig.devices = [null, second!];
  await all.start();
  await all.write(2);
  await all.group.close();
  all.rig.devices = [first!, null];
  await all.start();
  await all.write(3);
  all.rig.devices[1] = second!.reopen();
  // As a record of its own life would stand there.
  all.rig.devices[1]!.poke(Buffer.alloc(BLOCK_BYTES, 7), RING_START);
  const found = (await all.rig.found()).find(({ number }) => number === 2)!;
  await rejects(
    all.group.returnDisk(found),
    (error) => isStorageError(error, "EACCES") && /without/.test(error.message),
  );
  await all.group.returnDisk(found, true);
  equal((await all.rig.ended(all.group, "rebuild"))?.state, "done");
  const ring = Buffer.alloc(BLOCK_BYTES);
  await all.rig.devices[1]!.read(ring, RING_START);
  ok(
    ring.every((byte) => byte === 0),
    "nothing of its journal is left",
  );
  await all.sameWithoutAny();
});

test("put back: the journal of a disk that is stale is not read, however new it looks", async () => {
  const all = await new Fixture(4, [5]).create();
  await all.write(1);
  await all.stop("clean");
  const clone = await all.image(1);
  await all.start();
  await all.write(2);
  await all.stop("crash");
  // What a life of its own would have left: all of its journal as it was last, of a header that nobody can surpass.
  const { shape } = (await readLabel(all.rig.devices[0]!))!.group!;
  const journal = Buffer.alloc(rowsStart(shape) - (RING_START - 2 * BLOCK_BYTES));
  await all.rig.devices[0]!.read(journal, RING_START - 2 * BLOCK_BYTES);
  all.put(1, clone);
  all.rig.devices[1]!.poke(journal, RING_START - 2 * BLOCK_BYTES);
  await all.start();
  deepEqual(all.states(), ["online", "stale", "online", "online"]);
  await all.same("as the others say");
  await all.group.close();
});

test("put back: a mirror that went on alone from the middle of a life, and the other half with the rest of that life, are refused", async () => {
  const all = await new Fixture(2, [1]).create();
  await all.write(1);
  await all.passTime(1);
  const clone = await all.image(0);
  await all.write(2);
  await all.passTime(3);
  await all.stop("crash");
  const [first, second] = all.rig.devices;
  all.put(0, clone);
  all.rig.devices = [first!, null];
  await all.start();
  await all.group.openLu(1).write(all.content, 0 as LuByte);
  await all.stop("clean");
  all.rig.devices = [all.rig.devices[0]!, second!];
  all.rig.reopen();
  await rejects(
    all.rig.assemble(),
    (error) => isStorageError(error, "EEXIST") && /without the other/.test(error.message),
  );
});

test("put back: labels of version 1 are read, and are of version 2 after the first write", async () => {
  const all = await new Fixture(3, [5, 1]).create();
  await all.write(1);
  await all.stop("clean");
  const versions = async (): Promise<number[]> => {
    const slots = await Promise.all(all.rig.devices.map((_, disk) => all.image(disk)));
    return slots.map((image) =>
      Math.max(image.readUInt32LE(LABEL.version), image.readUInt32LE(LABEL.end + LABEL.version)),
    );
  };
  const older = async (device: BlockDevice): Promise<void> => {
    const label = (await readLabel(device))!;
    const group = { ...label.group!, lineage: NO_LINEAGE };
    for (const sequence of [label.sequence + 1, label.sequence + 2])
      await writeLabel(device, { ...label, sequence, group });
  };
  all.rig.reopen();
  for (const device of all.rig.devices) await older(device!);
  deepEqual(await versions(), [1, 1, 1]);
  const clone = await all.image(2);
  await all.start();
  await all.same("of version 1");
  await all.write(2);
  await all.stop("crash");
  deepEqual(await versions(), [2, 2, 2]);
  all.put(2, clone);
  await all.start();
  deepEqual(all.states(), ["online", "online", "stale"]);
  await all.giveBack(2);
  await all.sameWithoutAny();
});
