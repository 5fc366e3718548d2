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

async function bothCouldTakeOver(host: Host): Promise<void> {
  await until("both could take over", async () =>
    (await host.row()).nodes.every(({ trouble }) => trouble?.length === 0),
  );
}

test("two hosts: one loses the path to a disk: the group moves to the other, and back as soon as the path is there again, each time with all disks", {
  skip,
}, async (t) => {
  const lab = await TwoHosts.up();
  t.after(() => lab.down());
  const probe = lab.probe("10.99.0.1");
  t.after(() => probe.end());
  const [one, two] = lab.hosts;
  await probe.answers();
  probe.takeGapMs();
  lab.resize(one, 1, 4096);
  await until("the group moves", async () => (await two.status()).role === "active");
  await probe.answers();
  t.diagnostic(`moved: ${probe.takeGapMs()} ms`);
  await until("the disk has what it missed", async () => (await two.status()).state === "clean");
  assert.deepEqual(await states(two), ["online", "online", "online"]);
  const { nodes } = await two.row();
  const trouble = nodes.find(({ name }) => name === one.name)?.trouble;
  assert.match(trouble?.[0] ?? "", /^this node can use 2 of the 3 disks of group g/);
  lab.resize(one, 1, 0);
  await bothCouldTakeOver(two);
  for (const host of [one, two]) {
    await host.ok("node", "takeover");
    assert.deepEqual(await states(host), ["online", "online", "online"]);
    await probe.answers();
    await bothCouldTakeOver(host);
  }
  const kinds = (await Promise.all(lab.hosts.map((host) => host.events()))).flat().map(({ kind }) => kind);
  assert.equal(kinds.filter((kind) => kind === "path-lost").length, 1);
  assert.ok(!kinds.includes("address-conflict") && !kinds.includes("address-cleared"), kinds.join(" "));
});
