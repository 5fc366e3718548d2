import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:net";
import { type TestContext, test } from "node:test";
import { definePaths, initialiseGroup } from "../../../src/cluster/disks.js";
import { initCluster } from "../../../src/cluster/init.js";
import type { PrintedInvitation } from "../../../src/cluster/install-server.js";
import { installNode, TOKEN_VARIABLE } from "../../../src/cluster/installer.js";
import type { ClusterPlan } from "../../../src/cluster/plan.js";
import { planFacts } from "../../../src/cluster/plan-change.js";
import { type ClusterRecord, RecordBook, terminalName } from "../../../src/cluster/record.js";
import { sequenceOf } from "../../../src/cluster/steps.js";
import { messageOf } from "../../../src/lib/errors.js";
import { ClusterFixture, kill } from "./fixture.js";

interface Run {
  readonly plan?: ClusterPlan;
  readonly join?: (invitation: PrintedInvitation, node: string) => Promise<void>;
}

function start(
  fixture: ClusterFixture,
  said: string[],
  { plan = fixture.plan(), join = install }: Run = {},
): Promise<ClusterRecord> {
  return initCluster({
    ...{ plan, folder: fixture.place("record"), disks: fixture.disks, bundle: () => fixture.bundle() },
    runLocal: (invitation, node) => join(invitation, node).then(() => null, messageOf),
    say: (what) => said.push(what),
  });
}

function install({ url, token }: PrintedInvitation, node: string): Promise<void> {
  const { origin, hash } = new URL(url);
  return installNode({ origin, node, token, ordersSha256: hash.slice(1) }, () => {});
}

const SEQUENCE = [
  ...["shared", "backup", "paths shared", "paths backup", "install chn1"],
  ...["partitions shared", "partitions backup", "file systems shared", "file systems backup"],
  ...["completion chn1", "install chn5", "completion chn5"],
];

/** From the write number `kept` on the record cannot be written: for the set-up as if it had been killed there. */
function cutRecord(t: TestContext, kept: number): () => void {
  let writes = 0;
  const undo = (["begin", "done", "failed"] as const).map((name) => {
    const original = RecordBook.prototype[name] as (...args: unknown[]) => void;
    const mock = t.mock.method(RecordBook.prototype, name, function (this: RecordBook, ...args: unknown[]) {
      if (writes++ >= kept) throw new Error("cut");
      original.apply(this, args);
    });
    return () => mock.mock.restore();
  });
  return () => {
    for (const one of undo) one();
  };
}

test("init: interrupted before and after every step, it goes on; each is done by whom it should, in order, and no node is started twice", async (t) => {
  const fixture = await ClusterFixture.make(t);
  let cuts = 0;
  for (let kept = 0; ; kept++) {
    const restore = cutRecord(t, kept);
    const failure = await start(fixture, []).then(() => null, messageOf);
    restore();
    const before = RecordBook.read(fixture.place("record"))!;
    const record = failure === null ? before : await start(fixture, []);
    deepEqual(
      record.steps.map(({ id }) => id),
      SEQUENCE,
    );
    deepEqual(
      record.steps.filter(({ state }) => state !== "done"),
      [],
    );
    deepEqual(
      record.steps.map(({ by }) => by),
      [...Array(4).fill(terminalName()), ...Array(6).fill("chn1"), ...Array(2).fill("chn5")],
    );
    const begun = record.steps.map((step) => step.begun!);
    deepEqual(begun, [...begun].sort());
    // What was recorded as done before the cut was not done again.
    for (const [i, step] of before.steps.entries()) if (step.state === "done") deepEqual(record.steps[i], step);
    deepEqual([fixture.started("chn1").length, fixture.started("chn5").length], [1, 1]);
    if (failure === null) break;
    cuts++;
    for (const pid of fixture.started()) kill(pid);
    fixture.forget();
  }
  equal(cuts, 2 * SEQUENCE.length);
});

test("init: done, it does nothing more", async (t) => {
  const fixture = await ClusterFixture.make(t);
  const first = await start(fixture, []);
  const said: string[] = [];
  deepEqual(await start(fixture, said), first);
  deepEqual(said, []);
});

test("init: a partner is not installed with another version than the node that runs", async (t) => {
  const fixture = await ClusterFixture.make(t);
  const join = (invitation: PrintedInvitation, node: string) =>
    node === "chn5" ? Promise.reject(new Error("cut")) : install(invitation, node);
  await rejects(start(fixture, [], { join }), /chn5 could not be installed: cut/);
  fixture.release("1.1.0");
  const what = "node chn1 runs version 1.0.0, and this release is 1.1.0: both nodes need one version";
  await rejects(start(fixture, []), { message: what });
  const step = RecordBook.read(fixture.place("record"))!.steps.find(({ id }) => id === "install chn5");
  deepEqual([step?.state, step?.outcome], ["failed", what]);
  // Also when it cannot be asked now: the record knows.
  for (const pid of fixture.started()) kill(pid);
  await rejects(start(fixture, []), { message: what });
  fixture.release("1.0.0");
  await start(fixture, []);
});

