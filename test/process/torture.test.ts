import assert from "node:assert/strict";
import { randomInt } from "node:crypto";
import { renameSync } from "node:fs";
import { type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { ApiClient } from "../../src/cli/client.js";
import type { StatusReport } from "../../src/control/types.js";
import { messageOf } from "../../src/lib/errors.js";
import { type Random, SeededRandom } from "../../src/lib/prng.js";
import { skipAloud } from "../contract/block-device.js";
import { noLoopReason } from "../contract/disks.js";
import { alive, Rig } from "../support/rig.js";
import { TortureClient } from "./torture-client.js";

/**
 * Rounds of misfortune under clients that write and verify. At the end of each the check is clean, and everything that was acknowledged reads
 * back.
 *
 *     TORTURE_ROUNDS=100 node --test dist/test/process/torture.test.js      the long run, on files and on loop devices
 *     TORTURE_SEED=N TORTURE_ROUNDS=1 node --test …                         one round again, as a failure says
 *
 * The seed of a round decides what happens and when; how far the clients are by then is up to the machine.
 */
const SEED = Number(process.env.TORTURE_SEED ?? randomInt(2 ** 32));
const CLIENTS = 4;
const DISKS = 4;
/** How long a disk may take to be found again and brought up to date. */
const RETURN_MS = 60_000;

interface Misfortune {
  readonly name: string;
  /** Under load. @returns what exactly happened */
  strike(rig: Rig, random: Random): Promise<string>;
  /** After everything was verified. @returns whether the rig has its redundancy again */
  mend(rig: Rig): Promise<boolean>;
}

const KILL: Misfortune = { name: "kill -9", strike: kill, mend: async () => true };

const CRASH: Misfortune = { name: "power cut", strike: crash, mend: async () => true };

const CRASH_AND_LOSE: Misfortune = {
  name: "power cut, and a disk is away afterwards",
  strike: async (rig, random) => {
    const how = await crash(rig, random);
    const { path, number } = someDisk(rig, random);
    renameSync(path, `${path}.away`);
    return `${how}; disk ${number}`;
  },
  mend: async (rig) => {
    for (const { path, state } of rig.description.disks) if (state === "missing") renameSync(`${path}.away`, path);
    return whole(rig);
  },
};

const GONE: Misfortune = {
  name: "a disk is pulled",
  strike: (rig, random) => fault(rig, random, "gone"),
  mend: cleared,
};

const GONE_AND_KILL: Misfortune = {
  name: "a disk is pulled, then kill -9, and the disk comes back stale",
  strike: async (rig, random) => {
    const how = await fault(rig, random, "gone");
    return `${how}; ${await kill(rig)}`;
  },
  mend: whole,
};

const FAILING: Misfortune = {
  name: "a disk fails",
  strike: (rig, random) => fault(rig, random, "eio"),
  mend: cleared,
};

const UNREADABLE: Misfortune = {
  name: "a disk cannot read some places and is slow",
  strike: async (rig, random) => {
    const { number } = someDisk(rig, random);
    const to = ["rig", "fault", "--disk", String(number)];
    await rig.ok([...to, "--kind", "slow", "--delay", "3", "--hits", "100"]);
    const at = `${random.below(100)}M`;
    await rig.ok([...to, "--kind", "eio", "--on", "read", "--at", at, "--bytes", "8M"]);
    await sleep(300);
    return `disk ${number} at ${at}`;
  },
  mend: cleared,
};

/** Neighbours in the order of seeds differ, so that few rounds see many kinds. */
const ON_FILES = [CRASH, GONE, KILL, CRASH_AND_LOSE, UNREADABLE, GONE_AND_KILL, FAILING];
const ON_LOOPS = [KILL, GONE, CRASH, FAILING, UNREADABLE];

function someDisk(rig: Rig, random: Random) {
  const disk = rig.description.disks[random.below(DISKS)];
  assert.ok(disk !== undefined);
  return disk;
}

async function kill(rig: Rig): Promise<string> {
  await rig.kill();
  return "killed";
}

async function crash(rig: Rig, random: Random): Promise<string> {
  const mode = random.below(3) === 0 ? "drop" : "torn";
  const said = await rig.json(["rig", "crash", "--seed", String(random.next()), "--mode", mode]);
  assert.equal(alive(rig.pid), false);
  const { keptSectors, lostSectors } = said as { keptSectors: number; lostSectors: number };
  return `${mode}, ${keptSectors} sectors kept, ${lostSectors} lost`;
}

async function fault(rig: Rig, random: Random, kind: "gone" | "eio"): Promise<string> {
  const { number } = someDisk(rig, random);
  await rig.ok(["rig", "fault", "--disk", String(number), "--kind", kind, "--seed", String(random.next())]);
  await sleep(200 + random.below(300));
  return `disk ${number}`;
}

async function cleared(rig: Rig): Promise<boolean> {
  await rig.ok(["rig", "fault", "--clear"]);
  return whole(rig);
}

/** Wait until the disk that was away is up to date. @returns false when it is not to be had: it failed, and a person has to insist */
async function whole(rig: Rig): Promise<boolean> {
  const api = new ApiClient(rig.description.nodes[0]?.socket ?? "");
  for (const deadline = Date.now() + RETURN_MS; ; await sleep(100)) {
    const { state, disks } = await api.get<StatusReport>("/v1/status");
    if (state === "clean") return true;
    if (disks.some((disk) => disk.state === "failed")) return false;
    assert.ok(Date.now() < deadline, `still ${state}: ${JSON.stringify(disks)}`);
  }
}

/** One rig, until it has lost its redundancy for good. */
class Life {
  readonly clients: readonly TortureClient[];

  private constructor(
    readonly rig: Rig,
    random: Random,
  ) {
    const of = (_: unknown, n: number) => new TortureClient(rig.port, `c${n}`, new SeededRandom(random.next()));
    this.clients = Array.from({ length: CLIENTS }, of);
  }

  static async begin(more: readonly string[], random: Random): Promise<Life> {
    return new Life(await Rig.up({ disks: DISKS, diskSize: "192M", more }), random);
  }

  get acknowledged(): number {
    return this.clients.reduce((sum, client) => sum + client.acknowledged, 0);
  }

  /** @returns what happened, and whether the rig is as good as new */
  async round(misfortune: Misfortune, random: Random): Promise<{ how: string; good: boolean }> {
    const { rig } = this;
    let stopped = false;
    const work = Promise.allSettled(this.clients.map((client) => client.work(() => stopped)));
    await sleep(100 + random.below(700));
    const how = await misfortune.strike(rig, random).finally(() => {
      stopped = true;
    });
    for (const result of await work) if (result.status === "rejected") throw result.reason;
    await rig.up();
    await this.#verify();
    const good = await misfortune.mend(rig);
    // What was brought up to date must be as good as the rest.
    if (good) await this.#verify();
    return { how, good };
  }

  async #verify(): Promise<void> {
    for (const client of this.clients) await client.verify();
    await this.rig.ok(["fs", "check", "data", "--data"]);
  }
}

