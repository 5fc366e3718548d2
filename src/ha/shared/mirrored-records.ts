import { type Errno, isStorageError, messageOf, operatingError, StorageError } from "../../lib/errors.js";
import { NodeRecords, type NodeRecordsOptions, rowOf } from "./node-records.js";
import type { PartitionLu } from "./partition.js";
import { compareAge, type StoredRow } from "./record-tables.js";
import {
  type NodeRecord,
  RECORD_KINDS,
  type RecordKind,
  type RecordValue,
  type RecordWriter,
  type UpsertResult,
} from "./records.js";

/** One of the places that hold the records. */
export interface MirrorPlace {
  /** For people: `shared`, `shared-backup`. */
  readonly name: string;
  /**
   * Open the node's partition for writing.
   * @param force  of copies that were used apart take the newest: what it holds will be replaced
   * @throws StorageError when it is not there
   */
  readonly open: (force: boolean) => Promise<PartitionLu>;
}

/** lost: no commit goes there any more. mirrored: it has everything again. */
export interface MirrorEvent {
  readonly kind: "lost" | "mirrored";
  readonly place: string;
  readonly reason?: string;
}

export interface MirrorOptions extends Omit<NodeRecordsOptions, "lu" | "fresh"> {
  /** The shared LU first, then its backup, if there is one. */
  readonly places: readonly MirrorPlace[];
  readonly onEvent?: ((event: MirrorEvent) => void) | undefined;
}

/** mirrored: takes every commit. filling: takes changes, and is being given what it lacks. lost: takes nothing. */
interface Side {
  readonly place: MirrorPlace;
  state: "mirrored" | "filling" | "lost";
  records: NodeRecords | null;
  reason: string;
  /** Rows given to it while it was filled. */
  carried: number;
  /** What it had before it was lost is being let go of. */
  closing: Promise<void>;
}

/** Rows of one commit while a side is filled. */
const FILL_ROWS = 64;

/**
 * A node's records on the shared LU and its backup. A commit is durable on both before it resolves. When one side is lost the records go on
 * with the other; when its disks are back, it is filled from the good one and takes part again.
 *
 * At open the newer side counts: higher epoch, then higher sequence number. A side that lay still while the other went on is so never believed.
 */
export class MirroredNodeRecords implements RecordWriter {
  readonly #options: MirrorOptions;
  readonly #sides: readonly Side[];
  #sequence = 0;
  #dirty = false;
  #closed = false;
  #filling: Promise<void> | null = null;
  #tending = false;

