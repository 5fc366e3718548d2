import type { LuByte } from "../../src/lib/units.js";
import { coldHost } from "../host.js";
import { type Bench, inFlight, PlainFile, timed } from "./bench.js";
import { hold, type Outcome } from "./contest.js";
import { DEPTH, DISKS, Fixture, REQUEST_BYTES } from "./fixture.js";

/** The places of an LU on its members, read and written without RAID, as many requests in flight. */
export class PlainMembers {
  readonly #files: readonly PlainFile[];
  readonly #fixture: Fixture;

  constructor(fixture: Fixture, bench: Bench) {
    this.#fixture = fixture;
    this.#files = fixture.paths.map((path) => new PlainFile(path));
    bench.undo.add("close plain files", () => {
      for (const file of this.#files) file.close();
    });
  }

  /** The first `byteCount` bytes of the places together, all files side by side. */
  #each(byteCount: number, call: (file: PlainFile, buffer: Buffer, position: number) => Promise<void>): Promise<void> {
    const { rows, buffers } = this.#fixture;
    return inFlight(byteCount / REQUEST_BYTES, DEPTH, (index, lane) => {
      const position = rows.start + Math.floor(index / DISKS) * REQUEST_BYTES;
      return call(this.#files[index % DISKS]!, buffers[lane]!, position);
    });
  }

  async write(byteCount: number): Promise<void> {
    await this.#each(byteCount, (file, buffer, position) => file.write(buffer, position));
    await Promise.all(this.#files.map((file) => file.flush()));
  }

  read(byteCount: number): Promise<void> {
    return this.#each(byteCount, (file, buffer, position) => file.read(buffer, position));
  }
}

/** Whole stripes: what is written to the members is a quarter more, and counted for both. */
function writing(fixture: Fixture, plain: PlainMembers, bench: Bench): Promise<Outcome> {
  const written = (fixture.luBytes / (DISKS - 1)) * DISKS;
  return hold(
    {
      ...{ title: "sequential write", unit: "bytes", wanted: 0.7, rounds: bench.rounds },
      ours: {
        name: `${REQUEST_BYTES / 2 ** 20} MiB writes through an LU, ${DEPTH} in flight, a flush at the end`,
        turn: () => timed(written, () => fixture.fill()),
      },
      peer: {
        name: "as many bytes, parity counted, plainly to the same files, fdatasync at the end",
        turn: () => timed(written, () => plain.write(written)),
      },
    },
    bench.goOn,
  );
}

/** Out of the page cache an LU is read in a twentieth of a second: too short to measure, and over before V8 has compiled what it runs. */
const CACHED_PASSES = 8;

function reading(fixture: Fixture, plain: PlainMembers, bench: Bench, cold: boolean): Promise<Outcome> {
  const passes = cold ? 1 : CACHED_PASSES;
  const turn = (read: () => Promise<void>) => (): Promise<number> => {
    if (cold) coldHost();
    return timed(passes * fixture.luBytes, async () => {
      for (let pass = 0; pass < passes; pass++) await read();
    });
  };
  return hold(
    {
      ...{
        title: `sequential read, ${cold ? "not cached" : "cached"}`,
        unit: "bytes",
        wanted: 0.8,
        rounds: bench.rounds,
      },
      ours: { name: "1 MiB reads through an LU", turn: turn(() => fixture.readAll()) },
      peer: {
        name: `plain reads of the same files, as many bytes, ${cold ? "page cache dropped" : "all of it in the page cache"}`,
        turn: turn(() => plain.read(fixture.luBytes)),
      },
    },
    bench.goOn,
  );
}

export async function sequential(bench: Bench): Promise<Outcome[]> {
  const fixture = await Fixture.make(bench);
  const plain = new PlainMembers(fixture, bench);
  const outcomes = [await writing(fixture, plain, bench)];
  outcomes.push(await reading(fixture, plain, bench, false));
  outcomes.push(await reading(fixture, plain, bench, true));
  await fixture.close();
  return outcomes;
}

/** One member missing: a fifth of the reads is put together from the four others. */
export async function degraded(bench: Bench): Promise<Outcome[]> {
  const healthy = await Fixture.make(bench);
  const missing = await Fixture.make(bench);
  await missing.reopen(missing.paths.slice(1));
  const start = 0 as LuByte;
  for (const one of [healthy, missing]) await one.lu.read(one.buffers[0]!, start);
  const outcome = await hold(
    {
      ...{ title: "degraded read, cached", unit: "bytes", wanted: 0.5, rounds: bench.rounds },
      ours: { name: "1 MiB reads, one member missing", turn: () => timed(missing.luBytes, () => missing.readAll()) },
      peer: { name: "all members there", turn: () => timed(healthy.luBytes, () => healthy.readAll()) },
    },
    bench.goOn,
  );
  for (const one of [healthy, missing]) await one.close();
  return [outcome];
}
