import { deepEqual, equal, match, ok, throws } from "node:assert/strict";
import { test } from "node:test";
import { configurationOf, EXAMPLE_PLAN, parsePlan } from "../../../src/cluster/plan.js";
import { compareWithRecord, planFacts } from "../../../src/cluster/plan-change.js";
import { RecordBook } from "../../../src/cluster/record.js";
import { installStep, sequenceOf } from "../../../src/cluster/steps.js";
import { ConfigError } from "../../../src/config/written.js";
import { ClusterFixture } from "./fixture.js";

function mistakes(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    ok(error instanceof ConfigError);
    return error.lines.join("\n");
  }
  return "";
}

test("plan: the example is understood, but for disks that are not there", () => {
  const lines = mistakes(() => parsePlan(EXAMPLE_PLAN, "plan.yaml"));
  match(
    lines,
    /^plan\.yaml:\d+:\d+: nodes\[0\]\.disks: chn1 does not see \/dev\/disk\/by-id\/shelf-s1: both nodes need all disks/,
  );
  const seen = EXAMPLE_PLAN.replaceAll(
    "shelf-*]",
    "shelf-s1, /dev/disk/by-id/shelf-s2, /dev/disk/by-id/shelf-b1, /dev/disk/by-id/shelf-1, /dev/disk/by-id/shelf-2, /dev/disk/by-id/shelf-3]",
  );
  const plan = parsePlan(seen, "plan.yaml");
  equal(plan.nodes[1]?.install, "/opt/stripeward");
  equal(plan.data?.rootMode, 0o755);
  match(configurationOf(plan, plan.nodes[0]!), /partner: chn5\n {2}lease-seconds: 10\n/);
});

test("plan: every mistake is one line with its place", async (t) => {
  const fixture = await ClusterFixture.make(t);
  const of = (change: (text: string) => string) =>
    mistakes(() => fixture.plan(change)).replaceAll(`${fixture.folder}/`, "");
  equal(
    of((text) => text),
    "",
  );
  match(
    of((text) => text.replace("name: chn5", "name: chn1")),
    /^plan\.yaml:\d+:\d+: nodes\[1\]\.name: both nodes are named chn1: they need different names$/,
  );
  match(
    of((text) => text.replace("127.0.0.2", "127.0.0.1")),
    /nodes\[1\]\.address: both nodes have the address 127\.0\.0\.1: each needs its own/,
  );
  match(
    of((text) => text.replace(/disks\/\*\.img\]\n {4}local: true\nshared/, "disks/s*.img]\n    local: true\nshared")),
    /nodes\[1\]\.disks: chn5 does not see disks\/b1\.img: both nodes need all disks of the plan$/,
  );
  match(
    of((text) => text.replace("b1.img]", "s1.img]")),
    /backup\[0\]: disks\/s1\.img is named twice/,
  );
  match(
    of((text) => text.replace("chn5/s\n", "chn1/s\n")),
    /nodes\[1\]: both nodes are on this machine and have the same socket: chn1\/s/,
  );
  match(
    of((text) => text.replace("management:", "managment:")),
    /managment: unknown key; did you mean management\?/,
  );
  match(
    of((text) => text.replace("    local: true", "    locale: true")),
    /nodes\.?\[0\]\.locale: unknown key; did you mean local\?/,
  );
  match(
    of((text) => `${text}pair: { lease-seconds: 0.1 }\n`),
    /nodes\[0\]: its configuration would be refused: pair\.lease-seconds: wants 0\.5 at least/,
  );
  match(
    of((text) => text.replace("shared: [", "shared: []\nx: [")),
    /shared: wants 1 to 4 paths of disks/,
  );
});

test("plan: a change between two runs is refused when it concerns what is done, and told when it does not", async (t) => {
  const fixture = await ClusterFixture.make(t);
  const plan = fixture.plan();
  deepEqual(compareWithRecord(plan, null), []);
  const book = RecordBook.open(fixture.place("record"), planFacts(plan), sequenceOf(plan));
  const other = fixture.disk("s3");
  const moved = fixture.plan((text) => text.replace(/(shared: .*s1\.img), .*\]/, `$1, ${other}]`));
  deepEqual(compareWithRecord(moved, book.record), ["shared"]);
  book.begin("shared", "me");
  throws(
    () => compareWithRecord(moved, book.record),
    /the plan has changed since the set-up began, in what is done already: shared; go on with the plan as it was, or use another --dir/,
  );
  const listens = fixture.plan((text) => text.replace("host: 127.0.0.1", "host: 127.0.0.9"));
  deepEqual(compareWithRecord(listens, book.record), ["management.host"]);
  const elsewhere = fixture.plan((text) => text.replace("chn5/state", "chn5/elsewhere"));
  book.begin(installStep("chn1"), "chn1");
  deepEqual(compareWithRecord(elsewhere, book.record), ["nodes.1.state"]);
  book.begin(installStep("chn5"), "chn5");
  throws(() => compareWithRecord(elsewhere, book.record), /done already: nodes\.1\.state;/);
  const renamed = fixture.plan((text) => text.replace("name: chn5", "name: chn6"));
  throws(() => compareWithRecord(renamed, book.record), /nodes\.1\.name/);
});
