import { deepEqual } from "node:assert/strict";
import { test } from "node:test";
import { diskSharing } from "../../../src/control/pair.js";
import type { GroupRole } from "../../../src/ha/contract.js";
import type { GroupStanding } from "../../../src/ha/pair-parts.js";

test("disk sharing: the disks of a group are ours while it is taken and served, not any more while it is let go", () => {
  const roles: readonly GroupRole[] = ["watched", "taking", "owned", "releasing"];
  // Until its lease is given up, the last of them is written: under its epoch, through devices that are open already.
  const groups = roles.map((role) => ({ uuid: role, role, epoch: 5 }) as GroupStanding);
  const sharing = diskSharing(() => ({ groups: () => groups, partner: () => ({ heartbeat: null, silentMs: 0 }) }));
  deepEqual(
    roles.map((role) => sharing.isOurs(role)),
    [false, true, true, false],
  );
  deepEqual(sharing.isOurs("another"), false);
  deepEqual(diskSharing(() => null).isOurs("owned"), false);
});
