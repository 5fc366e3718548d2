import assert from "node:assert/strict";
import { test } from "node:test";
import type { DiskRow } from "../../src/control/types.js";
import { type Host, TwoHosts, until, withoutTwoHosts } from "../support/two-hosts.js";

const skip = withoutTwoHosts();

/** The state of each disk as a host has it, in their order. */
async function states(host: Host): Promise<string[]> {
  const rows = JSON.parse(await host.ok("disk", "list", "--json")) as DiskRow[];
  return rows.map(({ state }) => state);
}

test("two hosts: one loses the path to a disk: the group moves to the other, and is whole there at once", {
  skip,
}, async (t) => {
  const lab = await TwoHosts.up();
  t.after(() => lab.down());
  const probe = lab.probe("10.99.0.1");
  t.after(() => probe.end());
  const [active, other] = lab.hosts;
  await probe.answers();
  probe.takeGapMs();
  lab.resize(active, 1, 4096);
  await until("the group moves", async () => (await other.status()).role === "active");
  await probe.answers();
  t.diagnostic(`moved: ${probe.takeGapMs()} ms`);
  const events = await active.events();
  assert.ok(events.some(({ kind }) => kind === "path-lost"));
  await until("the disk has what it missed", async () => (await other.status()).state === "clean");
  assert.deepEqual(await states(other), ["online", "online", "online"]);
  assert.match((await active.row()).nodes[0]?.trouble?.[0] ?? "", /this node can use 2 of the 3 disks of group g/);
  lab.resize(active, 1, 0);
  await until("both could take over", async () =>
    (await active.row()).nodes.every(({ trouble }) => trouble?.length === 0),
  );
});