  private constructor(options: MirrorOptions) {
    this.#options = options;
    this.#sides = options.places.map((place) => ({
      place,
      state: "lost",
      records: null,
      reason: "not open",
      carried: 0,
      closing: Promise.resolve(),
    }));
  }

  /** @throws StorageError ESTALE (a newer owner); else the error of the first place, when no place can be opened */
  static async open(options: MirrorOptions): Promise<MirroredNodeRecords> {
    const mirror = new MirroredNodeRecords(options);
    try {
      await mirror.#begin();
      return mirror;
    } catch (error) {
      await mirror.close().catch(() => {});
      throw error;
    }
  }

  /** For people, by place. */
  places(): { readonly name: string; readonly state: Side["state"]; readonly reason: string }[] {
    return this.#sides.map(({ place, state, reason }) => ({ name: place.name, state, reason }));
  }

  upsert<K extends RecordKind>(kind: K, key: string, value: RecordValue<K>): UpsertResult {
    const good = this.#on("mirrored").filter(({ usable }) => usable);
    const row = rowOf(key, value, this.#options.clock);
    if (good.length > 0 && good.every((records) => records.row(kind, key)?.value === row.value)) return "unchanged";
    // Asked first: what one side refuses must not stand on the other.
    if (good.length === 0 || !good.every((records) => records.accepts(kind, row))) return "refused";
    for (const records of good) records.put(kind, row);
    this.#dirty = true;
    for (const side of this.#sides) if (side.state === "filling") this.#apply(side, kind, row);
    return "written";
  }

  delete(kind: RecordKind, key: string): boolean {
    const results = this.#on("mirrored", "filling").map((records) => records.delete(kind, key));
    if (!results.includes(true)) return false;
    this.#dirty = true;
    return true;
  }

  list<K extends RecordKind>(kind: K): NodeRecord<K>[] {
    return this.#on("mirrored")[0]?.list(kind) ?? [];
  }

  async durable(): Promise<void> {
    if (this.#dirty) this.#sequence++;
    this.#dirty = false;
    const age = { epoch: this.#options.epoch, sequence: this.#sequence };
    const sides = this.#sides.filter(({ state }) => state === "mirrored");
    const results = await Promise.allSettled(sides.map(({ records }) => records?.commit(age)));
    results.forEach((result, i) => {
      const side = sides[i];
      if (result.status === "fulfilled" || side === undefined) return;
      if (!isStorageError(result.reason)) throw result.reason;
      if (codeOf(side.records) === "ESTALE") throw new StorageError("ESTALE", "the records have a newer owner");
      this.#lose(side, messageOf(side.records?.failure ?? result.reason));
    });
    if (results.some(({ status }) => status === "fulfilled")) return;
    throw new StorageError("EIO", `the records of node ${this.#options.node} can be written nowhere`);
  }

  /** Look whether a lost side is there again, and fill it. Call it every few seconds. */
  async tend(): Promise<void> {
    if (this.#tending || this.#closed || this.#on("mirrored").length === 0) return;
    this.#tending = true;
    try {
      for (const side of this.#sides) if (side.state === "lost") await this.#revive(side);
    } finally {
      this.#tending = false;
    }
  }

  /** Resolves when no side is being filled. */
  async settled(): Promise<void> {
    await this.#filling;
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    try {
      if (this.#dirty && this.#on("mirrored").length > 0) await this.durable();
    } finally {
      this.#closed = true;
      await this.#filling;
      const open = this.#sides.flatMap(({ records }) => (records === null ? [] : [records]));
      for (const side of this.#sides) side.records = null;
      const results = await Promise.allSettled(open.map((records) => records.close()));
      const failed = results.find((result) => result.status === "rejected");
      if (failed !== undefined && results.every(({ status }) => status === "rejected"))
        await Promise.reject(failed.reason);
    }
  }

  async #begin(): Promise<void> {
    const errors: unknown[] = [];
    for (const side of this.#sides) await this.#openSide(side).catch((error: unknown) => errors.push(error));
    const stale = errors.find((error) => isStorageError(error, "ESTALE") || !isStorageError(error));
    if (stale !== undefined) throw stale;
    const there = this.#sides.filter(({ records }) => records !== null);
    const [newest] = there.toSorted((a, b) => compareAge(ageOf(b), ageOf(a)));
    if (newest === undefined) throw errors[0] ?? new StorageError("EINVAL", "there is no place for records");
    this.#sequence = ageOf(newest).sequence;
    const behind = there.filter((side) => compareAge(ageOf(side), ageOf(newest)) !== 0);
    for (const side of there) side.state = behind.includes(side) ? "filling" : "mirrored";
    for (const { records, place, reason } of this.#sides) {
      if (records === null) this.#options.onEvent?.({ kind: "lost", place: place.name, reason });
    }
    // From here on whatever is behind is older under this epoch, too; only then may it be touched.
    this.#sequence++;
    await this.durable();
    for (const side of behind) this.#fill(side);
  }

  async #openSide(side: Side): Promise<void> {
    let lu: PartitionLu | undefined;
    try {
      lu = await side.place.open(false);
      side.records = await this.#openRecords(lu, false);
      side.reason = "";
    } catch (error) {
      side.reason = messageOf(error);
      await lu?.close().catch(() => {});
      throw error;
    }
  }

  async #openRecords(lu: PartitionLu, fresh: boolean): Promise<NodeRecords> {
    const { places: _, onEvent: __, ...options } = this.#options;
    return NodeRecords.open({ ...options, lu, fresh });
  }

  /** What it holds is brought up to date where it can still be opened, and begun anew where it cannot. */
  async #revive(side: Side): Promise<void> {
    let lu: PartitionLu | undefined;
    await side.closing;
    try {
      lu = await side.place.open(true);
      const there = lu;
      side.records = await this.#openRecords(there, false).catch((error: unknown) => {
        if (!isStorageError(error, "EIO")) throw error;
        return this.#openRecords(there, true);
      });
    } catch (error) {
      if (operatingError(error) === null) throw error;
      side.reason = messageOf(error);
      await lu?.close().catch(() => {});
      return;
    }
    side.state = "filling";
    side.reason = "";
    this.#fill(side);
  }

  #fill(side: Side): void {
    this.#filling = Promise.all([this.#filling, this.#fillAll(side)])
      .then(() => {})
      .catch((error: unknown) => {
        if (operatingError(error) === null) throw error;
        this.#lose(side, messageOf(error));
      });
  }

  /**
   * Changes made meanwhile go to both, so that only the rows of this moment have to be carried over. Until all are there the side's own counter
   * stands at 0: half filled it is never taken for the newer one.
   */
  async #fillAll(side: Side): Promise<void> {
    const { epoch } = this.#options;
    await side.records?.commit({ epoch, sequence: 0 });
    for (const [kind, key] of this.#keysOf(side)) {
      this.#carryOver(side, kind, key);
      if (++side.carried % FILL_ROWS === 0) await side.records?.commit({ epoch, sequence: 0 });
      if (this.#closed || side.state !== "filling") return;
    }
    for (let sequence = -1; sequence !== this.#sequence; ) {
      sequence = this.#sequence;
      await side.records?.commit({ epoch, sequence });
    }
    if (this.#closed || side.state !== "filling") return;
    side.state = "mirrored";
    this.#options.onEvent?.({ kind: "mirrored", place: side.place.name });
  }

  /** What either side has; first what only this one has, which makes room. */
  #keysOf(side: Side): [RecordKind, string][] {
    const good = this.#good();
    const own = RECORD_KINDS.flatMap((kind) => {
      const rows = side.records?.rows(kind) ?? [];
      return rows.flatMap(({ key }): [RecordKind, string][] =>
        good.row(kind, key) === undefined ? [[kind, key]] : [],
      );
    });
    const wanted = RECORD_KINDS.flatMap((kind) => good.rows(kind).map(({ key }): [RecordKind, string] => [kind, key]));
    return [...own, ...wanted];
  }

  #carryOver(side: Side, kind: RecordKind, key: string): void {
    const row = this.#good().row(kind, key);
    if (row === undefined) side.records?.delete(kind, key);
    else this.#apply(side, kind, row);
  }

  #apply(side: Side, kind: RecordKind, row: StoredRow): void {
    if (side.records?.put(kind, row) !== "refused") return;
    this.#lose(side, `${side.place.name} has no room for all records`);
  }

  #good(): NodeRecords {
    const [records] = this.#on("mirrored");
    if (records === undefined) throw new StorageError("EIO", "no place holds all records");
    return records;
  }

  #on(...states: readonly Side["state"][]): NodeRecords[] {
    return this.#sides.flatMap(({ state, records }) => (records !== null && states.includes(state) ? [records] : []));
  }

  /** Told once: a lost side is asked nothing any more. */
  #lose(side: Side, reason: string): void {
    if (side.state === "lost") return;
    const { records } = side;
    Object.assign(side, { state: "lost", records: null, reason });
    // Its scratch copy has the name that the next one on this partition will have.
    side.closing = records?.close().catch(() => {}) ?? side.closing;
    this.#options.onEvent?.({ kind: "lost", place: side.place.name, reason });
  }
}

function ageOf(side: Side): { epoch: number; sequence: number } {
  return side.records?.age ?? { epoch: 0, sequence: -1 };
}

/** The error that ended a page store. */
function codeOf(records: NodeRecords | null): Errno | null {
  const failure = records?.failure;
  return isStorageError(failure) ? failure.code : null;
}
