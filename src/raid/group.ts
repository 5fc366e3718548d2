import { assert, must } from "../lib/assert.js";
import type { CancelTimer, Clock } from "../lib/clock.js";
import { messageOf, StorageError } from "../lib/errors.js";
import type { Logger } from "../lib/log.js";
import type { Random } from "../lib/prng.js";
import { formatSize } from "../lib/size.js";
import { BLOCK_BYTES } from "../lib/units.js";
import type { Arena } from "../parity/arena.js";
import { LOSSES_MAX } from "./assemble.js";
import { BandPool } from "./band-pool.js";
import { WriteIntentBitmap } from "./bitmap.js";
import type { DiskDescription, GroupDescription, GroupEvent, GroupState, LuDescription } from "./contract.js";
import type { GroupCore, MutableCounters, RaidArray } from "./core.js";
import { newUuid } from "./fields.js";
import { Raid1Geometry, Raid5Geometry, RowMap } from "./geometry.js";
import { Journal } from "./journal.js";
import type { GroupRecord, LabelLu } from "./label.js";
import { writeLabel } from "./label-io.js";
import type { GroupShape } from "./layout.js";
import { rowsStart } from "./layout.js";
import { BAND_BYTES_MAX, LUS_MAX, NAME_BYTES_MAX, ROW_RUNS_MAX } from "./limits.js";
import { Member } from "./member.js";
import { Raid1Array } from "./raid1.js";
import { Raid5Array } from "./raid5.js";
import { countRows, freeRuns, takeRows } from "./rows.js";
import { StripeCache } from "./stripe-cache.js";

/** Reservations in the arena, in bytes. The defaults come to about 22 MiB for five members and 64 KiB chunks. */
export interface GroupBuffers {
  /** Partial stripes that are not yet in place. */
  readonly stripeCacheBytes: number;
  /** Parity of full stripes in flight, gathering, reconstruction. */
  readonly bandPoolBytes: number;
  /** One of the two journal records in memory. */
  readonly journalRecordBytes: number;
}

export const GROUP_BUFFERS: GroupBuffers = {
  stripeCacheBytes: 16 * 1024 * 1024,
  bandPoolBytes: 4 * 1024 * 1024,
  journalRecordBytes: 768 * 1024,
};

export interface GroupEnvironment {
  readonly arena: Arena;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  readonly onEvent?: ((event: GroupEvent) => void) | undefined;
  /** The epoch under which this node owns the group; kept in labels and journal records. */
  readonly epoch: () => number;
  /** Throws ESTALE when this node is no longer the owner. */
  readonly guard: () => void;
  readonly buffers?: Partial<GroupBuffers> | undefined;
}

/** How often write-intent bits are looked through for regions that nobody writes any more. */
const BITMAP_PERIOD_MS = 5000;

export interface MemberPlace {
  readonly member: GroupRecord["members"][number];
  readonly device: Member["device"];
  readonly state: Member["state"];
  readonly reason?: string | undefined;
}

/**
 * A set of disks cut into rows, with its labels, journal and bitmap. `array(number)` gives an LU's address range; lu/group.ts
 * makes LUs of them. Labels follow changes in one writer (`#saveLabels`), so that two changes never interleave on the disks.
 */
export class RaidGroup implements GroupCore {
  readonly members: readonly Member[];
  readonly arena: Arena;
  readonly bands: BandPool;
  readonly bitmap: WriteIntentBitmap;
  readonly journal: Journal;
  readonly cache: StripeCache;
  readonly clock: Clock;
  readonly log: Logger;
  readonly counters: MutableCounters = {
    fullStripeWrites: 0,
    partialStripeWrites: 0,
    journalRecords: 0,
    degradedReads: 0,
    healedBlocks: 0,
    flushes: 0,
  };
  /** Holds any one journal record; replay's. */
  readonly recordBuffer: Buffer;
  readonly #environment: GroupEnvironment;
  readonly #arrays = new Map<number, RaidArray>();
  #record: GroupRecord;
  #labelSequence: number;
  /** The labels on the disks say that the group is in use, and which members it does without. */
  #inUse = false;
  #failed = false;
  #closed = false;
  #savesWanted = 0;
  #saving: Promise<void> | null = null;
  #marking: Promise<void> | null = null;
  #bitmapTimer: CancelTimer | null = null;

