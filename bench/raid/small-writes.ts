import { closeSync, mkdtempSync, openSync, writeSync } from "node:fs";
import path from "node:path";
import { SeededRandom } from "../../src/lib/prng.js";
import { BLOCK_BYTES, type LuByte, MIB } from "../../src/lib/units.js";
import { mountBtrfs } from "../btrfs.js";
import { pause } from "../undo.js";
import { type Bench, PlainFile, timed } from "./bench.js";
import { hold, type Outcome, type Side } from "./contest.js";
import { DISKS, Fixture } from "./fixture.js";

/** Writes between two flushes; they are in flight together. */
const BATCH = 64;
/** Four times what the stripe cache holds: stripes are put in place as fast as new ones come. */
const WRITES = 1000 * BATCH;
const SETTLE_MS = 2000;

interface Target {
  write(source: Buffer, position: number): Promise<void>;
  flush(): Promise<void>;
}

/** 4 KiB to random blocks of the first `byteCount` bytes; every side meets the same places in the same order. */
class RandomWrites {
  readonly #random = new SeededRandom(7);
  readonly #blocks: number;

  constructor(
    readonly target: Target,
    readonly source: Buffer,
    byteCount: number,
  ) {
    this.#blocks = byteCount / BLOCK_BYTES;
  }

  async turn(): Promise<number> {
    const rate = await timed(WRITES, async () => {
      for (let done = 0; done < WRITES; done += BATCH) await this.#batch();
    });
    // What is left in the journal goes to its place when a group is idle: not while the other side is at work.
    await pause(SETTLE_MS);
    return rate;
  }

  async #batch(): Promise<void> {
    const positions = Array.from({ length: BATCH }, () => this.#random.below(this.#blocks) * BLOCK_BYTES);
    await Promise.all(positions.map((position) => this.target.write(this.source, position)));
    await this.target.flush();
  }
}

function onLu(fixture: Fixture): RandomWrites {
  const target = {
    write: (source: Buffer, position: number) => fixture.lu.write(source, position as LuByte),
    flush: () => fixture.lu.flush(),
  };
  return new RandomWrites(target, fixture.buffers[0]!.subarray(0, BLOCK_BYTES), fixture.luBytes);
}

function preallocated(file: string, byteCount: number): PlainFile {
  const fd = openSync(file, "w");
  const zeros = Buffer.alloc(MIB);
  for (let at = 0; at < byteCount; at += MIB) writeSync(fd, zeros, 0, MIB, at);
  closeSync(fd);
  return new PlainFile(file);
}

const WHAT = `random 4 KiB writes, a flush every ${BATCH}`;

export async function smallWrites(bench: Bench): Promise<Outcome[]> {
  const fixture = await Fixture.make(bench);
  const folder = mkdtempSync(path.join(bench.folder, "btrfs-"));
  const mount = mountBtrfs(folder, DISKS, 2 * fixture.luBytes, bench.undo);
  const file = preallocated(path.join(mount, "file"), fixture.luBytes);
  bench.undo.add("close the file on btrfs", () => file.close());
  const ours = onLu(fixture);
  const peer = new RandomWrites(file, Buffer.alloc(BLOCK_BYTES, 0x5a), fixture.luBytes);
  const outcome = await hold(
    {
      ...{ title: WHAT, unit: "writes", wanted: 3, rounds: bench.rounds },
      ours: { name: `an LU of RAID-5 over ${DISKS} files`, turn: () => ours.turn() },
      peer: {
        name: `a file on btrfs RAID-5 over ${DISKS} loop devices, fdatasync every ${BATCH}`,
        turn: () => peer.turn(),
      },
    },
    bench.goOn,
  );
  await fixture.close();
  return [outcome];
}

/** The same code, its journal and bitmap on and off. */
export async function journalCost(bench: Bench): Promise<Outcome[]> {
  const on = await Fixture.make(bench);
  const off = await Fixture.make(bench, { journal: true, bitmap: true });
  const contest = (title: string, wanted: number, unit: Outcome["unit"], ours: Side["turn"], peer: Side["turn"]) =>
    hold(
      {
        ...{ title, unit, wanted, rounds: bench.rounds },
        ours: { name: "with journal and bitmap", turn: ours },
        peer: { name: "the same code without them", turn: peer },
      },
      bench.goOn,
    );
  const [smallOn, smallOff] = [onLu(on), onLu(off)];
  const full = (fixture: Fixture) => () => timed(fixture.luBytes, () => fixture.fill());
  const outcomes = [
    await contest(
      `journal and bitmap, ${WHAT}`,
      0.85,
      "writes",
      () => smallOn.turn(),
      () => smallOff.turn(),
    ),
    await contest("journal and bitmap, whole stripes", 0.95, "bytes", full(on), full(off)),
  ];
  for (const one of [on, off]) await one.close();
  return outcomes;
}
