import type { BlockDevice } from "../../src/device/device.js";
import { totalBytes } from "../../src/device/range.js";
import { SystemClock } from "../../src/lib/clock.js";
import { SILENT } from "../../src/lib/log.js";
import { SeededRandom } from "../../src/lib/prng.js";
import { BLOCK_BYTES, type LuByte } from "../../src/lib/units.js";
import { assembleGroup } from "../../src/lu/group.js";
import type { Group, LabelledDisk } from "../../src/raid/contract.js";
import { LABEL_END_BYTES } from "../../src/raid/layout.js";
import { CrashExpectation } from "./crash-expectation.js";
import { arena, TIGHT_BUFFERS } from "./machine.js";
import { CRASHES, type Crash } from "./media.js";
import type { Platter } from "./platter.js";
import { DISK_BYTES, MEMBERS, type Recording, record, type SureChange } from "./recording.js";
import { ReplayedDisk } from "./replayed-disk.js";
import { ROWS_START } from "./rot.js";
import { type Break, withoutOf } from "./run.js";

export interface ExhaustiveOptions {
  readonly seed: number;
  readonly operations: number;
  /** This process takes every `of`th crash point, from `part` on. */
  readonly part: number;
  readonly of: number;
  /** Stop after so many states; by default all. */
  readonly statesMax?: number | undefined;
  readonly broken?: Break | undefined;
  /** Only this crash point. */
  readonly point?: number | undefined;
}

export interface ExhaustiveResult {
  /** Writes and flushes of all disks. */
  readonly points: number;
  /** Really recovered and checked, by this process. */
  readonly states: number;
  /** The same disks and the same promises as one crash point before: not recovered again, not counted. */
  readonly repeated: number;
  readonly failure: CrashFailure | null;
}

export interface CrashFailure {
  readonly point: number;
  readonly crash: Crash;
  /** -1: all members are there. */
  readonly missing: number;
  readonly what: string;
}

const EXHAUSTIVE_CRASHES = ["lost", "torn", "reordered"] as const;
const ROWS_END = DISK_BYTES - LABEL_END_BYTES;

/** Nothing waits for time while a group is brought up and read. */
class StoppedClock extends SystemClock {
  override monotonicMs(): number {
    return 0;
  }

  override after(): () => void {
    return () => {};
  }
}

/** A disk that does everything at once: recovery after a crash is what is tested here, not its own timing. */
class InstantDevice implements BlockDevice {
  readonly readOnly = false;
  readonly alignmentBytes = 1;

  constructor(
    readonly name: string,
    readonly sizeBytes: number,
    private readonly platter: Platter,
  ) {}

  async read(target: Buffer, position: number): Promise<void> {
    this.platter.read(target, position);
  }

  async readv(targets: readonly Buffer[], position: number): Promise<void> {
    let at = position;
    for (const target of targets) {
      this.platter.read(target, at);
      at += target.length;
    }
  }

  async write(source: Buffer, position: number): Promise<void> {
    this.platter.write(source, position);
  }

  async writev(sources: readonly Buffer[], position: number): Promise<void> {
    let at = position;
    for (const source of sources) {
      this.platter.write(source, at);
      at += source.length;
    }
  }

  async writeThrough(sources: readonly Buffer[], position: number): Promise<void> {
    if (totalBytes(sources) > 0) await this.writev(sources, position);
  }

  async flush(): Promise<void> {}

  async close(): Promise<void> {}
}

/** Every write and every flush of a recorded workload as the moment of a power cut. */
class CrashPoints {
  states = 0;
  repeated = 0;
  readonly #recording: Recording;
  readonly #options: ExhaustiveOptions;
  readonly #disks: ReplayedDisk[];
  readonly #expected: CrashExpectation;
  /** Of the largest LU. */
  readonly #bytesMax: number;
  readonly #rowBlocks: readonly number[];
  /** Writes and flushes that have ended: the crash is between this one and the next. */
  #point = 0;
  /** Something that survives every crash has changed since the last state was checked. */
  #changed = true;

  constructor(recording: Recording, options: ExhaustiveOptions) {
    this.#recording = recording;
    this.#options = options;
    this.#disks = recording.start.map((platter) => new ReplayedDisk(platter.fork()));
    this.#expected = new CrashExpectation(recording.units.map(({ blockCount }) => blockCount));
    this.#rowBlocks = rowBlocksOf(recording);
    this.#bytesMax = Math.max(...recording.units.map(({ blockCount }) => blockCount)) * BLOCK_BYTES;
  }

  get points(): number {
    return this.#point;
  }

  async run(): Promise<CrashFailure | null> {
    for (const event of this.#recording.events) {
      this.#note(event.changes);
      const disk = this.#disks[event.disk]!;
      if (event.kind === "asked") {
        disk.asked(event);
        continue;
      }
      // All that followed from the write or flush before this one has happened: requests, and answers to whoever waited.
      const failure = await this.#crashHere();
      if (failure !== null) return failure;
      this.#point++;
      if (disk.ended(event)) this.#changed = true;
    }
    this.#note(this.#recording.last);
    return await this.#crashHere();
  }

