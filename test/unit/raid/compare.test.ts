import { deepEqual, equal, match, ok } from "node:assert/strict";
import { test } from "node:test";
import { BLOCK_BYTES, type LuByte, MIB } from "../../../src/lib/units.js";
import { RaidRig } from "../../model/raid-rig.js";

for (const [level, members, what] of [
  [1, 2, "copy"],
  [1, 3, "copy"],
  [5, 3, "parity"],
] as const) {
  test(`compare: RAID-${level} on ${members}: one bad block of one disk is named, healed, and gone the next time`, async () => {
    const rig = new RaidRig({ members, seed: 3 });
    const group = await rig.create();
    await group.createLu("before", level, MIB);
    const { number } = await group.createLu("data", level, 4 * MIB);
    const lu = group.openLu(number);
    const content = Buffer.alloc(8 * 65536, 7);
    await lu.write(content, 0 as LuByte);
    await lu.flush();
    deepEqual(await group.compareLu(number, null), { faults: [], wrong: 0, unreadable: 0, why: null });
    // The other LU is not looked at.
    const bad = rig.devices[1]!;
    const back = Buffer.alloc(BLOCK_BYTES);
    let position = 6 * MIB;
    for (; !back.every((byte) => byte === 7); position += BLOCK_BYTES) await bad.read(back, position);
    bad.poke(Buffer.alloc(BLOCK_BYTES, 9), position);
    const { faults, wrong, unreadable, why } = await group.compareLu(number, null);
    deepEqual([wrong, unreadable, faults.length, why], [1, 0, 1, null]);
    const [fault] = faults;
    equal(fault!.what, what);
    equal(fault!.lu, number);
    ok(fault!.healed);
    if (level === 1 && members === 2) deepEqual([fault!.disk, fault!.position], [2, position]);
    else ok(Math.abs(fault!.position - position) <= 65536, `${fault!.position}`);
    equal((await group.compareLu(number, null)).wrong, 0);
    await group.failDisk(1);
    match((await group.compareLu(number, null)).why ?? "", /disk #1 is failed/);
    await group.close();
  });
}
