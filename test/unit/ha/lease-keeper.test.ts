import { deepEqual, equal, rejects } from "node:assert/strict";
import { test } from "node:test";
import { LeaseKeeper, standingOf } from "../../../src/ha/lease-keeper.js";
import type { Lease } from "../../../src/ha/record.js";
import { PairBench } from "../../support/pair-bench.js";

function lease(state: Lease["state"], epoch: number, heldEpoch: number): Lease {
  return { group: "uuid-g", epoch, sequence: 1, owner: "chn1", state, heldEpoch, reason: "", wallMs: 0 };
}

async function keepers(bench: PairBench): Promise<readonly [LeaseKeeper, LeaseKeeper]> {
  const seen = bench.group("g");
  const make = async (node: string, partner: string) => {
    const board = bench.board(node);
    board.setDisks(seen.paths.map((path) => ({ path, group: seen.uuid })));
    return new LeaseKeeper({ board, node, partner, clock: bench.clock });
  };
  return [await make("chn1", "chn2"), await make("chn2", "chn1")];
}

/** What becomes of attempts that begin at the same moment. */
async function outcomes(bench: PairBench, attempts: readonly Promise<void>[]): Promise<string[]> {
  const settled = attempts.map((attempt) => attempt.then(() => "taken").catch(({ code }: { code: string }) => code));
  await bench.clock.advance(2000);
  return await Promise.all(settled);
}

test("standing: who was the last to have it counts, and a claim until it is known to be over", () => {
  equal(standingOf({ own: null, other: null }), "never");
  equal(standingOf({ own: lease("released", 3, 3), other: null }), "ours");
  equal(standingOf({ own: lease("released", 3, 3), other: lease("held", 4, 4) }), "theirs");
  equal(standingOf({ own: lease("released", 3, 3), other: lease("released", 4, 4) }), "released");
  equal(standingOf({ own: lease("held", 3, 3), other: lease("claimed", 4, 0) }), "theirs");
  equal(standingOf({ own: lease("held", 3, 3), other: lease("withdrawn", 4, 0) }), "ours");
});

test("standing: what the other says that it has let go is released, up to that epoch", () => {
  equal(standingOf({ own: null, other: lease("held", 4, 4) }, 4), "released");
  equal(standingOf({ own: null, other: lease("held", 5, 5) }, 4), "theirs");
});

test("lease: of two that claim on the same ground at the same moment one at most goes on", async () => {
  const bench = new PairBench();
  const [one, two] = await keepers(bench);
  const seen = bench.group("g");
  const grounds = [await one.read(seen), await two.read(seen)] as const;
  const results = await outcomes(bench, [
    one.take(seen, "start", grounds[0], () => {}),
    two.take(seen, "start", grounds[1], () => {}),
  ]);
  deepEqual(results.filter((result) => result !== "EBUSY").length <= 1, true, `${results}`);
});

test("lease: the lower of two claims gives way at once, and does not wait for the other", async () => {
  const bench = new PairBench();
  const [one, two] = await keepers(bench);
  const seen = bench.group("g");
  const [ground, attempts] = [await two.read(seen), [] as string[]];
  const note = (who: string) => () => void attempts.push(who);
  const both = [one.take(seen, "start", ground, () => {}), two.take(seen, "start", ground, () => {})] as const;
  both[0].then(note("taken"), note("higher"));
  both[1].then(note("taken"), note("lower"));
  await bench.clock.advance(40);
  deepEqual(attempts, ["lower"]);
  await bench.clock.advance(2000);
  deepEqual(attempts, ["lower", "higher"]);
});

test("lease: whoever claims on an old ground sees that the other has taken it since", async () => {
  const bench = new PairBench();
  const [one, two] = await keepers(bench);
  const seen = bench.group("g");
  const old = await two.read(seen);
  deepEqual(await outcomes(bench, [one.take(seen, "start", await one.read(seen), () => {})]), ["taken"]);
  deepEqual(await outcomes(bench, [two.take(seen, "start", old, () => {})]), ["EBUSY"]);
});

test("lease: a claim waits for a lower one that gives way, and goes on", async () => {
  const bench = new PairBench();
  const [one, two] = await keepers(bench);
  const seen = bench.group("g");
  const ground = await two.read(seen);
  await one.write(seen, 2, "claimed", "start");
  const results = outcomes(bench, [two.take(seen, "start", ground, () => {})]);
  await bench.clock.advance(100);
  await one.release(seen, 2, "gave way");
  deepEqual(await results, ["taken"]);
});

test("lease: it is seen wherever it is, and not asked for when a majority could be missed", async () => {
  const bench = new PairBench();
  const [one, two] = await keepers(bench);
  const seen = bench.group("g");
  const [first, second, third] = bench.disks;
  third?.hiddenFrom.add("chn1");
  await one.write(seen, 5, "held", "start");
  first?.hiddenFrom.add("chn2");
  equal((await two.read(seen)).other?.epoch, 5);
  second?.hiddenFrom.add("chn2");
  await rejects(two.read(seen), { code: "EIO" });
});

test("lease: what an earlier process of the node left behind is let go of under its own epoch", async () => {
  const bench = new PairBench();
  const [one, two] = await keepers(bench);
  const seen = bench.group("g");
  await one.write(seen, 5, "held", "start");
  const [again] = await keepers(bench);
  // One disk keeps the older block: the newer one counts.
  bench.disks[0]?.hiddenFrom.add("chn1");
  await again.tidy(seen);
  const { other } = await two.read(seen);
  deepEqual([other?.state, other?.epoch, other?.heldEpoch], ["released", 5, 5]);
});
