import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { test } from "node:test";
import type { Board } from "../../../src/ha/board.js";
import { PAIR_SETTINGS } from "../../../src/ha/contract.js";
import type { Heartbeat, Lease } from "../../../src/ha/record.js";
import { settle } from "../../support/hand-clock.js";
import { PairBench, roleOf } from "../../support/pair-bench.js";

const SLOTS = { own: 0, other: 1 };

function beat(sequence: number): Heartbeat {
  return {
    ...{ node: "chn1", sequence, bootId: "boot", pid: 1, processStart: 1, network: "", version: "1" },
    ...{
      service: null,
      owned: [],
      wants: [],
      letGo: [],
      trouble: null,
      reach: null,
      silent: [],
      ailing: [],
      lacks: [],
      wallMs: 0,
    },
  };
}

function lease(sequence: number): Lease {
  const group = "uuid-g";
  return { group, epoch: 1, sequence, owner: "chn1", state: "held", heldEpoch: 1, reason: "", wallMs: 0 };
}

function boardOf(bench: PairBench): Board {
  const board = bench.board("chn1");
  board.setDisks(bench.disks.map(({ path }) => ({ path, group: "uuid-g" })));
  return board;
}

/** Until it is called, the disk answers nothing. */
function stick(bench: PairBench, disk: number, node = "chn1"): () => void {
  let go = () => {};
  const { stuckFor } = bench.disks[disk]!;
  const stuck = new Promise<void>((resolve) => {
    go = resolve;
  });
  stuckFor.set(node, stuck);
  return () => {
    stuckFor.delete(node);
    go();
  };
}

test("board: a disk that does not answer is asked for a lease once, however often it is asked for", async () => {
  const bench = new PairBench();
  const board = boardOf(bench);
  const go = stick(bench, 1);
  const asked = Array.from({ length: 40 }, () => board.readLease("uuid-g", 3, SLOTS));
  await bench.clock.advance(1000);
  for (const view of await Promise.all(asked)) deepEqual(view, { own: null, other: null });
  // One request for the block of each node.
  equal(bench.disks[1]!.inFlightMax, 2);
  go();
  await settle();
  equal(bench.disks[1]!.inFlight, 0);
});

test("board: whoever waits for a disk that is being asked hears what it held after the question", async () => {
  const bench = new PairBench(1);
  const [board, other] = [boardOf(bench), bench.board("chn2")];
  other.setDisks(bench.disks.map(({ path }) => ({ path, group: "uuid-g" })));
  const go = stick(bench, 0);
  const first = board.readLease("uuid-g", 1, SLOTS);
  await settle();
  await other.writeLease(1, { ...lease(7), owner: "chn2" }, 1);
  const second = board.readLease("uuid-g", 1, SLOTS);
  go();
  await bench.clock.advance(100);
  await first;
  equal((await second).other?.sequence, 7);
});

test("board: a lease counts on a majority, whatever the slowest disk does, and one that is written late hides none", async () => {
  const bench = new PairBench();
  const board = boardOf(bench);
  const go = stick(bench, 0);
  for (const sequence of [1, 2, 3]) {
    const written = board.writeLease(0, lease(sequence), 3);
    await bench.clock.advance(100);
    await written;
  }
  equal(bench.disks[0]!.inFlightMax, 1);
  go();
  await settle();
  for (const path of bench.disks.map((disk) => disk.path)) {
    const alone = bench.board("chn2");
    alone.setDisks([{ path, group: "uuid-g" }]);
    equal((await alone.readLease("uuid-g", 1, SLOTS)).own?.sequence, 3, path);
  }
});

test("board: two of three disks that do not answer are no majority", async () => {
  const bench = new PairBench();
  const board = boardOf(bench);
  for (const disk of bench.disks.slice(1)) disk.hiddenFrom.add("chn1");
  await rejects(board.writeLease(0, lease(1), 3), { code: "EIO" });
  await rejects(board.readLease("uuid-g", 3, SLOTS), { code: "EIO" });
  equal(await board.writeHeartbeat(0, beat(1), 5), Number.NEGATIVE_INFINITY);
});

test("board: a heartbeat is heard when a majority has it, and the disks may have taken it in different rounds", async () => {
  const bench = new PairBench(5);
  const board = boardOf(bench);
  const goes = [stick(bench, 2), stick(bench, 3), stick(bench, 4)];
  const first = board.writeHeartbeat(0, beat(1), 100);
  await settle();
  equal(await board.writeHeartbeat(0, beat(2), 200), Number.NEGATIVE_INFINITY, "on two of five");
  goes[0]!();
  equal(await first, 100, "the third has the first one");
  goes[1]!();
  await settle();
  equal(await board.writeHeartbeat(0, beat(3), 300), 300, "three have this one");
  goes[2]!();
});

test("board: partner's heartbeats are read from those that answer", async () => {
  const bench = new PairBench();
  const board = boardOf(bench);
  await board.writeHeartbeat(1, beat(4), 1);
  stick(bench, 2);
  for (let i = 0; i < 5; i++) {
    const seen = board.readHeartbeats(1);
    await bench.clock.advance(60);
    const { found, readCount } = await seen;
    deepEqual([found.map(({ sequence }) => sequence), readCount], [[4, 4], 2]);
  }
  equal(bench.disks[2]!.inFlightMax, 1);
});

test("agent, two hosts: a disk that does not answer either node for minutes ends neither, and takes no more than a few requests", async () => {
  const bench = new PairBench();
  const { one, two } = await bench.pair([bench.group("g")]);
  for (const node of ["chn1", "chn2"]) stick(bench, 1, node);
  await bench.clock.advance(20 * PAIR_SETTINGS.leaseMs);
  deepEqual([one.ends, two.ends], [[], []]);
  equal(roleOf(one, "g"), "owned");
  // Of each node a heartbeat each way, and two leases.
  ok(bench.disks[1]!.inFlightMax <= 8, `${bench.disks[1]!.inFlightMax} requests at once`);
  for (const disk of bench.disks) disk.hiddenFrom.add("chn1");
  await bench.clock.advance(PAIR_SETTINGS.leaseMs + PAIR_SETTINGS.silentMs + 2000);
  equal(roleOf(two, "g"), "owned", "a partner that is gone is noticed all the same");
});
