import assert from "node:assert/strict";
import { test } from "node:test";
import { formatFileSystem, mountFileSystem } from "../../../src/fs/file-system.js";
import type { FileSystemEvent } from "../../../src/fs/namespace.js";
import { SILENT } from "../../../src/lib/log.js";
import { nextTurn } from "../../../src/lib/next-turn.js";
import { SeededRandom } from "../../../src/lib/prng.js";
import { KIB, MIB } from "../../../src/lib/units.js";
import { Arena } from "../../../src/parity/arena.js";
import { RaidRig } from "../../model/raid-rig.js";
import { scratchFolder } from "../../support/memory-file-system.js";
import { ALICE, makeFile, refused, StepClock } from "../../support/namespace-fixture.js";

/** Where the rows begin, at latest; before it are label, journal and bitmap. */
const ROWS_START = 6 * MIB;

for (const level of [1, 5] as const) {
  test(`rotten disk: RAID-${level}: a file whose blocks on one disk are all wrong reads right, and the disk is mended`, async () => {
    const rig = new RaidRig({ members: 4, seed: 40 + level });
    const group = await rig.create();
    const data = await group.createLu("data", level, 12 * MIB);
    const metadata = await group.createLu("data.meta", 1, 8 * MIB);
    const lus = { dataLu: group.openLu(data.number), metadataLu: group.openLu(metadata.number) };
    const random = new SeededRandom(5);
    const scratchDir = scratchFolder();
    const common = { ...lus, clock: new StepClock(), random, log: SILENT, scratchDir };
    await formatFileSystem({ ...common, name: "data", rootMode: 0o777 });
    const events: FileSystemEvent[] = [];
    const mount = () =>
      mountFileSystem({
        ...{ ...common, arena: new Arena({ byteCount: 16 * MIB }), cacheBytes: 4 * MIB },
        onEvent: (event) => events.push(event),
      });
    const content = Buffer.alloc(3 * MIB);
    random.fill(content);
    let fs = await mount();
    const file = await makeFile(fs, ALICE, fs.root, "f");
    for (let at = 0; at < content.length; at += MIB) {
      await fs.write(ALICE, file, at, content.subarray(at, at + MIB), "unstable");
    }
    await fs.commit(ALICE, file, 0, 0);
    await fs.close();
    fs = await mount();
    const disk = rig.devices[1]!;
    const garbage = Buffer.alloc(64 * KIB, 0x99);
    for (let at = ROWS_START; at < disk.sizeBytes - 128 * KIB; at += garbage.length) await disk.write(garbage, at);
    const target = Buffer.alloc(MIB);
    // Small reads go through the cache, large ones past it.
    for (let at = 0; at < content.length; ) {
      const { count } = await fs.read(ALICE, file, at, at < MIB ? target.subarray(0, 16 * KIB) : target);
      assert.ok(target.subarray(0, count).equals(content.subarray(at, at + count)), `at ${at}`);
      at += count;
    }
    for (let i = 0; i < 20; i++) await nextTurn();
    assert.ok(events.length > 100 && events.every((event) => event.kind === "healed"));
    assert.ok(events.every((event) => event.kind === "healed" && event.lu === data.number));
    assert.equal(group.counters().healedBlocks, events.length);
    const healed = events.length;
    await fs.read(ALICE, file, MIB, target);
    assert.ok(target.equals(content.subarray(MIB, 2 * MIB)));
    assert.equal(group.counters().healedBlocks, healed, "once is enough");
    // All at once: nothing is made up.
    for (const device of rig.devices) {
      for (let at = ROWS_START; at < device!.sizeBytes - 128 * KIB; at += garbage.length)
        await device!.write(garbage, at);
    }
    await refused("EIO", async () => await fs.read(ALICE, file, 2 * MIB, target));
  });
}
