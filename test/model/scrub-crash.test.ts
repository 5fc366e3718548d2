import { equal, ok } from "node:assert/strict";
import { test } from "node:test";
import { nextTurn } from "../../src/lib/next-turn.js";
import { BLOCK_BYTES } from "../../src/lib/units.js";
import { EVERY_LAYOUT, ScrubFixture } from "../support/scrub-fixture.js";

for (const [level, members] of EVERY_LAYOUT) {
  test(`scrub: RAID-${level} on ${members}: after a power cut at a write of a scrub nothing is lost that it can still heal`, async () => {
    // A step that has no divisor in common with the members, so that cuts fall on each of them.
    for (let cutAt = 1; ; cutAt += members === 2 ? 3 : members - 1) {
      const all = await new ScrubFixture(level, members).start();
      await all.group.close();
      await all.reopen();
      for (let i = 0; i < 8; i++) {
        const at = (17 + 101 * i) * BLOCK_BYTES;
        all.rot(level === 5 && i % 2 === 1 ? all.parityOf(at) : all.placeOf(at, level === 1 ? i % 2 : 0));
      }
      let operations = 0;
      all.rig.before = (operation) => {
        if (operation !== "read") operations++;
        if (operations >= cutAt) throw new Error("power cut");
      };
      await all.group.scrub(all.options()).catch(() => {});
      if (all.group.describe().tasks.length > 0) await all.ended();
      for (let i = 0; i < 20; i++) await nextTurn();
      const cut = operations >= cutAt;
      all.rig.before = () => {};
      all.rig.crash("random");
      await all.reopen();
      // Where the label says it was, or, when it had ended, from the start.
      const task = await all.scrub();
      equal(task.state, "done");
      equal((await all.scrub()).found, 0);
      equal(all.events("lost-blocks").length, 0);
      ok((await all.readAll()).equals(all.content), `content after a cut at operation ${cutAt}`);
      await all.group.close();
      if (!cut) break;
    }
  });
}
