import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { test } from "node:test";
import { PAIR_SETTINGS } from "../../../src/ha/contract.js";
import { LeaseKeeper } from "../../../src/ha/lease-keeper.js";
import { PairBench, roleOf } from "../../support/pair-bench.js";

const { leaseMs, silentMs, heartbeatMs } = PAIR_SETTINGS;

test("agent: a group that cannot be served is tried ever less often, and at once when another of its disks is there", async () => {
  const bench = new PairBench();
  const node = bench.node("chn1", "boot-1");
  node.host.groups = [bench.group("g", "chn1", ["/dev/bench1", "/dev/bench2"])];
  node.host.refusal = "too few disks";
  await bench.start(node);
  await bench.clock.advance(60_000);
  const tries = node.host.opened;
  ok(tries >= 8 && tries <= 12, `${tries} tries in a minute`);
  equal(node.events.filter(({ kind }) => kind === "takeover-trouble").length, 1);
  await bench.clock.advance(3000);
  node.host.refusal = null;
  node.host.groups = [bench.group("g")];
  await bench.clock.advance(1500);
  equal(roleOf(node, "g"), "owned");
});

test("agent: a group that is changing hands is not given back once more", async () => {
  const bench = new PairBench();
  const { one, two } = await bench.pair([bench.group("g")]);
  equal(roleOf(one, "g"), "owned");
  let go = () => {};
  one.host.settling = new Promise<void>((resolve) => {
    go = resolve;
  });
  const first = one.agent.giveback("g");
  await bench.clock.advance(100);
  await rejects(one.agent.giveback("g"), { code: "EBUSY", message: /changing hands/ });
  go();
  await bench.clock.advance(3000);
  await first;
  equal(roleOf(two, "g"), "owned");
});

test("agent: a group that a node lets go because it stops is let go once, whatever is asked for meanwhile", async () => {
  const bench = new PairBench();
  const { one, two } = await bench.pair([bench.group("g")]);
  let go = () => {};
  one.host.settling = new Promise<void>((resolve) => {
    go = resolve;
  });
  const stopped = one.agent.stop();
  await bench.clock.advance(100);
  await rejects(one.agent.giveback("g"), { code: "EBUSY", message: /changing hands/ });
  go();
  await bench.clock.advance(3000);
  await stopped;
  equal(roleOf(two, "g"), "owned");
});

test("agent: a group that the partner has made later is watched, and taken when it dies", async () => {
  const bench = new PairBench();
  const [one, two] = [bench.node("chn1", "boot-1"), bench.node("chn2", "boot-2")];
  await bench.start(one);
  await bench.start(two);
  for (const node of [one, two]) node.host.groups = [bench.group("late")];
  await one.agent.adopt("uuid-late");
  await bench.clock.advance(2000);
  equal(roleOf(two, "late"), "watched");
  await one.agent.stop();
  await bench.clock.advance(2000);
  equal(roleOf(two, "late"), "owned");
});

test("agent, two hosts: a silent owner's group is taken when its lease is spent, and not before; the owner has ended itself by then", async () => {
  const bench = new PairBench();
  const { one, two } = await bench.pair([bench.group("g")]);
  for (const disk of bench.disks) disk.hiddenFrom.add("chn1");
  await bench.clock.advance(leaseMs + heartbeatMs);
  equal(roleOf(two, "g"), "watched");
  match(one.ends[0] ?? "", /as long as its lease lasts/);
  equal(one.agent.epochOf("uuid-g"), -1);
  await bench.clock.advance(silentMs + 1000);
  equal(roleOf(two, "g"), "owned");
});

test("agent, two hosts: a heartbeat that is through only when the lease has run out does not prolong it", async () => {
  const bench = new PairBench();
  const [one, two] = [bench.node("chn1", "boot-1"), bench.node("chn2", "boot-2")];
  for (const node of [one, two]) node.host.groups = [bench.group("g")];
  await bench.start(two);
  await bench.start(one);
  await bench.clock.advance(1000);
  let arrive = () => {};
  const held = new Promise<void>((resolve) => {
    arrive = resolve;
  });
  for (const disk of bench.disks) disk.hiddenFrom.add("chn1");
  await bench.clock.advance(leaseMs - 1000);
  for (const disk of bench.disks) {
    disk.hiddenFrom.delete("chn1");
    disk.held = held;
  }
  await bench.clock.advance(500);
  deepEqual(one.ends, []);
  // As if the process were stopped: no timer of its fires, and then first comes the end of the write.
  bench.clock.jump(silentMs);
  arrive();
  await bench.clock.advance(0);
  match(one.ends[0] ?? "", /as long as its lease lasts/);
});