interface Torture {
  readonly rounds: number;
  /** Of `rig up`. */
  readonly more: readonly string[];
  readonly misfortunes: readonly Misfortune[];
}

async function torture(t: TestContext, { rounds, more, misfortunes }: Torture): Promise<void> {
  let life: Life | null = null;
  let acknowledged = 0;
  t.after(() => life?.rig.remove());
  for (let round = 0; round < rounds; round++) {
    const seed = SEED + round;
    const misfortune = misfortunes[seed % misfortunes.length] as Misfortune;
    const random = new SeededRandom(seed);
    try {
      life ??= await Life.begin(more, random);
      const before = life.acknowledged;
      const { how, good } = await life.round(misfortune, random);
      const done = life.acknowledged - before;
      t.diagnostic(`round ${round}, seed ${seed}: ${misfortune.name} (${how}); ${done} operations acknowledged`);
      acknowledged += done;
      if (good) continue;
      await life.rig.remove();
      life = null;
    } catch (error) {
      const again = `TORTURE_SEED=${seed} TORTURE_ROUNDS=1`;
      throw new Error(`round ${round} (${misfortune.name}; ${again}): ${messageOf(error)}`, { cause: error });
    }
  }
  assert.ok(acknowledged > 10 * rounds, `only ${acknowledged} operations were acknowledged`);
}

function roundsOr(few: number): number {
  return Number(process.env.TORTURE_ROUNDS ?? few);
}

test("torture: a rig on files with volatile caches", async (t) => {
  await torture(t, { rounds: roundsOr(6), more: ["--volatile-cache"], misfortunes: ON_FILES });
});

const noLoops = noLoopReason();
if (noLoops !== null) skipAloud("torture: a rig on loop devices", noLoops);
else {
  test("torture: a rig on loop devices", async (t) => {
    await torture(t, { rounds: roundsOr(3), more: ["--loop"], misfortunes: ON_LOOPS });
  });
}
