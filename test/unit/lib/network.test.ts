import assert from "node:assert/strict";
import { test } from "node:test";
import { canonicalNetwork, parseNetwork } from "../../../src/lib/network.js";

test("network: one spelling for each", () => {
  for (const [written, canonical] of [
    ["10.0.0.7", "10.0.0.7"],
    ["10.0.0.0/8", "10.0.0.0/8"],
    ["0.0.0.0/0", "0.0.0.0/0"],
    ["FD00:0::/8", "fd00::/8"],
    ["2001:db8:0:0::1", "2001:db8::1"],
    ["::ffff:10.0.0.7", "10.0.0.7"],
    ["::/0", "::/0"],
  ] as const)
    assert.equal(canonicalNetwork(written), canonical);
  assert.deepEqual(parseNetwork("fd00::1"), { address: "fd00::1", family: "ipv6", prefix: 128 });
});

test("network: what others would read otherwise is none", () => {
  for (const text of [
    ...["10.0.0.0/08", "10.0.0.0/00", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/8/8", "10.0.0.0/-1", "10.0.0.0/ 8"],
    ...["fe80::1%eth0", "fe80::%lo/64", "::/129", "010.0.0.1", "10.0.0", "*", "", "host", "10.0.0.7 "],
  ])
    assert.equal(parseNetwork(text), null, text);
});
