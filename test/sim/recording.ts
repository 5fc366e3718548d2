import { type Random, SeededRandom } from "../../src/lib/prng.js";
import { BLOCK_BYTES, KIB, MIB } from "../../src/lib/units.js";
import type { GroupDescription, Without } from "../../src/raid/contract.js";
import type { Drive, DriveRequest, DriveWatcher } from "./drive.js";
import { LuModel } from "./lu-model.js";
import { destage, flush, type LuUnderTest, smallRange, stripeRange, write } from "./lu-operations.js";
import { Machine } from "./machine.js";
import type { Platter } from "./platter.js";
import { Simulation } from "./simulation.js";

export const MEMBERS = 5;
const CHUNK_BYTES = 16 * KIB;
/** Rows of two chunks, the smallest there are. */
const ROW_BYTES = 2 * CHUNK_BYTES;
/** Two rows: 48 KiB of data in each of four stripes. */
const LU_BYTES = 2 * ROW_BYTES * (MEMBERS - 1);
export const DISK_BYTES = 32 * MIB;

/** A request of one disk: asked for, or ended. What it writes is a copy. */
export interface RecordedEvent {
  readonly kind: "asked" | "ended";
  readonly disk: number;
  readonly id: number;
  readonly operation: DriveRequest["operation"];
  readonly position: number;
  readonly bytes: Buffer;
  /** Of a flush: the number of the last write that it covers. */
  readonly upTo: number;
  /** Blocks whose content became sure, or not sure any more, before this event and after the one before it; -1: not sure. */
  readonly changes: readonly SureChange[];
}

export interface SureChange {
  readonly unit: number;
  readonly block: number;
  readonly version: number;
}

/** A workload as the disks saw it, and what it could rely on at each moment. */
export interface Recording {
  readonly group: GroupDescription;
  /** What was on the disks, flushed, before the first event. */
  readonly start: readonly Platter[];
  readonly events: readonly RecordedEvent[];
  readonly units: ReadonlyArray<{ readonly number: number; readonly blockCount: number }>;
  /** After the last event. */
  readonly last: readonly SureChange[];
}

class Recorder implements DriveWatcher {
  readonly events: RecordedEvent[] = [];
  readonly #ids = new Map<DriveRequest, number>();
  readonly #known: Int32Array[];
  /** Of each disk: the number of its last write before the recording. */
  readonly #numbers: number[];

  constructor(
    private readonly units: readonly LuUnderTest[],
    drives: readonly Drive[],
  ) {
    this.#known = units.map(({ model }) => Int32Array.from(model.sure));
    this.#numbers = drives.map(({ media }) => media.number);
    for (const drive of drives) drive.watcher = this;
  }

  asked(drive: Drive, request: DriveRequest): void {
    this.#ids.set(request, this.#ids.size);
    this.#note("asked", drive, request, Buffer.concat(request.buffers));
  }

  ended(drive: Drive, request: DriveRequest): void {
    this.#note("ended", drive, request, Buffer.alloc(0));
  }

  #note(kind: RecordedEvent["kind"], { index }: Drive, request: DriveRequest, bytes: Buffer): void {
    const id = this.#ids.get(request);
    // Asked for before the recording began.
    if (id === undefined) return;
    const { operation, position } = request;
    const upTo = Math.max(0, request.upTo - this.#numbers[index]!);
    this.events.push({ kind, disk: index, id, operation, position, bytes, upTo, changes: this.changes() });
  }

  changes(): SureChange[] {
    const changes: SureChange[] = [];
    for (const [unit, { model }] of this.units.entries()) {
      const known = this.#known[unit]!;
      for (let block = 0; block < known.length; block++) {
        if (known[block] === model.sure[block]) continue;
        known[block] = model.sure[block]!;
        changes.push({ unit, block, version: known[block]! });
      }
    }
    return changes;
  }
}

async function makeUnits(machine: Machine, simulation: Simulation): Promise<LuUnderTest[]> {
  await simulation.until(machine.create(), "creating the group");
  const units: LuUnderTest[] = [];
  for (const name of ["a", "b"]) {
    const { number } = await simulation.until(machine.group.createLu(name, 5, LU_BYTES), "an LU");
    const lu = machine.group.openLu(number);
    units.push({ number, name, lu, model: new LuModel(lu.sizeBytes / BLOCK_BYTES) });
    // The second one lies in another region of the write-intent bitmap.
    if (name === "a") await simulation.until(machine.group.createLu("between", 5, MEMBERS * MIB), "an LU");
  }
  return units;
}

/** Everything that is on the disks now stays as it is: what comes is written on top. */
function freeze({ media }: Drive): Platter {
  media.flush(media.number);
  const frozen = media.platter;
  media.platter = frozen.fork();
  return frozen;
}

/** Run `operations` writes and flushes, one or two at a time. @throws Error when one of them fails */
export async function record(seed: number, operations: number, without: Without): Promise<Recording> {
  const simulation = new Simulation(seed);
  const machine = new Machine({
    ...{
      simulation,
      members: MEMBERS,
      diskBytes: DISK_BYTES,
      chunkBytes: CHUNK_BYTES,
      rowBytes: ROW_BYTES,
      parityRun: 2,
    },
    without,
  });
  const units = await makeUnits(machine, simulation);
  const start = machine.drives.map(freeze);
  const recorder = new Recorder(units, machine.drives);
  const random = new SeededRandom(seed + 1);
  for (let left = operations; left > 0; ) left -= await operate(units, simulation, random, left);
  return {
    group: machine.group.describe(),
    start,
    events: recorder.events,
    units: units.map(({ number, model }) => ({ number, blockCount: model.blockCount })),
    last: recorder.changes(),
  };
}

/** @returns how many operations that was */
async function operate(
  units: readonly LuUnderTest[],
  simulation: Simulation,
  random: Random,
  left: number,
): Promise<number> {
  const count = Math.min(left, random.below(4) === 0 ? 2 : 1);
  const requests = Array.from({ length: count }, () => request(units[random.below(units.length)]!, random));
  await simulation.until(Promise.all(requests), "requests");
  // Idle stripes go to their place, marks are cleared.
  if (random.below(4) > 0) await simulation.until(simulation.sleep(600 + random.below(4000)), "time");
  return count;
}

function request(unit: LuUnderTest, random: Random): Promise<void> {
  const dice = random.below(16);
  if (dice < 3) return write(unit, smallRange(unit, random), false);
  if (dice < 7) return write(unit, stripeRange(unit, random), false);
  if (dice < 12) return write(unit, smallRange(unit, random), true);
  if (dice < 15) return flush(unit);
  return destage(unit, random);
}