  #note(changes: readonly SureChange[]): void {
    for (const { unit, block, version } of changes) {
      this.#expected.change(unit, block, version);
      if (version >= 0) this.#changed = true;
    }
  }

  async #crashHere(): Promise<CrashFailure | null> {
    const { part, of, point, statesMax } = this.#options;
    if (point !== undefined ? point !== this.#point : this.#point % of !== part) return null;
    if (statesMax !== undefined && this.states >= statesMax) return null;
    for (const crash of EXHAUSTIVE_CRASHES) {
      if (this.#isRepeated(crash)) continue;
      const failure = await this.#crash(crash);
      if (failure !== null) return failure;
    }
    this.#changed = false;
    return null;
  }

  /** Without anything unflushed the three kinds are one; and what is lost leaves what the last point has left. */
  #isRepeated(crash: Crash): boolean {
    const unflushed = this.#disks.some((disk) => disk.unflushedCount > 0);
    const same = crash === "lost" ? !this.#changed : !unflushed;
    if (same) this.repeated += MEMBERS + 1;
    return same;
  }

  async #crash(crash: Crash): Promise<CrashFailure | null> {
    const random = new SeededRandom(this.#options.seed * 65_537 + this.#point * 3 + CRASHES.indexOf(crash));
    const images = this.#disks.map((disk) => disk.crashed(crash, random));
    try {
      for (let missing = -1; missing < MEMBERS; missing++) {
        const what = await this.#recover(images, missing);
        if (what !== null) return { point: this.#point, crash, missing, what };
      }
      return null;
    } finally {
      for (const image of images) image.release();
    }
  }

  /** @returns what is wrong */
  async #recover(images: readonly Platter[], missing: number): Promise<string | null> {
    const overlays = images.map((image) => image.fork());
    try {
      const group = await this.#assemble(overlays, missing);
      // In the arena, where the parity kernel reaches it, as a server's buffers are.
      const all = arena.take(this.#bytesMax, "all of an LU");
      for (const [i, { number }] of this.#recording.units.entries()) await this.#checkUnit(group, i, number, all);
      if (missing < 0) {
        // What was pending goes to its place.
        await group.close();
        this.#checkParity(overlays);
      }
      this.states++;
      return null;
    } catch (error) {
      return (error as Error).message;
    } finally {
      for (const overlay of overlays) overlay.release();
    }
  }

  #assemble(overlays: readonly Platter[], missing: number): Promise<Group> {
    const { disks, uuid } = this.#recording.group;
    const found = disks.map(({ uuid: disk, number, sizeBytes }, i): LabelledDisk => {
      return { device: new InstantDevice(`disk${i}`, sizeBytes, overlays[i]!), uuid: disk, number, groupUuid: uuid };
    });
    arena.begin();
    return assembleGroup(
      found.filter((_, i) => i !== missing),
      {
        ...{ arena, clock: new StoppedClock(), random: new SeededRandom(1), log: SILENT },
        ...{ buffers: TIGHT_BUFFERS, without: withoutOf(this.#options.broken) },
      },
    );
  }

  async #checkUnit(group: Group, unit: number, number: number, buffer: Buffer): Promise<void> {
    const lu = group.openLu(number);
    const all = buffer.subarray(0, lu.sizeBytes);
    await lu.read(all, 0 as LuByte);
    this.#expected.check(unit, all);
  }

  /** All members agree in every stripe: so whatever a block is, it is the same without any one of them. */
  #checkParity(overlays: readonly Platter[]): void {
    for (const index of this.#rowBlocks) {
      const blocks = overlays.map((overlay) => overlay.block(index)).filter((block) => block !== null);
      if (!isZeroSum(blocks)) throw new Error(`parity does not agree at block ${index} of the members`);
    }
  }
}

function isZeroSum(blocks: readonly Buffer[]): boolean {
  const words = blocks.map((block) => new Int32Array(block.buffer, block.byteOffset, BLOCK_BYTES / 4));
  for (let i = 0; i < BLOCK_BYTES / 4; i++) {
    let sum = 0;
    for (const word of words) sum ^= word[i]!;
    if (sum !== 0) return false;
  }
  return true;
}

/** Blocks of members that the recording writes in place: all LUs are RAID-5 over all members, so parity must hold in each. */
function rowBlocksOf({ events }: Recording): number[] {
  const indexes = new Set<number>();
  for (const { position, bytes } of events) {
    for (let at = position; at < position + bytes.length; at += BLOCK_BYTES) {
      if (at >= ROWS_START && at < ROWS_END) indexes.add(at / BLOCK_BYTES);
    }
  }
  return [...indexes];
}

export async function exhaust(options: ExhaustiveOptions): Promise<ExhaustiveResult> {
  const recording = await record(options.seed, options.operations, withoutOf(options.broken));
  const points = new CrashPoints(recording, options);
  const failure = await points.run();
  return { points: points.points, states: points.states, repeated: points.repeated, failure };
}
