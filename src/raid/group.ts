import { assert, must } from "../lib/assert.js";
import type { Clock } from "../lib/clock.js";
import { messageOf, StorageError } from "../lib/errors.js";
import type { Logger } from "../lib/log.js";
import { BLOCK_BYTES } from "../lib/units.js";
import type { Arena } from "../parity/arena.js";
import { AsideWatch, SLOW_DISKS } from "./aside-watch.js";
import { LOSSES_MAX } from "./assemble.js";
import { BandPool } from "./band-pool.js";
import { WriteIntentBitmap } from "./bitmap.js";
import { BitmapKeeper } from "./bitmap-keeper.js";
import type { GroupDescription, GroupEvent, GroupState, LabelledDisk, LuDescription, Without } from "./contract.js";
import type { GroupCore, MutableCounters, RaidArray } from "./core.js";
import { newUuid } from "./fields.js";
import { Raid1Geometry, Raid5Geometry, RowMap } from "./geometry.js";
import { GROUP_BUFFERS, type GroupEnvironment } from "./group-environment.js";
import { Growth } from "./grow.js";
import { Journal } from "./journal.js";
import type { GroupRecord, LabelLu } from "./label.js";
import { LabelKeeper } from "./label-keeper.js";
import type { GroupShape } from "./layout.js";
import { rowsStart } from "./layout.js";
import { BAND_BYTES_MAX } from "./limits.js";
import { Losses } from "./losses.js";
import type { LostBlocks } from "./lost-blocks.js";
import { LuTable } from "./lu-table.js";
import type { Member } from "./member.js";
import { Membership } from "./membership.js";
import { MovingArray } from "./moving-array.js";
import { Pace } from "./pace.js";
import { Raid1Array } from "./raid1.js";
import { Raid5Array } from "./raid5.js";
import type { LuRows } from "./rebuild.js";
import { ResyncWork } from "./resync-work.js";
import { Roster } from "./roster.js";
import { countRows } from "./rows.js";
import { Scrubs } from "./scrub.js";
import { SlowWatch } from "./slow-watch.js";
import { StripeCache } from "./stripe-cache.js";
import type { BackgroundTask } from "./task.js";
import { TaskBoard } from "./task-board.js";
import { UnsettledRegions } from "./unsettled.js";
import { Workspace } from "./workspace.js";

/** md gives a disk up after 20 read errors; ours are repaired one by one and fade within hours. */
const ERRORS_MAX = 32;

export interface MemberPlace {
  readonly member: GroupRecord["members"][number];
  readonly device: Member["device"];
  readonly state: Member["state"];
  readonly reason?: string | undefined;
  /** Its disk is there and slow: it is left out until it is well. */
  readonly isAside?: boolean | undefined;
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
  readonly unsettled: UnsettledRegions;
  readonly journal: Journal;
  readonly cache: StripeCache;
  readonly clock: Clock;
  readonly log: Logger;
  readonly counters: MutableCounters = {
    fullStripeWrites: 0,
    partialStripeWrites: 0,
    journalRecords: 0,
    degradedReads: 0,
    degradedStripes: 0,
    healedBlocks: 0,
    flushes: 0,
    bitmapWrites: 0,
  };
  readonly pace: Pace;
  readonly tasks: TaskBoard;
  readonly workspace: Workspace;
  readonly scrubs: Scrubs;
  readonly without: Without;
  /** Holds any one journal record; replay's. */
  readonly recordBuffer: Buffer;
  readonly #environment: GroupEnvironment;
  readonly #arrays = new Map<number, RaidArray>();
  readonly #roster: Roster;
  readonly #slow: SlowWatch;
  readonly #aside: AsideWatch;
  readonly lost: LostBlocks;
  /** Where the rows of an LU are; everybody who asks for an LU's has the same object. */
  readonly #rows = new Map<number, RowMap>();
  readonly growth: Growth;
  readonly membership: Membership;
  readonly labels: LabelKeeper;
  readonly lus: LuTable;
  /** The labels on the disks say that the group is in use, and which members it does without. */
  #inUse = false;
  #failed = false;
  #closed = false;
  #closing: Promise<void> | null = null;
  #marking: Promise<void> | null = null;
  readonly #bitmapKeeper: BitmapKeeper;
  readonly losses: Losses;

