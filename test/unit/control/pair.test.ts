import { deepEqual, equal, rejects } from "node:assert/strict";
import { test } from "node:test";
import { diskSharing, refusingCached } from "../../../src/control/pair.js";
import type { GroupHost, GroupRole } from "../../../src/ha/contract.js";
import type { PairAgent } from "../../../src/ha/pair-agent.js";
import type { GroupStanding } from "../../../src/ha/pair-parts.js";
import type { Heartbeat } from "../../../src/ha/record.js";

test("disk sharing: the disks of a group are ours while it is taken and served, not any more while it is let go", () => {
  const roles: readonly GroupRole[] = ["watched", "taking", "owned", "releasing"];
  // Until its lease is given up, the last of them is written: under its epoch, through devices that are open already.
  const groups = roles.map((role) => ({ uuid: role, role, epoch: 5 }) as GroupStanding);
  const sharing = diskSharing(() => ({
    groups: () => groups,
    partner: () => ({ heartbeat: null, silentMs: 0, wallStartMs: null }),
  }));
  deepEqual(
    roles.map((role) => sharing.isOurs(role)),
    [false, true, true, false],
  );
  deepEqual(sharing.isOurs("another"), false);
  deepEqual(diskSharing(() => null).isOurs("owned"), false);
});

test("two hosts: without direct I/O nothing is taken that another host may have written while this one was up", async () => {
  const locked: string[] = [];
  const host = { lock: async (group: string) => void locked.push(group) } as unknown as GroupHost;
  const bootMs = 10_000;
  const lock = async (heartbeat: { bootId: string; wallMs: number } | null, silentMs: number): Promise<void> => {
    const partner = () => ({ heartbeat: heartbeat as Heartbeat | null, silentMs, wallStartMs: null });
    const agent = { partner, partnerName: "chn5", self: { bootId: "ours" } as PairAgent["self"] };
    await refusingCached(
      host,
      () => agent,
      () => bootMs,
    ).lock("g");
  };
  const never = Number.POSITIVE_INFINITY;
  await lock(null, never);
  await lock({ bootId: "ours", wallMs: 20_000 }, 5);
  // This host, before it was booted anew; or another one that had ended by then.
  await lock({ bootId: "other", wallMs: 9_000 }, never);
  equal(locked.length, 3);
  const refused = { code: "EACCES", message: /^chn5 runs on another host, .* it needs direct-io: true$/ };
  await rejects(lock({ bootId: "other", wallMs: 9_000 }, 5), refused);
  await rejects(lock({ bootId: "other", wallMs: 11_000 }, never), refused);
  equal(locked.length, 3);
});
