import { rmSync } from "node:fs";
import { StorageError } from "../../src/lib/errors.js";
import { SeededRandom } from "../../src/lib/prng.js";
import { KIB, type LuByte } from "../../src/lib/units.js";
import type { LabelledDisk, TaskDescription, TaskKind } from "../../src/raid/contract.js";
import { coldHost } from "../host.js";
import { pause } from "../undo.js";
import { type Bench, inFlight, PlainFile, timed } from "./bench.js";
import { hold, type Outcome } from "./contest.js";
import { DEPTH, DISKS, Fixture, REQUEST_BYTES } from "./fixture.js";
import { PlainMembers } from "./sequential.js";

/** Disk numbers from here on are those of replacements. */
const FIRST_SPARE = 100;
const CLIENT_BYTES = 64 * KIB;
const CLIENT_DEPTH = 4;
const CLIENT_MS = 3000;
const WATCH_MS = 20;

/** A group on which tasks are started, and watched until they end. */
class Tasks {
  #spares = 0;

  constructor(readonly fixture: Fixture) {}

  #find(kind: TaskKind): TaskDescription | undefined {
    return this.fixture.group.describe().tasks.find((task) => task.kind === kind);
  }

  running(kind: TaskKind): boolean {
    return this.#find(kind)?.state === "running";
  }

  async ended(kind: TaskKind): Promise<void> {
    while (this.running(kind)) await pause(5);
    const task = this.#find(kind);
    if (task?.state === "done" || task?.state === "cancelled") return;
    throw new StorageError("EIO", `the ${kind} ended as ${task?.state}: ${task?.reason ?? "no reason given"}`);
  }

  startScrub(): Promise<void> {
    return this.fixture.group.scrub({ heal: true, inspectors: new Map() });
  }

  async stopScrub(): Promise<void> {
    if (this.running("scrub")) await this.fixture.group.cancelTask("scrub");
    await this.ended("scrub");
  }

  newSpare(): Promise<LabelledDisk> {
    const number = FIRST_SPARE + this.#spares++;
    return this.fixture.unusedDisk(this.fixture.newDisk(`spare-${number}`), number);
  }

  /** A member out, an empty disk in its place; the file of the one before is of no more use. */
  async startRebuild(disk: LabelledDisk): Promise<void> {
    const { group } = this.fixture;
    const last = group.describe().disks[DISKS - 1]!;
    await group.failDisk(last.number);
    await group.replaceDisk(last.number, disk);
    if (last.number >= FIRST_SPARE) rmSync(last.path);
  }
}

/** Of all members, whatever the LU holds of them. */
function scrubAlone(tasks: Tasks, plain: PlainMembers, bench: Bench): Promise<Outcome> {
  const byteCount = tasks.fixture.rows.byteCount * DISKS;
  const cold = (work: () => Promise<void>) => () => {
    coldHost();
    return timed(byteCount, work);
  };
  return hold(
    {
      ...{ title: "scrub, nobody else there", unit: "bytes", wanted: 0.7, rounds: bench.rounds },
      ours: {
        name: "bytes of all members, page cache dropped",
        turn: cold(async () => {
          await tasks.startScrub();
          await tasks.ended("scrub");
        }),
      },
      peer: {
        name: "plain sequential reads of the same places, page cache dropped",
        turn: cold(() => plain.read(byteCount)),
      },
    },
    bench.goOn,
  );
}

/** What a rebuild must move, without RAID: four members read, one written, fdatasync at the end. */
async function plainRebuild(fixture: Fixture): Promise<void> {
  const { rows, buffers } = fixture;
  const sources = fixture.paths.slice(1).map((file) => new PlainFile(file));
  const target = new PlainFile(fixture.newDisk("copy"));
  try {
    await inFlight(rows.byteCount / REQUEST_BYTES, DEPTH, async (index, lane) => {
      const position = rows.start + index * REQUEST_BYTES;
      for (const source of sources) await source.read(buffers[lane]!, position);
      await target.write(buffers[lane]!, position);
    });
    await target.flush();
  } finally {
    for (const file of [...sources, target]) file.close();
  }
}

function rebuildAlone(tasks: Tasks, bench: Bench): Promise<Outcome> {
  const { fixture } = tasks;
  const { byteCount } = fixture.rows;
  return hold(
    {
      ...{ title: "rebuild, nobody else there", unit: "bytes", wanted: 0.7, rounds: bench.rounds },
      ours: {
        name: "bytes of the member, on to an empty disk, page cache dropped",
        turn: async () => {
          const spare = await tasks.newSpare();
          coldHost();
          return timed(byteCount, async () => {
            await tasks.startRebuild(spare);
            await tasks.ended("rebuild");
          });
        },
      },
      peer: {
        name: "plain reads of the four others and writes to an empty file, fdatasync at the end, page cache dropped",
        turn: async () => {
          coldHost();
          return timed(byteCount, () => plainRebuild(fixture));
        },
      },
    },
    bench.goOn,
  );
}

/** Random 64 KiB, three reads to one write, until the time is over or `goesOn` says so. */
async function client(fixture: Fixture, random: SeededRandom, goesOn: () => boolean): Promise<number> {
  const places = fixture.luBytes / CLIENT_BYTES;
  const startedMs = performance.now();
  let done = 0;
  const lane = async (buffer: Buffer): Promise<void> => {
    while (performance.now() - startedMs < CLIENT_MS && goesOn()) {
      const at = (random.below(places) * CLIENT_BYTES) as LuByte;
      if (random.below(4) === 0) await fixture.lu.write(buffer, at);
      else await fixture.lu.read(buffer, at);
      done++;
    }
  };
  const buffers = fixture.buffers.slice(0, CLIENT_DEPTH).map((buffer) => buffer.subarray(0, CLIENT_BYTES));
  await Promise.all(buffers.map(lane));
  return (done * CLIENT_BYTES * 1000) / (performance.now() - startedMs);
}

function beside(kind: "scrub" | "rebuild", tasks: Tasks, bench: Bench): Promise<Outcome> {
  const random = new SeededRandom(11);
  const turn = async (): Promise<number> => {
    await (kind === "scrub" ? tasks.startScrub() : tasks.startRebuild(await tasks.newSpare()));
    // Asked by the clock: what a group says of itself takes longer than a request.
    let running = true;
    const watch = setInterval(() => (running = tasks.running(kind)), WATCH_MS);
    const rate = await client(tasks.fixture, random, () => running).finally(() => clearInterval(watch));
    await (kind === "scrub" ? tasks.stopScrub() : tasks.ended(kind));
    return rate;
  };
  return hold(
    {
      ...{ title: `a client beside a ${kind}`, unit: "bytes", wanted: 0.7, rounds: bench.rounds },
      ours: { name: `random 64 KiB, 3 reads to 1 write, ${CLIENT_DEPTH} in flight, while it runs`, turn },
      peer: { name: "the same client alone", turn: () => client(tasks.fixture, random, () => true) },
    },
    bench.goOn,
  );
}

export async function background(bench: Bench): Promise<Outcome[]> {
  const fixture = await Fixture.make(bench);
  const plain = new PlainMembers(fixture, bench);
  const tasks = new Tasks(fixture);
  const outcomes = [await scrubAlone(tasks, plain, bench), await beside("scrub", tasks, bench)];
  outcomes.push(await rebuildAlone(tasks, bench), await beside("rebuild", tasks, bench));
  await fixture.close();
  return outcomes;
}
