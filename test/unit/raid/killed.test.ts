import { equal } from "node:assert/strict";
import { test } from "node:test";
import { type LuByte, MIB } from "../../../src/lib/units.js";
import { RaidRig } from "../../model/raid-rig.js";

const AT = 0 as LuByte;

for (const level of [1, 5] as const) {
  test(`RAID-${level}: what a killed process left in a cache and the next one read survives a power cut after it`, async () => {
    const rig = new RaidRig({ members: 3, seed: 7 });
    const group = await rig.create();
    await group.createLu("data", level, 4 * MIB);
    const first = group.openLu(1);
    await first.write(Buffer.alloc(2 * 65536, 1), AT);
    await first.flush();
    await first.write(Buffer.alloc(2 * 65536, 2), AT);
    // Killed: the devices keep what was written, nothing was flushed.
    rig.reopen();
    const second = await rig.assemble();
    const seen = Buffer.alloc(2 * 65536);
    await second.openLu(1).read(seen, AT);
    for (const device of rig.devices) device?.crash({ keep: "none" });
    rig.reopen();
    const third = await rig.assemble();
    const after = Buffer.alloc(2 * 65536);
    await third.openLu(1).read(after, AT);
    equal(after.equals(seen), true);
    await third.close();
  });
}