test("agent, two hosts: what a process claimed before it died keeps nobody waiting when both nodes are back", async () => {
  const bench = new PairBench();
  const seen = bench.group("g");
  const disks = seen.paths.map((path) => ({ path, group: seen.uuid }));
  for (const [node, epoch, state] of [["chn1", 4, "held"] as const, ["chn2", 5, "claimed"] as const]) {
    const board = bench.board(node);
    board.setDisks(disks);
    const partner = node === "chn1" ? "chn2" : "chn1";
    await new LeaseKeeper({ board, node, partner, clock: bench.clock }).write(seen, epoch, state, "start");
  }
  const [one, two] = [bench.node("chn1", "boot-1"), bench.node("chn2", "boot-2")];
  for (const node of [one, two]) node.host.groups = [seen];
  await bench.start(one);
  await bench.start(two);
  await bench.clock.advance(2000);
  equal(roleOf(one, "g"), "owned");
});

test("agent, two hosts: one fence command at a time, however long it takes, and none more when it has succeeded", async () => {
  const bench = new PairBench(6);
  let running = 0;
  let most = 0;
  let count = 0;
  const command = (): Promise<void> => {
    count++;
    most = Math.max(most, ++running);
    return new Promise((resolve) => {
      bench.clock.after(5000, () => {
        running--;
        resolve();
      });
    });
  };
  const groups = [bench.group("g"), bench.group("h", "chn1", bench.pathsFrom(3))];
  const { two } = await bench.pair(groups, command);
  for (const disk of bench.disks) disk.hiddenFrom.add("chn1");
  await bench.clock.advance(silentMs + 8000);
  equal(most, 1);
  equal(count, 1);
  equal(roleOf(two, "g"), "owned");
  equal(roleOf(two, "h"), "owned");
});

test("agent, two hosts: a node that has lost a group's disks, and lives on by others, lets its partner take it", async () => {
  const bench = new PairBench(9);
  const groups = [bench.group("g"), bench.group("h", "chn1", bench.pathsFrom(3))];
  const { one, two } = await bench.pair(groups);
  for (const { path, hiddenFrom } of bench.disks) if (groups[0]?.paths.includes(path)) hiddenFrom.add("chn1");
  one.agent.lost("uuid-g");
  await bench.clock.advance(2000);
  equal(roleOf(two, "g"), "owned");
  equal(roleOf(one, "h"), "owned");
  for (const { hiddenFrom } of bench.disks) hiddenFrom.clear();
  await bench.clock.advance(2 * leaseMs);
  equal(roleOf(two, "g"), "owned");
  equal(roleOf(one, "g"), "watched");
  deepEqual([...one.ends, ...two.ends], []);
});

test("agent: what a majority of the disks has taken counts as heard, and nothing else", async () => {
  const bench = new PairBench();
  const node = bench.node("chn1", "boot-1");
  await bench.start(node);
  const passed = async (): Promise<number> => {
    const before = node.heard();
    await bench.clock.advance(10 * heartbeatMs);
    return node.heard() - before;
  };
  equal(await passed(), 10);
  bench.disks[0]!.hiddenFrom.add("chn1");
  equal(await passed(), 10);
  bench.disks[1]!.hiddenFrom.add("chn1");
  equal(await passed(), 0);
});

test("two hosts: a node that had no disk at all for longer than a lease makes its first group, and keeps it", async () => {
  const bench = new PairBench();
  const one = bench.node("chn1", "boot-1");
  one.host.blank = true;
  await bench.start(one);
  await bench.clock.advance(30_000);
  one.host.blank = false;
  one.host.groups = [bench.group("g")];
  let adopted = false;
  const adoption = one.agent.adopt("uuid-g").then(() => {
    adopted = true;
  });
  while (!adopted) await bench.clock.advance(10);
  await adoption;
  await bench.clock.advance(60_000);
  deepEqual([one.ends, roleOf(one, "g")], [[], "owned"]);
});

const REACHED = { reached: 2, targets: 2 };
const NOBODY = { reached: 0, targets: 2 };

test("two hosts: whoever is cut off from the network lets go when the partner is not, and the partner serves at once", async () => {
  const bench = new PairBench();
  const { one, two } = await bench.pair([bench.group("g")]);
  [one.agent.reach, two.agent.reach] = [NOBODY, REACHED];
  await bench.clock.advance(1000);
  one.agent.cutOff("nobody answers");
  await bench.clock.advance(1000);
  deepEqual([roleOf(one, "g"), roleOf(two, "g")], ["watched", "owned"]);
  equal(one.events.filter(({ kind }) => kind === "group-lost").length, 1);
  await bench.clock.advance(60_000);
  deepEqual([roleOf(one, "g"), roleOf(two, "g"), one.ends, two.ends], ["watched", "owned", [], []], "it stays there");
});