  constructor(record: GroupRecord, sequence: number, places: readonly MemberPlace[], environment: GroupEnvironment) {
    this.#environment = environment;
    this.without = environment.without ?? {};
    const { arena, clock, log } = environment;
    this.arena = arena;
    this.clock = clock;
    this.log = log;
    this.pace = new Pace(clock);
    this.tasks = new TaskBoard({ clock, pace: this.pace, onChange: (task) => this.#taskChanged(task) });
    this.#roster = this.#makeRoster(places);
    this.members = this.#roster.members;
    this.losses = new Losses(this);
    this.lost = this.losses.lost;
    this.labels = this.#makeLabels(record, sequence);
    this.lus = new LuTable(this.labels, () => this.members.length, environment.random);
    this.lost.load(record.lost);
    const buffers = { ...GROUP_BUFFERS, ...environment.buffers };
    const bandBytes = Math.min(record.shape.chunkBytes, BAND_BYTES_MAX);
    const bandCount = Math.max(Math.floor(buffers.bandPoolBytes / bandBytes), 2 * this.members.length + 2);
    this.bands = new BandPool(arena, bandBytes, bandCount);
    // Two chunks of every member and one more part: the least that a step takes.
    const stepBytes = 2 * record.shape.chunkBytes * (this.members.length + 1);
    this.workspace = new Workspace(arena, Math.max(buffers.backgroundBytes, stepBytes), bandBytes);
    const blocks = arena.take(2 * BLOCK_BYTES, "raid: bitmap and journal header");
    this.bitmap = this.#makeBitmap(blocks.subarray(0, BLOCK_BYTES));
    this.unsettled = new UnsettledRegions(this.rowsStart, record.shape.regionBytes);
    const recordBytes = Math.max(buffers.journalRecordBytes, bandBytes * this.members.length) + BLOCK_BYTES;
    const staging = [
      arena.take(recordBytes, "raid: journal records"),
      arena.take(recordBytes, "raid: journal records"),
    ] as const;
    this.recordBuffer = staging[0];
    this.journal = this.#makeJournal(staging, blocks.subarray(BLOCK_BYTES));
    this.#slow = new SlowWatch({
      ...{ members: this.members, clock, probeAt: rowsStart(record.shape) },
      onChange: (member) => this.#slownessChanged(member),
    });
    this.#aside = this.#makeAsideWatch();
    for (const member of this.members) if (member.isAside) this.#aside.beganOut(member);
    const { members, journal } = this;
    const byteCount = buffers.stripeCacheBytes;
    this.cache = new StripeCache({ arena, members, journal, clock, log, bandBytes, byteCount });
    this.growth = this.#makeGrowth();
    this.membership = new Membership({
      ...{ core: this, roster: this.#roster, labels: this.labels, tasks: this.tasks, growth: this.growth },
      rowsIn: (from, to) => this.rowsIn(from, to),
    });
    this.scrubs = new Scrubs(this);
    this.#bitmapKeeper = this.#makeBitmapKeeper();
  }

  #makeBitmapKeeper(): BitmapKeeper {
    const group = this;
    return new BitmapKeeper({
      ...{ core: this, roster: this.#roster, labels: this.labels, membership: this.membership },
      get alive() {
        return !group.#failed && !group.#closed;
      },
    });
  }

  #makeGrowth(): Growth {
    const group = this;
    const { labels, lus, tasks } = this;
    return new Growth({
      ...{ core: this, labels, lus, tasks },
      get whole() {
        return !group.degraded;
      },
      addMember: (member, device) => void this.#roster.fill(this.members.length, member, device),
      movingArray: (number) => this.#spreadArray(number),
      moved: (number) => this.#arrays.set(number, must(this.#moving(number), "it was moved").finish()),
    });
  }

