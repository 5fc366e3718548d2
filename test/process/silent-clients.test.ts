import assert from "node:assert/strict";
import { test } from "node:test";
import { TwoHosts, until, withoutTwoHosts } from "../support/two-hosts.js";

const skip = withoutTwoHosts();

test("two hosts that have nobody to ask: when their clients fall silent for the one, and answer the other, that one serves", {
  skip,
}, async (t) => {
  const lab = await TwoHosts.up();
  t.after(() => lab.down());
  const probe = lab.probe("10.99.0.1");
  t.after(() => probe.end());
  const [active, other] = lab.hosts;
  await until("the one is heard and knows", async () => (await active.status()).warnings.length > 0);
  assert.match((await active.status()).warnings[0]!, /^pair\.reach names no targets: .* clients that fall silent/);
  await probe.answers(40);
  probe.takeGapMs();
  lab.cut(active);
  await until("the other has the address", () => lab.holders("10.99.0.1").join() === other.name);
  await probe.answers();
  t.diagnostic(`cut off: ${probe.takeGapMs()} ms`);
  const lost = (await active.events()).find(({ kind }) => kind === "group-lost");
  assert.match(
    lost?.what ?? "",
    /all clients that were at work fell silent, and none of them answers \(10\.99\.0\.100\)/,
  );
  lab.mend(active);
  await probe.answers();
  assert.deepEqual(lab.holders("10.99.0.1"), [other.name]);
});