test("two hosts: both are cut off, or nobody knows about the partner, or it could not take over: nobody moves", async () => {
  for (const theirs of [NOBODY, null, "trouble", "silent"] as const) {
    const bench = new PairBench();
    const { one, two } = await bench.pair([bench.group("g")]);
    one.agent.reach = NOBODY;
    two.agent.reach = typeof theirs === "string" ? REACHED : theirs;
    if (theirs === "trouble") two.agent.trouble = ["this node can use 1 of the 3 disks of group g"];
    await bench.clock.advance(1000);
    // What it said last is old by then: the same switch may have cut it off.
    if (theirs === "silent") for (const disk of bench.disks) disk.hiddenFrom.add("chn2");
    if (theirs === "silent") await bench.clock.advance(1300);
    one.agent.cutOff("nobody answers");
    await bench.clock.advance(3000);
    equal(roleOf(one, "g"), "owned", String(theirs));
  }
});

test("two hosts: a group that the partner could not take after all is served here again, and given up anew only later", async () => {
  const bench = new PairBench();
  const { one, two } = await bench.pair([bench.group("g")]);
  two.host.refusal = "too few disks";
  [one.agent.reach, two.agent.reach] = [NOBODY, REACHED];
  await bench.clock.advance(1000);
  const gaveUp = (): number => one.events.filter(({ kind }) => kind === "group-lost").length;
  for (let second = 0; second < 25; second++) {
    one.agent.cutOff("nobody answers");
    await bench.clock.advance(1000);
  }
  deepEqual([gaveUp(), roleOf(one, "g")], [1, "owned"]);
});

test("agent: a group that this node itself keeps from being served goes to a partner that could take it, and to no other", async () => {
  const bench = new PairBench();
  const { one, two } = await bench.pair([bench.group("g")]);
  two.agent.trouble = ["the state directory cannot be used"];
  await bench.clock.advance(1000);
  one.host.hindered = "there is no room";
  await bench.clock.advance(5000);
  equal(roleOf(one, "g"), "owned", "the partner could not take it either");
  two.agent.trouble = [];
  one.host.hindered = null;
  await bench.clock.advance(1000);
  one.host.hindered = "there is no room";
  await bench.clock.advance(1500);
  equal(roleOf(one, "g"), "owned", "a moment passes by itself");
  await bench.clock.advance(3000);
  equal(roleOf(two, "g"), "owned");
  match(one.events.find(({ kind }) => kind === "group-lost")?.what ?? "", /there is no room/);
});

test("two hosts: a node that lost a path which the partner has gives the group to it, in order, and only when that lasts", async () => {
  const bench = new PairBench();
  const { one, two } = await bench.pair([bench.group("g")]);
  two.agent.trouble = [];
  one.agent.lacks = [{ group: "uuid-g", disks: 1 }];
  await bench.clock.advance(14_000);
  equal(roleOf(one, "g"), "owned");
  await bench.clock.advance(4_000);
  deepEqual([roleOf(one, "g"), roleOf(two, "g")], ["watched", "owned"]);
  equal(one.events.filter(({ kind }) => kind === "path-lost").length, 1);
});

test("two hosts: a partner that has all disks and could not take over for another reason tells a path from a disk all the same", async () => {
  const bench = new PairBench();
  const { one, two } = await bench.pair([bench.group("g")]);
  equal(one.agent.partnerSees("uuid-g"), false, "it has not looked yet");
  two.agent.trouble = ["this node reaches nobody on its network"];
  one.agent.lacks = [{ group: "uuid-g", disks: 1 }];
  await bench.clock.advance(60_000);
  equal(one.agent.partnerSees("uuid-g"), true);
  equal(roleOf(one, "g"), "owned");
});

test("two hosts: a disk that has failed for both nodes moves nothing", async () => {
  const bench = new PairBench();
  const { one, two } = await bench.pair([bench.group("g")]);
  two.agent.trouble = [];
  one.agent.lacks = [{ group: "uuid-g", disks: 1 }];
  await bench.clock.advance(10_000);
  two.agent.lacks = [{ group: "uuid-g", disks: 1 }];
  await bench.clock.advance(60_000);
  equal(roleOf(one, "g"), "owned");
  equal(one.agent.partnerSees("uuid-g"), false);
});

test("two hosts: a path that has come back since the disks were last looked at is there when the group is taken", async () => {
  const bench = new PairBench();
  const { one, two } = await bench.pair([bench.group("g")]);
  two.host.groups = [bench.group("g", "chn1", ["/dev/bench1", "/dev/bench2"])];
  await two.agent.survey();
  two.host.groups = [bench.group("g")];
  const asked = one.agent.giveback("g");
  await bench.clock.advance(2000);
  await asked;
  equal(two.agent.groups()[0]?.paths.length, 3);
  deepEqual(two.host.locked, ["uuid-g: 3"]);
});

test("two hosts: a disk that is missing and does not answer holds no takeover up", async () => {
  const bench = new PairBench();
  const { one, two } = await bench.pair([bench.group("g", "chn1", ["/dev/bench1", "/dev/bench2"])]);
  two.host.surveying = new Promise<void>(() => {});
  const asked = one.agent.giveback("g");
  await bench.clock.advance(2000);
  await asked;
  equal(roleOf(two, "g"), "owned");
});