  #makeRoster(places: readonly MemberPlace[]): Roster {
    const { clock, errorsMax = ERRORS_MAX, seenElsewhere } = this.#environment;
    const roster = new Roster({
      record: () => this.labels.record,
      isPathLost: () => seenElsewhere?.(this.labels.record.uuid) === true,
      hooks: {
        ...{ clock, errorsMax, expendable: () => !this.degraded },
        late: (member) => this.#slow.judge(member),
        active: () => this.#aside.active(),
        faulty: (member, position, repaired) => this.emit("read-error", { position, repaired }, member.label.number),
      },
      onOut: (member) => this.#memberOut(member),
      onReleased: (number, path) => this.emit("member-released", path === undefined ? {} : { path }, number),
      onUncovered: () => void this.#failIfLost(this.#roster.lostCount),
      onDismissed: (member) => this.emit("member-failed", { reason: member.reason }, member.label.number),
    });
    for (const [slot, { member, device, state, reason, isAside }] of places.entries()) {
      const filled = roster.fill(slot, { ...member, state }, device, reason);
      if (isAside === true) filled.leaveOut(reason ?? "");
    }
    return roster;
  }

  #makeAsideWatch(): AsideWatch {
    const { clock, random, slowDisks = SLOW_DISKS } = this.#environment;
    return new AsideWatch({
      ...{ members: this.members, clock, random, settings: slowDisks },
      mayLeave: ({ online }) => !this.#failed && !(online && this.degraded),
      leaveOut: (member, times) => {
        const reason = `answers ${Math.round(times)} times later than the other disks`;
        this.#roster.leaveOut(member, `${reason}: left out until it is well`);
      },
      takeBack: (member) => this.membership.takeBack(member),
      dismiss: (member, error) => this.#roster.dismiss(member, error),
    });
  }

  #makeLabels(record: GroupRecord, sequence: number): LabelKeeper {
    const { guard, epoch, random } = this.#environment;
    return new LabelKeeper(record, sequence, {
      ...{ members: this.members, lost: this.lost, life: newUuid(random), guard, epoch },
      assertAlive: () => this.assertAlive(),
    });
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
      off: this.without.bitmap === true,
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
      generation: () => this.labels.record.generation,
      writable: () => this.writable(),
      onRecord: () => void this.counters.journalRecords++,
    });
  }

  get uuid(): string {
    return this.labels.record.uuid;
  }

  get name(): string {
    return this.labels.record.name;
  }

  get shape(): GroupShape {
    return this.labels.record.shape;
  }

  get degraded(): boolean {
    return this.#roster.degraded;
  }

  get wasClean(): boolean {
    return this.labels.record.clean;
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
    await this.labels.change({ clean: false });
    this.#inUse = true;
    this.#bitmapKeeper.start();
  }

  labelsSettled(): Promise<void> | null {
    return this.labels.settled;
  }

  emit(kind: GroupEvent["kind"], detail: Readonly<Record<string, unknown>>, disk?: number): void {
    const event = { kind, group: this.name, detail };
    this.#environment.onEvent?.(disk === undefined ? event : { ...event, disk });
  }

  // Members and labels

  #slownessChanged({ slow, label, latency }: Member): void {
    const meanMs = Math.round(latency.meanMs);
    this.log.warn({ group: this.name, disk: label.number, slow, meanMs }, "a member's latency changed");
    this.emit(slow ? "member-slow" : "member-well", { meanMs }, label.number);
  }

  #memberOut(member: Member): void {
    if (this.#closed) return;
    const disk = member.label.number;
    this.log.error({ group: this.name, disk, state: member.state, error: member.reason }, "a member is out");
    if (member.isAside) this.emit("member-left-out", { reason: member.reason }, disk);
    else this.emit("member-failed", { reason: member.reason, gone: member.state === "missing" }, disk);
    const lost = this.#roster.lostCount;
    if (this.#failIfLost(lost)) return;
    this.emit("degraded", { lost });
    this.labels.save().catch((failure: unknown) => {
      this.log.error({ group: this.name, error: messageOf(failure) }, "labels could not be written");
    });
  }

  /** The labels stay as they are: when the disks come back, they still tell who holds everything that was acknowledged. */
  #failIfLost(lost: number): boolean {
    if (lost <= LOSSES_MAX || this.#closed) return false;
    this.#failed = true;
    this.emit("failed", { lost });
    return true;
  }

  /** Go on with what an earlier life of the group began. */
  resumeTasks(): void {
    if (this.unsettled.any) {
      const side = { core: this, degraded: () => this.degraded };
      this.losses.resync = new ResyncWork({ ...side, rowsIn: (from, to) => this.rowsIn(from, to) });
      this.tasks.start(this.losses.resync);
    }
    this.membership.resume();
    this.growth.resume();
    this.losses.arm();
  }

  /** Rows of LUs in [from, to) of the row space. */
  rowsIn(from: number, to: number): LuRows[] {
    const start = this.rowsStart;
    return this.lus.lus.flatMap(({ number }) => {
      const parts = this.rowMap(number).overlaps(start + from, start + to);
      return parts.map((part) => ({ lu: number, array: this.array(number), ...part }));
    });
  }

  /** Make a new group exist: empty bitmap, empty journal, then the labels. */
  async format(): Promise<void> {
    await this.bitmap.rewrite();
    this.#inUse = true;
    await this.journal.restart(1, 0, null);
    this.#inUse = false;
    await this.labels.save();
  }

  // LUs

  createLu(name: string, level: 1 | 5, sizeBytes: number | "max"): Promise<LuDescription> {
    this.assertAlive();
    return this.lus.create(name, level, sizeBytes);
  }

  /** Nobody uses it. */
  async deleteLu(number: number): Promise<void> {
    this.assertAlive();
    await this.growth.changing.run(async () => {
      this.lus.find(number);
      await this.#forgetRecords();
      // No step of background work is in the middle of these rows.
      await this.workspace.run(0, 0, async () => {
        const array = this.#arrays.get(number);
        if (array instanceof Raid5Array || array instanceof MovingArray) array.leave();
        this.lost.forget(number);
        this.#arrays.delete(number);
        this.#rows.delete(number);
        await this.lus.remove(number);
      });
    });
  }

  /** Records in the journal that name the rows of an LU must be gone before another one gets them. */
  async #forgetRecords(): Promise<void> {
    await this.cache.drain();
    await this.cache.checkpoint();
  }

  /**
   * @param open  somebody uses it
   * @throws as Group.resizeLu
   */
  async resizeLu(number: number, sizeBytes: number | "max", open: boolean): Promise<LuDescription> {
    this.assertAlive();
    return this.growth.changing.run(async () => {
      const lu = this.lus.find(number);
      const resized = this.lus.resized(lu, sizeBytes);
      if (resized.sizeBytes < lu.sizeBytes) {
        const busy = lu.moving === undefined ? (open ? "is in use" : null) : "is being spread over more disks";
        if (busy !== null) throw new StorageError("EBUSY", `LU "${lu.name}" ${busy}: it cannot become smaller now`);
        await this.#forgetRecords();
      }
      // No step of background work is in the middle of these rows.
      await this.workspace.run(0, 0, async () => {
        await this.lus.put(resized);
        this.lost.forget(number, resized.sizeBytes / BLOCK_BYTES);
        this.rowMap(number).replace(this.shape, resized.runs);
      });
      return this.describeLu(number);
    });
  }

  /** @throws as Group.growDisk */
  growDisk(disk: LabelledDisk): Promise<void> {
    return this.growth.add(disk);
  }

  /** The same object for every caller. @throws StorageError EIO when the group has failed, ENOENT */
  array(number: number): RaidArray {
    this.assertAlive();
    const known = this.#arrays.get(number);
    if (known !== undefined) return known;
    const lu = this.lus.find(number);
    const array = this.#makeArray(lu);
    assert(array.sizeBytes === lu.sizeBytes, "an LU is as large as its rows");
    this.#arrays.set(number, array);
    return array;
  }

  /** Of an LU that `array` was asked for. @throws StorageError ENOENT when it has been deleted since */
  arrayInUse(number: number): RaidArray {
    const array = this.#arrays.get(number);
    if (array === undefined) throw new StorageError("ENOENT", `group "${this.name}" has no LU ${number} any more`);
    return array;
  }

  rowMap(number: number): RowMap {
    let rows = this.#rows.get(number);
    if (rows === undefined) {
      rows = new RowMap(this.shape, this.lus.find(number).runs);
      this.#rows.set(number, rows);
    }
    return rows;
  }

  /** How much of the LU that owns a byte of the members is spread anew, in bytes of the LU; Infinity: all of it, 0: no LU owns it. */
  movedAt(memberByte: number): number {
    const owner = this.lus.lus.find(
      ({ number }) => this.rowMap(number).overlaps(memberByte, memberByte + 1).length > 0,
    );
    if (owner === undefined) return 0;
    return owner.moving?.movedBytes ?? Number.POSITIVE_INFINITY;
  }

  /** Byte on every member where the rows begin. */
  get rowsStart(): number {
    return rowsStart(this.shape);
  }

  #makeArray(lu: LabelLu): RaidArray {
    const { number, level, width } = lu;
    const { chunkBytes, parityRun } = this.shape;
    const rows = this.rowMap(number);
    if (level === 1) return new Raid1Array(this, number, new Raid1Geometry(width, chunkBytes, rows));
    const array = new Raid5Array(this, number, new Raid5Geometry(width, chunkBytes, parityRun, rows));
    return lu.moving === undefined ? array : this.#movingFrom(array, number, lu.moving);
  }

  /** @param array  of the old width */
  #movingFrom(array: Raid5Array, number: number, moving: NonNullable<LabelLu["moving"]>): MovingArray {
    const { chunkBytes, parityRun } = this.shape;
    const geometry = new Raid5Geometry(moving.newWidth, chunkBytes, parityRun, this.rowMap(number));
    return new MovingArray(this, array, new Raid5Array(this, number, geometry), geometry, moving.movedBytes);
  }

  #moving(number: number): MovingArray | null {
    const array = this.#arrays.get(number);
    return array instanceof MovingArray ? array : null;
  }

  /** An LU whose label says that it is to be spread anew: everybody gets this array from now on. */
  #spreadArray(number: number): MovingArray {
    const { moving } = this.lus.find(number);
    const array = this.array(number);
    if (array instanceof MovingArray) return array;
    assert(moving !== undefined && array instanceof Raid5Array, "the label says so of a RAID-5 LU");
    const spread = this.#movingFrom(array, number, moving);
    this.#arrays.set(number, spread);
    return spread;
  }

  describeLu(number: number): LuDescription {
    return this.lus.describe(this.lus.find(number));
  }

  // Background work

  #taskChanged(task: BackgroundTask): void {
    if (this.#closed) return;
    const description = task.describe();
    // Its beginning is told by "replayed", its end by "resynced".
    if (description.kind === "resync" && description.state !== "failed") return;
    if (task.underWay && description.doneBytes === 0) this.emit("task-started", { ...description }, description.disk);
    if (!task.underWay) this.emit("task-ended", { ...description }, description.disk);
  }

  // Describe, close

  get state(): GroupState {
    if (this.#failed) return "failed";
    return this.degraded || this.losses.count + this.losses.unreadable > 0 ? "degraded" : "clean";
  }

  describe(): GroupDescription {
    const { uuid, name, generation, nodes, scrub } = this.labels.record;
    const ownerEpoch = this.#environment.epoch();
    const { chunkBytes, rowBytes, rowCount } = this.shape;
    return {
      ...{
        uuid,
        name,
        state: this.state,
        chunkBytes,
        rowBytes,
        rowCount,
        rowsFree: countRows(this.lus.free()),
        generation,
        nodes,
        ownerEpoch,
        scrub,
        tasks: this.tasks.describe(),
        lostBlocks: this.losses.count,
        unreadable: this.losses.unreadable,
      },
      disks: this.members.map((member) => this.#roster.describe(member)),
      sources: this.#roster.sources,
      lus: this.lus.lus.map((lu) => this.lus.describe(lu)),
    };
  }

  /** Whoever asks waits until every device is closed. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    if (this.#closed) return;
    try {
      await this.tasks.stop("the group is being closed");
      if (!this.#failed) await this.#settle();
    } finally {
      this.abandon();
      await this.#roster.close();
    }
  }

  /** Nothing is begun any more. It could not be brought up: its disks are not its own. */
  abandon(): void {
    this.#closed = true;
    this.losses.close();
    this.#bitmapKeeper.close();
    this.cache.close();
    this.#slow.close();
    this.#aside.close();
  }

  async #settle(): Promise<void> {
    await this.membership.judgeAgain();
    // What waits is in the journal: the next life goes on with it, as after an unclean stop.
    if (!(await this.cache.drainOrLeave())) return;
    // Nothing was written in this life: the labels are as a clean stop leaves them.
    if (!this.#inUse) return;
    for (const array of this.#arrays.values()) await array.drain();
    await this.cache.checkpoint();
    await this.#bitmapKeeper.clearAll();
    // What is not settled yet is as a crash left it: the next life goes on with it.
    await this.labels.change({ clean: !this.unsettled.any });
    this.#inUse = false;
  }
}