  constructor(record: GroupRecord, sequence: number, places: readonly MemberPlace[], environment: GroupEnvironment) {
    this.#record = record;
    this.#labelSequence = sequence;
    this.#environment = environment;
    const { arena, clock, log } = environment;
    this.arena = arena;
    this.clock = clock;
    this.log = log;
    this.members = places.map((place, slot) => this.#makeMember(place, slot));
    const buffers = { ...GROUP_BUFFERS, ...environment.buffers };
    const bandBytes = Math.min(record.shape.chunkBytes, BAND_BYTES_MAX);
    const stripeBytes = bandBytes * this.members.length;
    const bandCount = Math.max(Math.floor(buffers.bandPoolBytes / bandBytes), 2 * this.members.length + 2);
    this.bands = new BandPool(arena, bandBytes, bandCount);
    const blocks = arena.take(2 * BLOCK_BYTES, "raid: bitmap and journal header");
    this.bitmap = this.#makeBitmap(blocks.subarray(0, BLOCK_BYTES));
    const recordBytes = Math.max(buffers.journalRecordBytes, stripeBytes) + BLOCK_BYTES;
    const staging = [
      arena.take(recordBytes, "raid: journal records"),
      arena.take(recordBytes, "raid: journal records"),
    ] as const;
    this.recordBuffer = staging[0];
    this.journal = this.#makeJournal(staging, blocks.subarray(BLOCK_BYTES));
    const slotCount = Math.max(Math.floor(buffers.stripeCacheBytes / stripeBytes), 8);
    const { members, journal } = this;
    this.cache = new StripeCache({ arena, members, journal, clock, log, bandBytes, slotCount });
  }

  #makeMember(place: MemberPlace, slot: number): Member {
    const member = new Member(slot, place.member, place.device, this.#memberFailed);
    member.state = place.state;
    member.reason = place.reason;
    return member;
  }

  #makeBitmap(block: Buffer): WriteIntentBitmap {
    const { rowBytes, rowCount, regionBytes } = this.shape;
    return new WriteIntentBitmap({
      groupUuid: this.uuid,
      members: this.members,
      regionCount: Math.ceil((rowBytes * rowCount) / regionBytes),
      regionBytes,
      rowsStart: rowsStart(this.shape),
      block,
    });
  }

