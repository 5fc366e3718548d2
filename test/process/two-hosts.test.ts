import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { type AddressProbe, type Host, TwoHosts, until, withoutTwoHosts } from "../support/two-hosts.js";

const skip = withoutTwoHosts();
let lab: TwoHosts;
let probe: AddressProbe;
before(async () => {
  if (skip !== false) return;
  // Refused connections are answers, and the second is asked by ARP.
  lab = await TwoHosts.up({ reach: ["10.99.0.100:9", "10.99.0.100"] });
  probe = lab.probe("10.99.0.1");
});
after(async () => {
  probe?.end();
  await lab?.down();
});

const EXIT_LOST = 75;

/** The one that serves now, and the other. */
async function roles(): Promise<readonly [Host, Host]> {
  const [one, two] = lab.hosts;
  return (await one.status()).role === "active" ? [one, two] : [two, one];
}

async function kinds(host: Host): Promise<string[]> {
  return (await host.events()).map(({ kind }) => kind);
}

/** Clients reach the service at its address, on this host and no other. */
async function servedBy(host: Host): Promise<void> {
  await until(`${host.name} alone has the address`, () => lab.holders("10.99.0.1").join() === host.name);
  await probe.answers();
  assert.deepEqual(lab.holders("10.99.0.1"), [host.name]);
}

test("two hosts: killed, stopped and ended, to and fro: clients reach the service, and no two hosts have its address", {
  skip,
}, async (t) => {
  await servedBy(lab.hosts[0]);
  for (const how of ["killed", "killed", "stopped", "stopped", "ended"] as const) {
    const [active, other] = await roles();
    probe.takeGapMs();
    const before = active.ends.length;
    if (how === "killed") assert.equal(await active.end("SIGKILL"), "SIGKILL");
    else if (how === "ended") assert.equal(await active.end("SIGTERM"), 0);
    else active.pause();
    await servedBy(other);
    t.diagnostic(`${how}: ${active.name} to ${other.name}, ${probe.takeGapMs()} ms`);
    if (how === "stopped") {
      active.resume();
      assert.equal(await active.ended(before), EXIT_LOST);
    }
    await servedBy(other);
    await active.up();
    await lab.whole(other);
    await servedBy(other);
  }
});

test("two hosts: a node whose guard and unit did nothing gives the address up when it is back", { skip }, async () => {
  const [active, other] = await roles();
  active.cleansUp = false;
  const guards = active.processes("stripeward-address guard");
  assert.ok(guards.length > 0);
  await active.run("pkill", "-KILL", "-f", "stripeward-address guard");
  await active.end("SIGKILL");
  await until("the partner serves", () => other.has("10.99.0.1"));
  assert.equal(active.has("10.99.0.1"), true, "nothing has taken it away: the case that is tried");
  await until("the partner has found the other machine", async () => (await kinds(other)).includes("address-conflict"));
  const { warnings } = await other.status();
  assert.match(warnings[0]!, /^another machine \([0-9A-F:]{17}\) has the service address 10\.99\.0\.1, too/);
  active.cleansUp = true;
  await active.up();
  await lab.whole(other);
  await servedBy(other);
  await until("the conflict is over", async () => (await kinds(other)).includes("address-alone"));
  assert.deepEqual((await other.status()).warnings, []);
});

test("two hosts: an address that appears on the node that stands by is given up there", { skip }, async () => {
  const [active, standby] = await roles();
  await standby.run("ip", "address", "add", "10.99.0.1/24", "dev", standby.interface);
  await until("it is gone again", () => !standby.has("10.99.0.1"));
  assert.ok((await kinds(standby)).includes("address-cleared"));
  await servedBy(active);
});

test("two hosts: a switch passes nothing any more while the carrier stays: the node that is cut off lets go, if the other is not", {
  skip,
}, async (t) => {
  const [active, other] = await roles();
  const moved = async (): Promise<boolean> => (await other.status()).role === "active";
  lab.cut(other);
  await until("the one that stands by is cut off", async () => (await kinds(other)).includes("network-cut"));
  await until("the partner knows", async () => {
    const { nodes } = await active.row();
    return nodes.some(
      ({ name, trouble }) => name === other.name && trouble?.[0]?.startsWith("this node reaches nobody") === true,
    );
  });
  lab.cut(active);
  await until("both are cut off", async () => (await kinds(active)).includes("network-cut"));
  await sleep(3000);
  assert.equal(await moved(), false, "nobody moves when both are");
  lab.mend(active);
  await probe.answers();
  lab.mend(other);
  await until("both reach the client again", async () => (await kinds(other)).includes("network-whole"));
  await until("the one that stands by could take over", async () => {
    const { nodes } = await active.row();
    return nodes.every(({ trouble }) => trouble?.length === 0);
  });
  await probe.answers();
  probe.takeGapMs();
  lab.cut(active);
  await servedBy(other);
  t.diagnostic(`cut off: ${active.name} to ${other.name}, ${probe.takeGapMs()} ms`);
  const said = (await active.events()).find(({ kind }) => kind === "group-lost");
  assert.match(
    said?.what ?? "",
    /this node reaches nobody on its network \(10\.99\.0\.100:9, 10\.99\.0\.100\).*the partner tries$/,
  );
  lab.mend(active);
  await until(
    "it reaches the client again",
    async () => (await kinds(active)).filter((kind) => kind === "network-whole").length > 1,
  );
  await servedBy(other);
  assert.deepEqual((await other.status()).warnings, []);
});
