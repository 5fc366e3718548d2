import { deepEqual, equal } from "node:assert/strict";
import net from "node:net";
import { test } from "node:test";
import type { ReachTarget } from "../../../src/config/schema.js";
import type { NewEvent } from "../../../src/control/event-log.js";
import { answersAt, ReachWatch } from "../../../src/control/reach-watch.js";
import type { Reach } from "../../../src/ha/record.js";
import { HandClock, settle } from "../../support/hand-clock.js";

const GATEWAY: ReachTarget = { text: "gateway", host: "gateway", port: null };
const NEAR: ReachTarget = { text: "192.0.2.9:53", host: "192.0.2.9", port: 53 };
const FAR: ReachTarget = { text: "198.51.100.1:443", host: "198.51.100.1", port: 443 };

function bench(targets: readonly ReachTarget[]) {
  const clock = new HandClock();
  const answering = new Set(targets.map(({ text }) => text));
  const [standings, cuts, events] = [[] as (Reach | null)[], [] as string[], [] as NewEvent[]];
  const asking: { round: (answered: readonly string[]) => void; end: () => void; stopped: boolean }[] = [];
  const watch = new ReachWatch({
    ...{ clock, targets },
    connect: async ({ text }) => answering.has(text),
    ask: (_targets, round, end) => {
      const asked = { round, end, stopped: false };
      asking.push(asked);
      return () => {
        asked.stopped = true;
      };
    },
    onStanding: (reach) => void standings.push(reach),
    onCut: (why) => void cuts.push(why),
    onEvent: (event) => void events.push(event),
  });
  const kinds = (): string[] => events.map(({ kind }) => kind);
  return { clock, answering, standings, cuts, kinds, asking, watch };
}

test("reach watch: what answers is counted, a lost packet is not", async () => {
  const { clock, answering, standings, cuts, watch } = bench([NEAR, FAR]);
  watch.start();
  await settle();
  deepEqual(standings.at(-1), { reached: 2, targets: 2 });
  answering.delete(NEAR.text);
  await clock.advance(1000);
  deepEqual(standings.at(-1), { reached: 2, targets: 2 });
  await clock.advance(1000);
  deepEqual(standings.at(-1), { reached: 1, targets: 2 });
  await clock.advance(60_000);
  deepEqual([cuts, watch.problems], [[], []], "whoever reaches somebody is not cut off");
  watch.end();
});

test("reach watch: nobody answers for five rounds: cut off, told once, said each round until somebody does", async () => {
  const { clock, answering, standings, cuts, kinds, watch } = bench([NEAR, FAR]);
  watch.start();
  await settle();
  answering.clear();
  await clock.advance(2000);
  deepEqual(
    [standings.at(-1), cuts],
    [{ reached: 0, targets: 2 }, []],
    "the partner hears of it before this node acts",
  );
  await clock.advance(2000);
  deepEqual(cuts, []);
  await clock.advance(1000);
  const why = "this node reaches nobody on its network (192.0.2.9:53, 198.51.100.1:443): clients hardly reach it";
  deepEqual([new Set(cuts), watch.problems, kinds()], [new Set([why]), [why], ["network-cut"]]);
  const before = cuts.length;
  await clock.advance(3000);
  equal(cuts.length >= before + 3, true);
  answering.add(FAR.text);
  await clock.advance(1000);
  deepEqual([watch.problems, kinds()], [[], ["network-cut", "network-whole"]]);
  watch.end();
});

test("reach watch: a target that has never answered says nothing about the network, and is told", async () => {
  const { clock, answering, standings, cuts, watch } = bench([NEAR]);
  answering.clear();
  watch.start();
  await clock.advance(60_000);
  deepEqual([standings.at(-1), cuts, watch.problems], [null, [], []]);
  deepEqual(watch.warnings, ["192.0.2.9:53, which pair.reach names, has not answered since this node began"]);
  answering.add(NEAR.text);
  await clock.advance(1000);
  deepEqual([standings.at(-1), watch.warnings], [{ reached: 1, targets: 1 }, []]);
  watch.end();
});

test("reach watch: what the command asks counts by its rounds; when it has ended nothing is known, and it is begun again", async () => {
  const { clock, standings, cuts, asking, watch } = bench([GATEWAY]);
  watch.start();
  asking[0]!.round(["gateway"]);
  deepEqual(standings.at(-1), { reached: 1, targets: 1 });
  for (let i = 0; i < 4; i++) asking[0]!.round([]);
  deepEqual([standings.at(-1), cuts.length], [{ reached: 0, targets: 1 }, 0]);
  asking[0]!.end();
  await clock.advance(5000);
  equal(asking.length, 2);
  for (let i = 0; i < 9; i++) asking[1]!.round([]);
  deepEqual([standings.at(-1), cuts.length], [null, 0], "it has not answered since");
  watch.end();
  equal(asking[1]!.stopped, true);
});

test("reach watch: an open port and a refusal are answers; nobody there is none", async () => {
  const server = net.createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as net.AddressInfo;
  equal(await answersAt({ host: "127.0.0.1", port }), true);
  await new Promise((resolve) => server.close(resolve));
  equal(await answersAt({ host: "127.0.0.1", port }), true);
  // An address of no network: the kernel has no way there.
  equal(await answersAt({ host: "255.255.255.255", port }), false);
});
