import { StorageError } from "../lib/errors.js";
import type { Random } from "../lib/prng.js";
import { formatSize } from "../lib/size.js";
import type { LuDescription, NewLu } from "./contract.js";
import { newUuid } from "./fields.js";
import type { RowRun } from "./geometry.js";
import type { LabelLu } from "./label.js";
import type { LabelKeeper } from "./label-keeper.js";
import { LUS_MAX, NAME_BYTES_MAX, ROW_RUNS_MAX } from "./limits.js";
import { appendRows, countRows, firstRows, freeRuns, takeRows } from "./rows.js";

/** Which rows belong to which LU; kept on the labels. */
export class LuTable {
  constructor(
    private readonly labels: LabelKeeper,
    private readonly memberCount: () => number,
    private readonly random: Random,
  ) {}

  get #name(): string {
    return this.labels.record.name;
  }

  get lus(): readonly LabelLu[] {
    return this.labels.lus;
  }

  free(lus = this.lus): RowRun[] {
    const taken = lus.flatMap((lu) => lu.runs);
    return freeRuns(taken, this.labels.record.shape.rowCount);
  }

  /** What a row of an LU holds, redundancy taken off. */
  bytesPerRow(level: 1 | 5, width: number): number {
    const { rowBytes } = this.labels.record.shape;
    if (level === 5) return (width - 1) * rowBytes;
    return width === 2 ? rowBytes : (width / 2) * rowBytes;
  }

  /** @throws StorageError ENOENT */
  find(number: number): LabelLu {
    const lu = this.lus.find((one) => one.number === number);
    if (lu === undefined) throw new StorageError("ENOENT", `group "${this.#name}" has no LU ${number}`, { number });
    return lu;
  }

  describe({ runs: _, moving: __, ...lu }: LabelLu): LuDescription {
    return { ...lu, groupUuid: this.labels.record.uuid };
  }

  /** @throws as Group.createLu */
  async create(name: string, level: 1 | 5, sizeBytes: number | "max"): Promise<LuDescription> {
    const lu = { ...this.#planned(this.lus, { name, level, sizeBytes }), uuid: newUuid(this.random) };
    await this.labels.change({ lus: [...this.lus, lu] });
    return this.describe(lu);
  }

  /** Could these be made, one after the other? Nothing is. @throws as Group.createLu */
  check(wanted: readonly NewLu[]): void {
    const lus = [...this.lus];
    for (const one of wanted) lus.push(this.#planned(lus, one));
  }

  #planned(lus: readonly LabelLu[], { name, level, sizeBytes }: NewLu): LabelLu {
    this.#checkNew(lus, name, level);
    const width = this.memberCount();
    const runs = this.#take(lus, level, width, sizeBytes);
    let number = 1;
    while (lus.some((one) => one.number === number)) number++;
    const size = countRows(runs) * this.bytesPerRow(level, width);
    return { number, uuid: "", name, level, sizeBytes: size, width, runs };
  }

  /** @throws StorageError ENOSPC */
  #take(lus: readonly LabelLu[], level: 1 | 5, width: number, sizeBytes: number | "max"): RowRun[] {
    const free = this.free(lus);
    const perRow = this.bytesPerRow(level, width);
    const wanted = sizeBytes === "max" ? countRows(free) : Math.ceil(sizeBytes / perRow);
    const runs = wanted > 0 ? takeRows(free, wanted) : null;
    if (runs === null) throw this.#full(level, countRows(free) * perRow);
    this.#refuseScattered(runs.length, lus);
    return runs;
  }

  #full(level: 1 | 5, freeBytes: number): StorageError {
    const text = `group "${this.#name}" has ${formatSize(freeBytes)} left for RAID-${level}`;
    return new StorageError("ENOSPC", text, { freeBytes });
  }

  /** @throws StorageError ENOSPC when the labels have no room for so many more runs */
  #refuseScattered(more: number, lus = this.lus): void {
    const runCount = lus.reduce((count, one) => count + one.runs.length, more);
    if (runCount > ROW_RUNS_MAX) throw new StorageError("ENOSPC", `the free rows of "${this.#name}" are too scattered`);
  }

  /**
   * An LU with more or fewer rows at its end, so that it holds `sizeBytes`; nothing is recorded yet. "max": all rows that are free.
   * @throws StorageError ENOSPC, EINVAL
   */
  resized(lu: LabelLu, sizeBytes: number | "max"): LabelLu {
    if (sizeBytes !== "max" && !(sizeBytes > 0)) throw new StorageError("EINVAL", `an LU cannot be ${sizeBytes} bytes`);
    const free = this.free();
    const perRow = this.bytesPerRow(lu.level, lu.width);
    const has = countRows(lu.runs);
    const wanted = sizeBytes === "max" ? has + countRows(free) : Math.ceil(sizeBytes / perRow);
    const runs = wanted <= has ? firstRows(lu.runs, wanted) : appendRows(lu.runs, free, wanted - has);
    if (runs === null) throw this.#full(lu.level, countRows(free) * perRow);
    this.#refuseScattered(runs.length - lu.runs.length);
    return { ...lu, runs, sizeBytes: wanted * perRow };
  }

  /** So much of an LU is spread anew. No member and no LU has changed, so the generation stays. */
  async moved(number: number, movedBytes: number): Promise<void> {
    const lus = this.lus.map((lu) =>
      lu.number === number && lu.moving !== undefined ? { ...lu, moving: { ...lu.moving, movedBytes } } : lu,
    );
    this.labels.record = { ...this.labels.record, lus };
    await this.labels.save();
  }

  /** Record what has changed of one LU. */
  async put(lu: LabelLu): Promise<void> {
    await this.labels.change({ lus: this.lus.map((one) => (one.number === lu.number ? lu : one)) });
  }

  #checkNew(lus: readonly LabelLu[], name: string, level: 1 | 5): void {
    const least = level === 5 ? 3 : 2;
    if ((level !== 1 && level !== 5) || this.memberCount() < least) {
      throw new StorageError(
        "EINVAL",
        `RAID-${level} needs at least ${least} members, group "${this.#name}" has ${this.memberCount()}`,
      );
    }
    checkName(name);
    if (lus.some((lu) => lu.name === name)) {
      throw new StorageError("EEXIST", `group "${this.#name}" has an LU "${name}" already`, { name });
    }
    if (lus.length >= LUS_MAX) throw new StorageError("ENOSPC", `a group holds at most ${LUS_MAX} LUs`);
  }

  async remove(number: number): Promise<void> {
    await this.labels.change({ lus: this.lus.filter((lu) => lu.number !== number) });
  }
}

/** @throws StorageError EINVAL unless it is a name of 1 to 63 bytes that people can type */
export function checkName(name: string): void {
  if (/^[A-Za-z0-9][A-Za-z0-9._-]*$/.test(name) && Buffer.byteLength(name) <= NAME_BYTES_MAX) return;
  throw new StorageError(
    "EINVAL",
    `"${name}": a name is 1 to ${NAME_BYTES_MAX} letters, digits, dots, dashes and underscores`,
  );
}
