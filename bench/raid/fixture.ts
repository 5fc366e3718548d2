/** A group over plain files, opened as the daemon opens it. */
import { mkdtempSync, truncateSync, writeFileSync } from "node:fs";
import path from "node:path";
import { openFileDevice } from "../../src/device/file-device.js";
import { SystemClock } from "../../src/lib/clock.js";
import { SILENT } from "../../src/lib/log.js";
import { SeededRandom } from "../../src/lib/prng.js";
import { GIB, type LuByte, MIB } from "../../src/lib/units.js";
import {
  assembleGroup,
  createGroup,
  type GroupOptions,
  initDisk,
  labelledDisk,
  readLabel,
} from "../../src/lu/group.js";
import type { LogicalUnit } from "../../src/lu/lu.js";
import { Arena } from "../../src/parity/arena.js";
import type { Group, LabelledDisk, Without } from "../../src/raid/contract.js";
import { planShape, rowsStart } from "../../src/raid/layout.js";
import { CHUNK_BYTES_DEFAULT } from "../../src/raid/limits.js";
import { type Bench, inFlight } from "./bench.js";

export const DISKS = 5;
/** A client's request when it reads or writes one after the other, and how many it keeps in flight. */
export const REQUEST_BYTES = MIB;
export const DEPTH = 8;
/** Of each disk, a sparse file: small disks have a small journal, and nobody uses such. */
const DISK_BYTES = 4 * GIB;

export class Fixture {
  readonly paths: readonly string[];
  /** One buffer for each request in flight, in the arena. */
  buffers: readonly Buffer[] = [];
  #group: Group | undefined;

  private constructor(
    readonly folder: string,
    readonly luBytes: number,
    readonly without: Without | undefined,
  ) {
    this.paths = Array.from({ length: DISKS }, (_, index) => this.newDisk(`disk-${index}`));
  }

  /** A group with one RAID-5 LU, all of it written once: every later write finds its blocks allocated. */
  static async make(bench: Bench, without?: Without): Promise<Fixture> {
    const fixture = new Fixture(mkdtempSync(path.join(bench.folder, "group-")), bench.luBytes, without);
    bench.undo.add("close a group", () => fixture.close());
    const disks = await Promise.all(fixture.paths.map((file, index) => fixture.unusedDisk(file, index + 1)));
    const group = await createGroup(disks, { ...fixture.#options(), name: "bench" });
    fixture.#group = group;
    await group.createLu("data", 5, bench.luBytes);
    await fixture.fill();
    return fixture;
  }

  #options(): GroupOptions {
    const arena = new Arena({ byteCount: 128 * MIB });
    this.buffers = Array.from({ length: DEPTH }, () => arena.take(REQUEST_BYTES, "bench").fill(0x5a));
    const { without } = this;
    return { arena, without, clock: new SystemClock(), random: new SeededRandom(1), log: SILENT };
  }

  newDisk(name: string): string {
    const file = path.join(this.folder, name);
    writeFileSync(file, "");
    truncateSync(file, DISK_BYTES);
    return file;
  }

  async unusedDisk(file: string, number: number): Promise<LabelledDisk> {
    const device = await openFileDevice(file, { mode: "read-write-exclusive", log: SILENT });
    return initDisk(device, { number, force: true });
  }

  get group(): Group {
    if (this.#group === undefined) throw new Error("the group is closed");
    return this.#group;
  }

  get lu(): LogicalUnit {
    return this.group.openLu(1);
  }

  /** Close, and open again with only some of the disks. */
  async reopen(paths: readonly string[]): Promise<void> {
    await this.close();
    const disks = await Promise.all(paths.map(memberDisk));
    this.#group = await assembleGroup(disks, this.#options());
  }

  async close(): Promise<void> {
    const group = this.#group;
    this.#group = undefined;
    await group?.close();
  }

  /** The whole LU, from its start. */
  async fill(): Promise<void> {
    await inFlight(this.luBytes / REQUEST_BYTES, DEPTH, (index, lane) =>
      this.lu.write(this.buffers[lane]!, (index * REQUEST_BYTES) as LuByte),
    );
    await this.lu.flush();
  }

  async readAll(): Promise<void> {
    await inFlight(this.luBytes / REQUEST_BYTES, DEPTH, (index, lane) =>
      this.lu.read(this.buffers[lane]!, (index * REQUEST_BYTES) as LuByte),
    );
  }

  /** Where the LU lies on each member: for plain I/O on the same places of the same files. */
  get rows(): { start: number; byteCount: number } {
    const start = rowsStart(planShape(DISK_BYTES, DISKS, CHUNK_BYTES_DEFAULT));
    return { start, byteCount: this.luBytes / (DISKS - 1) };
  }
}

async function memberDisk(file: string): Promise<LabelledDisk> {
  const device = await openFileDevice(file, { mode: "read-write-exclusive", log: SILENT });
  const label = await readLabel(device);
  if (label === null) throw new Error(`${file} carries no label`);
  return labelledDisk(device, label);
}