test("init: a node without a path to the shared LU is not installed, and named", async (t) => {
  const fixture = await ClusterFixture.make(t);
  const plan = fixture.plan();
  await initialiseGroup(fixture.disks, "primary", plan.shared, 1);
  await initialiseGroup(fixture.disks, "backup", plan.backup, 3);
  await definePaths(fixture.disks, "primary", plan.shared, ["chn1", "chn5"]);
  await definePaths(fixture.disks, "backup", plan.backup, ["chn1"]);
  const book = RecordBook.open(fixture.place("record"), planFacts(plan), sequenceOf(plan));
  for (const id of SEQUENCE.slice(0, 4)) book.done(id, "somebody", "so they say");
  const what = 'node chn5 has no path to group "shared-backup": define it first';
  await rejects(start(fixture, []), { message: what });
  const { steps } = RecordBook.read(fixture.place("record"))!;
  equal(steps.find(({ id }) => id === "completion chn1")?.state, "done");
  const step = steps.find(({ id }) => id === "install chn5")!;
  deepEqual([step.state, step.by, step.outcome], ["failed", terminalName(), what]);
  deepEqual(fixture.started("chn5"), []);
});

test("init: a port of the terminal that is taken is told, and recorded", async (t) => {
  const fixture = await ClusterFixture.make(t);
  const server = createServer().listen(fixture.port, "127.0.0.1");
  await once(server, "listening");
  const what = `127.0.0.1:${fixture.port}, where the terminal should listen, is taken by another program`;
  await rejects(start(fixture, []), { message: what });
  equal(RecordBook.read(fixture.place("record"))!.steps.find(({ id }) => id === "install chn1")?.outcome, what);
  server.close();
  await once(server, "close");
  await start(fixture, []);
});

test("init: a changed plan is refused where it concerns what is done, and goes on where it does not", async (t) => {
  const fixture = await ClusterFixture.make(t);
  const join = () => Promise.reject(new Error("cut"));
  await rejects(start(fixture, [], { join }), /chn1 could not be installed: cut/);
  const renamed = fixture.plan((text) => text.replace("name: chn5", "name: chn6"));
  await rejects(
    start(fixture, [], { plan: renamed }),
    /the plan has changed since the set-up began, in what is done already: nodes\.1\.name/,
  );
  const said: string[] = [];
  const moved = fixture.plan((text) => text.replace("chn5/state", "chn5/other"));
  await start(fixture, said, { plan: moved });
  equal(said[0], "The plan has changed in nodes.1.state: it counts from here on.");
});

test("init: for a node elsewhere the command is printed, its failure is told, and the next attempt counts", async (t) => {
  const fixture = await ClusterFixture.make(t);
  const plan = fixture.plan((text) => text.replaceAll("    local: true\n", ""));
  const said: string[] = [];
  const attempts: Promise<void>[] = [];
  const push = said.push.bind(said);
  let failed = false;
  said.push = (what) => {
    const url = / {2}if command -v node >\/dev\/null; then installer=\$\(curl -sSf '(http:[^']*)'\) && /.exec(
      what,
    )?.[1];
    if (url !== undefined) {
      const { stderr } = spawnSync("/bin/sh", ["-c", what], { encoding: "utf8", env: { PATH: "/nowhere" } });
      equal(stderr, "stripeward needs Node.js 20.10 or newer, and there is no node here\n");
      const node = path(new URL(url));
      const token = new RegExp(`${TOKEN_VARIABLE}='([^']+)'`).exec(what)?.[1];
      const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
      const notice = (body: object) =>
        fetch(new URL(`/notice/${node}`, url), { method: "POST", headers, body: JSON.stringify(body) });
      attempts.push(
        (async () => {
          const changed = await shell(what.replace(/ = [0-9a-f]{64} /, ` = ${"0".repeat(64)} `));
          equal(changed.said, "stripeward: the installer was changed on the way, nothing of it was run\n");
          if (!failed) {
            failed = true;
            const complete = await notice({ kind: "complete", what: "done", version: "1.0.0", pid: 1 });
            match(await complete.text(), /node chn1 reports its completion, and \\"install chn1\\" is not done/);
            match(
              await (await notice({ kind: "step", step: "install chn5", state: "done", what: "" })).text(),
              /is no step of node chn1/,
            );
            await notice({ kind: "failed", what: "no room" });
          }
          deepEqual(await shell(what), { status: 0, said: "" });
        })(),
      );
    }
    return push(what);
  };
  const record = await start(fixture, said, { plan });
  await Promise.all(attempts);
  ok(said.includes("chn1: failed: no room; run the command there again when that is mended"));
  ok(said.includes("waiting for the completion notice of chn5 …"));
  ok(record.steps.every(({ state }) => state === "done"));
});

/** A line that was printed, as somebody runs it. */
async function shell(line: string): Promise<{ status: number; said: string }> {
  const child = spawn("/bin/sh", ["-c", line], { stdio: ["ignore", "ignore", "pipe"] });
  let said = "";
  for await (const piece of child.stderr) said += String(piece);
  const [status] = child.exitCode === null ? ((await once(child, "exit")) as [number]) : [child.exitCode];
  return { status, said };
}

function path({ pathname }: URL): string {
  return pathname.split("/").at(-1)!;
}