  #makeJournal(staging: readonly [Buffer, Buffer], block: Buffer): Journal {
    return new Journal({
      groupUuid: this.uuid,
      members: this.members,
      journalBytes: this.shape.journalBytes,
      staging,
      block,
      guard: this.#environment.guard,
      epoch: this.#environment.epoch,
      generation: () => this.#record.generation,
      writable: () => this.writable(),
      onRecord: () => void this.counters.journalRecords++,
    });
  }

  get uuid(): string {
    return this.#record.uuid;
  }

  get name(): string {
    return this.#record.name;
  }

  get shape(): GroupShape {
    return this.#record.shape;
  }

  get degraded(): boolean {
    return this.members.some((member) => !member.online);
  }

  /** The labels' LU table. */
  get lus(): readonly LabelLu[] {
    return this.#record.lus;
  }

  get wasClean(): boolean {
    return this.#record.clean;
  }

  // What the arrays ask

  guard(): void {
    this.#environment.guard();
  }

  assertAlive(): void {
    if (this.#failed)
      throw new StorageError("EIO", `group "${this.name}" has failed: too many members lost`, { group: this.uuid });
    if (this.#closed) throw new StorageError("ENXIO", `group "${this.name}" is closed`, { group: this.uuid });
  }

  writable(): Promise<void> | null {
    if (this.#inUse) return null;
    this.#marking ??= this.#markInUse().finally(() => {
      this.#marking = null;
    });
    return this.#marking;
  }

  /** The first write of this life: the labels stop being clean, and members that are away are written off as of now. */
  async #markInUse(): Promise<void> {
    this.assertAlive();
    this.guard();
    this.#record = { ...this.#record, clean: false };
    await this.#saveLabels();
    this.#inUse = true;
    this.#armBitmapTimer();
  }

  labelsSettled(): Promise<void> | null {
    return this.#saving;
  }

  emit(kind: GroupEvent["kind"], detail: Readonly<Record<string, unknown>>, disk?: number): void {
    const event = { kind, group: this.name, detail };
    this.#environment.onEvent?.(disk === undefined ? event : { ...event, disk });
  }

  // Members and labels

  readonly #memberFailed = (member: Member, error: unknown): void => {
    if (this.#closed) return;
    member.state = "failed";
    member.reason = messageOf(error);
    const disk = member.label.number;
    this.log.error({ group: this.name, disk, error: member.reason }, "a member failed");
    this.emit("member-failed", { reason: member.reason }, disk);
    const lost = this.members.filter((one) => !one.online).length;
    if (lost > LOSSES_MAX) {
      // The labels stay as they are: when the disks come back, they still tell who holds everything that was acknowledged.
      this.#failed = true;
      this.emit("failed", { lost });
      return;
    }
    this.emit("degraded", { lost });
    this.#saveLabels().catch((failure: unknown) => {
      this.log.error({ group: this.name, error: messageOf(failure) }, "labels could not be written");
    });
  };

  /** Write the record as it is now to every online member; resolves when it, or a later one, is durable there. */
  #saveLabels(): Promise<void> {
    this.#savesWanted++;
    this.#saving ??= this.#saveLoop().finally(() => {
      this.#saving = null;
    });
    return this.#saving;
  }

  async #saveLoop(): Promise<void> {
    for (let done = 0; done !== this.#savesWanted; ) {
      done = this.#savesWanted;
      this.guard();
      this.#refreshRecord();
      const sequence = ++this.#labelSequence;
      const group = this.#record;
      await Promise.all(this.members.map((member) => this.#saveLabel(member, sequence, group)));
    }
    this.assertAlive();
  }

  /** Members and their states as they are now; a change raises the generation. */
  #refreshRecord(): void {
    const members = this.members.map(({ label, state, device }) => ({
      ...label,
      state,
      sizeBytes: device?.sizeBytes ?? label.sizeBytes,
      path: device?.name ?? label.path,
    }));
    const changed = members.some((member, i) => member.state !== this.#record.members[i]!.state);
    const generation = this.#record.generation + (changed ? 1 : 0);
    this.#record = { ...this.#record, members, generation, ownerEpoch: this.#environment.epoch() };
  }

  async #saveLabel(member: Member, sequence: number, group: GroupRecord): Promise<void> {
    if (!member.online) return;
    const device = must(member.device, "an online member has a device");
    const { uuid, number } = member.label;
    try {
      await writeLabel(device, { uuid, number, sequence, sizeBytes: device.sizeBytes, slot: member.slot, group });
    } catch (error) {
      member.fail(error);
    }
  }

  /** Write a new group's labels, or a change of LUs. */
  async #changeRecord(change: Partial<GroupRecord>): Promise<void> {
    const before = this.#record;
    this.#record = { ...before, ...change, generation: before.generation + 1 };
    await this.#saveLabels();
  }

  /** Make a new group exist: empty bitmap, empty journal, then the labels. */
  async format(): Promise<void> {
    await this.bitmap.rewrite();
    this.#inUse = true;
    await this.journal.restart(1, 0, null);
    this.#inUse = false;
    await this.#saveLabels();
  }

  // LUs

  #rowsFor(level: 1 | 5, sizeBytes: number): number {
    const perRow = this.#bytesPerRow(level);
    return Math.ceil(sizeBytes / perRow);
  }

  #bytesPerRow(level: 1 | 5): number {
    const count = this.members.length;
    if (level === 5) return (count - 1) * this.shape.rowBytes;
    return count === 2 ? this.shape.rowBytes : (count / 2) * this.shape.rowBytes;
  }

  #free(): ReturnType<typeof freeRuns> {
    return freeRuns(
      this.lus.flatMap((lu) => lu.runs),
      this.shape.rowCount,
    );
  }

  async createLu(name: string, level: 1 | 5, sizeBytes: number | "max"): Promise<LuDescription> {
    this.assertAlive();
    this.#checkNewLu(name, level);
    const free = this.#free();
    const wanted = sizeBytes === "max" ? countRows(free) : this.#rowsFor(level, sizeBytes);
    const runs = wanted > 0 ? takeRows(free, wanted) : null;
    if (runs === null) {
      const left = countRows(free) * this.#bytesPerRow(level);
      throw new StorageError("ENOSPC", `group "${this.name}" has ${formatSize(left)} left for RAID-${level}`, {
        freeBytes: left,
      });
    }
    const runCount = this.lus.reduce((count, one) => count + one.runs.length, runs.length);
    if (runCount > ROW_RUNS_MAX) throw new StorageError("ENOSPC", `the free rows of "${this.name}" are too scattered`);
    let number = 1;
    while (this.lus.some((one) => one.number === number)) number++;
    const size = wanted * this.#bytesPerRow(level);
    const lu: LabelLu = { number, uuid: newUuid(this.#environment.random), name, level, sizeBytes: size, runs };
    await this.#changeRecord({ lus: [...this.lus, lu] });
    return this.#describeLu(lu);
  }

  #checkNewLu(name: string, level: 1 | 5): void {
    const least = level === 5 ? 3 : 2;
    if ((level !== 1 && level !== 5) || this.members.length < least) {
      throw new StorageError(
        "EINVAL",
        `RAID-${level} needs at least ${least} members, group "${this.name}" has ${this.members.length}`,
      );
    }
    checkName(name);
    if (this.lus.some((lu) => lu.name === name)) {
      throw new StorageError("EEXIST", `group "${this.name}" has an LU "${name}" already`, { name });
    }
    if (this.lus.length >= LUS_MAX) throw new StorageError("ENOSPC", `a group holds at most ${LUS_MAX} LUs`);
  }

  async deleteLu(number: number): Promise<void> {
    this.assertAlive();
    this.#findLu(number);
    // Records in the journal that name these rows must be gone before another LU gets them.
    await this.cache.drain();
    await this.cache.checkpoint();
    const array = this.#arrays.get(number);
    if (array instanceof Raid5Array) this.cache.leave(array);
    this.#arrays.delete(number);
    await this.#changeRecord({ lus: this.lus.filter((lu) => lu.number !== number) });
  }

  #findLu(number: number): LabelLu {
    const lu = this.lus.find((one) => one.number === number);
    if (lu === undefined) throw new StorageError("ENOENT", `group "${this.name}" has no LU ${number}`, { number });
    return lu;
  }

  /** The same object for every caller. @throws StorageError EIO when the group has failed, ENOENT */
  array(number: number): RaidArray {
    this.assertAlive();
    const known = this.#arrays.get(number);
    if (known !== undefined) return known;
    const lu = this.#findLu(number);
    const rows = this.rowMap(number);
    const array = this.#makeArray(lu.level, rows);
    assert(array.sizeBytes === lu.sizeBytes, "an LU is as large as its rows");
    this.#arrays.set(number, array);
    return array;
  }

  rowMap(number: number): RowMap {
    return new RowMap(this.shape, this.#findLu(number).runs);
  }

  /** Byte on every member where the rows begin. */
  get rowsStart(): number {
    return rowsStart(this.shape);
  }

  #makeArray(level: 1 | 5, rows: RowMap): RaidArray {
    const { chunkBytes } = this.shape;
    if (level === 1) return new Raid1Array(this, new Raid1Geometry(this.members.length, chunkBytes, rows));
    return new Raid5Array(this, new Raid5Geometry(this.members.length, chunkBytes, rows));
  }

  #describeLu({ runs: _, ...lu }: LabelLu): LuDescription {
    return { ...lu, groupUuid: this.uuid };
  }

  describeLu(number: number): LuDescription {
    return this.#describeLu(this.#findLu(number));
  }

  // Bitmap housekeeping

  #armBitmapTimer(): void {
    if (this.#closed) return;
    this.#bitmapTimer = this.clock.after(BITMAP_PERIOD_MS, () => {
      this.#clearIdleRegions()
        .catch((error: unknown) => this.log.warn({ group: this.name, error: messageOf(error) }, "bitmap not cleared"))
        .finally(() => this.#armBitmapTimer());
    });
  }

  /** While a member is away the bits are kept: they tell what it missed. */
  async #clearIdleRegions(): Promise<void> {
    const idle = this.bitmap.idleRegions();
    if (idle.length === 0 || this.degraded || this.#failed || this.#closed) return;
    await Promise.all(this.members.map((member) => member.flush(false)));
    if (!this.degraded) await this.bitmap.clear(idle);
  }

  // Describe, close

  get state(): GroupState {
    if (this.#failed) return "failed";
    return this.degraded ? "degraded" : "clean";
  }

  describe(): GroupDescription {
    const { uuid, name, generation, nodes } = this.#record;
    const { chunkBytes, rowBytes, rowCount } = this.shape;
    return {
      ...{
        uuid,
        name,
        state: this.state,
        chunkBytes,
        rowBytes,
        rowCount,
        rowsFree: countRows(this.#free()),
        generation,
        nodes,
      },
      disks: this.members.map((member) => this.#describeMember(member)),
      lus: this.lus.map((lu) => this.#describeLu(lu)),
    };
  }

  #describeMember({ label, device, state, reason }: Member): DiskDescription {
    const description = {
      number: label.number,
      uuid: label.uuid,
      path: device?.name ?? label.path,
      sizeBytes: device?.sizeBytes ?? label.sizeBytes,
      state,
      groupUuid: this.uuid,
      groupName: this.name,
    };
    return reason === undefined ? description : { ...description, reason };
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    try {
      if (!this.#failed) await this.#settle();
    } finally {
      this.#closed = true;
      this.#bitmapTimer?.();
      this.cache.close();
      await Promise.allSettled(this.members.map((member) => member.device?.close()));
    }
  }

  async #settle(): Promise<void> {
    await this.cache.drain();
    // Nothing was written in this life: the labels are as a clean stop leaves them.
    if (!this.#inUse) return;
    for (const array of this.#arrays.values()) await array.drain();
    await this.cache.checkpoint();
    if (!this.degraded) await this.bitmap.clear(this.bitmap.marked(), true);
    this.#record = { ...this.#record, clean: true };
    await this.#saveLabels();
    this.#inUse = false;
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
