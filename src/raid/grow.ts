import { must } from "../lib/assert.js";
import { isStorageError, messageOf, StorageError } from "../lib/errors.js";
import { Mutex } from "../lib/mutex.js";
import { formatSizes } from "../lib/size.js";
import { BLOCK_BYTES } from "../lib/units.js";
import { clearJournal } from "./clear-member.js";
import type { LabelledDisk } from "./contract.js";
import type { GroupCore } from "./core.js";
import { type LabelLu, type LabelMember, newMember } from "./label.js";
import { type Label, readLabel, writeLabel } from "./label-io.js";
import type { LabelKeeper } from "./label-keeper.js";
import { memberBytesNeeded } from "./layout.js";
import { MEMBERS_MAX } from "./limits.js";
import type { LuTable } from "./lu-table.js";
import { WindowMover } from "./move-window.js";
import type { MovingArray } from "./moving-array.js";
import type { TaskWork } from "./task.js";
import type { TaskBoard } from "./task-board.js";

/** What growth asks of the group; group.ts. */
export interface GrowthSide {
  readonly core: GroupCore;
  readonly labels: LabelKeeper;
  readonly lus: LuTable;
  readonly tasks: TaskBoard;
  /** Every member is online. */
  readonly whole: boolean;
  /** One more member, at the end, online. No label says so yet. */
  addMember(label: LabelMember, device: LabelledDisk["device"]): void;
  /** The array of an LU that is to be spread anew, as everybody is served by it from here on. */
  movingArray(number: number): MovingArray;
  /** Its array of the new width serves everybody from here on. */
  moved(number: number): void;
}

/** A group's journal must hold so many of its largest records, and of stripes that are moved through it. */
const RECORDS_MIN = 8;
const STRIPES_MIN = 2;
/** Between two tries of what cannot be read now. */
const WAIT_MS_MIN = 100;
const WAIT_MS_MAX = 5000;

/** One more disk for a group, and the work in the background that spreads its RAID-5 LUs over it. */
export class Growth {
  /** Held while rows or widths change: a window is moved, an LU is resized or deleted, a member comes in. */
  readonly changing = new Mutex();
  readonly #group: GrowthSide;

  constructor(group: GrowthSide) {
    this.#group = group;
  }

  /** @throws as Group.growDisk */
  async add(disk: LabelledDisk): Promise<void> {
    await this.changing.run(async () => {
      const { core, labels, lus } = this.#group;
      core.assertAlive();
      core.guard();
      const { sequence } = await this.#checkDisk(disk);
      this.#refuseWhileBusy();
      // What a disk of old has will not be at its place any more.
      for (const member of core.members) member.former = null;
      await this.#makeRoom(core.members.length + 1);
      // The labels must not call the group clean when the new one is on them: what happened since would not be looked at.
      await core.writable();
      const member = newMember(disk);
      labels.passSequence(sequence + 1);
      await this.#prepare(disk, sequence + 1, member);
      this.#group.addMember(member, disk.device);
      labels.record = { ...labels.record, lus: lus.lus.map((lu) => spread(lu, core.members.length)) };
      const moving = lus.lus.filter((lu) => lu.moving !== undefined).map((lu) => this.#group.movingArray(lu.number));
      await labels.save();
      await core.bitmap.rewrite();
      await core.journal.restate();
      // What began by the old arrays ends before the first byte moves.
      await Promise.all(moving.map((array) => array.old.quiesce()));
    });
    this.resume();
  }

  #refuseWhileBusy(): void {
    const { core, tasks, lus, whole } = this.#group;
    const busy = (why: string) => new StorageError("EBUSY", `group "${core.name}" cannot grow now: ${why}`);
    if (!whole) throw busy("a member is not online");
    if (core.lost.anyApart) throw busy("some blocks cannot be read (status)");
    for (const kind of ["rebuild", "grow"] as const)
      if (tasks.underWay(kind) !== null) throw busy(`a ${kind} is under way`);
    const lu = lus.lus.find((one) => one.moving !== undefined);
    if (lu !== undefined) throw busy(`LU "${lu.name}" is not spread over all members yet`);
  }

  /** @returns its label @throws StorageError EEXIST, EINVAL, ENOSPC */
  async #checkDisk({ device, number, uuid }: LabelledDisk): Promise<Label> {
    const { core } = this.#group;
    const label = await readLabel(device);
    if (label === null)
      throw new StorageError("EINVAL", `${device.name} has no label: add it as a disk first`, { number });
    if (core.members.some((member) => member.label.uuid === uuid) || this.#isTaken(label)) {
      throw new StorageError("EEXIST", `disk #${number} is in group "${label.group?.name}" already`, { number });
    }
    const needed = memberBytesNeeded(core.shape);
    if (device.sizeBytes < needed) {
      const [has, wants] = formatSizes(device.sizeBytes, needed);
      const text = `disk #${number} has ${has}, group "${core.name}" needs ${wants}`;
      throw new StorageError("ENOSPC", text, { number, neededBytes: needed, sizeBytes: device.sizeBytes });
    }
    return label;
  }

  /** A label of generation 0 is left by a growth that a crash ended before the group knew of it. */
  #isTaken({ group }: Label): boolean {
    return group !== undefined && !(group.uuid === this.#group.core.uuid && group.generation === 0);
  }

  /** Memory for stripes of one more chunk. @throws StorageError ENOSPC when the journal, the labels or the arena are too small */
  async #makeRoom(memberCount: number): Promise<void> {
    const { core } = this.#group;
    const { bands, journal, arena, shape } = core;
    const largest = RECORDS_MIN * memberCount * bands.bandBytes;
    const needed = Math.max(largest, this.#spreads() ? STRIPES_MIN * memberCount * shape.chunkBytes : 0);
    if (memberCount > MEMBERS_MAX) throw new StorageError("ENOSPC", `a group has at most ${MEMBERS_MAX} members`);
    if (journal.ringBytes < needed) {
      const [has, wants] = formatSizes(journal.ringBytes, needed);
      const text = `the journal of group "${core.name}" has ${has}`;
      throw new StorageError("ENOSPC", `${text}: ${memberCount} members need ${wants}`, { needed });
    }
    const recordBytes = memberCount * bands.bandBytes + BLOCK_BYTES;
    const take = (): Buffer => arena.take(recordBytes, "raid: journal records, grown");
    const staging = recordBytes > journal.recordBytes ? ([take(), take()] as const) : null;
    bands.growTo(2 * memberCount + 2);
    core.workspace.growTo(2 * shape.chunkBytes * (memberCount + 1));
    await core.cache.recut(memberCount, async () => {
      if (staging !== null) await journal.enlarge(staging);
    });
  }

  /** Whether an LU is to be spread anew. */
  #spreads(): boolean {
    return this.#group.lus.lus.some((lu) => lu.level === 5);
  }

  /**
   * Nothing on it may be taken for the group's; then the label that says whose it is, of generation 0: nobody believes it before another
   * member's label names this disk, and from then on it is there, whatever a crash leaves unwritten: as whole as who had the generation from which
   * members are whole at this moment.
   */
  async #prepare({ uuid, number, device }: LabelledDisk, sequence: number, member: LabelMember): Promise<void> {
    const { core, labels } = this.#group;
    await clearJournal(core, device);
    const { sizeBytes } = device;
    for (let wholeFrom = -1; wholeFrom !== labels.record.lineage.wholeFrom; ) {
      ({ wholeFrom } = labels.record.lineage);
      const members = [...labels.record.members, member];
      const group = { ...labels.record, generation: 0, members };
      await writeLabel(device, { uuid, number, sequence, sizeBytes, slot: members.length - 1, group });
    }
  }

  /** Go on with what the labels say is to be spread anew. */
  resume(): void {
    const { lus, tasks } = this.#group;
    if (!lus.lus.some((lu) => lu.moving !== undefined) || tasks.underWay("grow") !== null) return;
    tasks.start(new GrowWork(this.#group, this.changing));
  }
}

function spread(lu: LabelLu, newWidth: number): LabelLu {
  return lu.level === 5 ? { ...lu, moving: { newWidth, movedBytes: 0 } } : lu;
}

/** Spreads one LU after the other over more members. Bytes are counted in the LUs' rows on one member. */
class GrowWork implements TaskWork {
  readonly kind = "grow";
  readonly disk: number | undefined;
  readonly found = 0;
  readonly healed = 0;
  #waitMs = 0;
  #waitsFor = "";
  /** Of LUs that were moved in this life. */
  #finishedBytes = 0;
  #mover: { readonly number: number; readonly window: WindowMover } | null = null;

  constructor(
    private readonly group: GrowthSide,
    private readonly changing: Mutex,
  ) {
    const newWidth = Math.max(...this.#waiting().map((lu) => must(lu.moving, "it is to be moved").newWidth));
    this.disk = group.core.members[newWidth - 1]?.label.number;
  }

  #waiting(): LabelLu[] {
    return this.group.lus.lus.filter((lu) => lu.moving !== undefined);
  }

  get totalBytes(): number {
    return this.#waiting().reduce((sum, lu) => sum + this.#rowBytes(lu), this.#finishedBytes);
  }

  get doneBytes(): number {
    // A stripe is one chunk of each member.
    const moved = (movedBytes: number, newWidth: number) => movedBytes / (newWidth - 1);
    return this.#waiting().reduce(
      (sum, { moving }) => sum + (moving === undefined ? 0 : moved(moving.movedBytes, moving.newWidth)),
      this.#finishedBytes,
    );
  }

  #rowBytes({ runs }: LabelLu): number {
    return runs.reduce((count, run) => count + run.count, 0) * this.group.core.shape.rowBytes;
  }

  async step(): Promise<boolean> {
    try {
      const more = await this.changing.run(() => this.#step());
      this.#waitMs = 0;
      return more;
    } catch (error) {
      // Nothing has been moved: it is tried again, and what cannot be read is not given up for that.
      if (!isStorageError(error, "EIO") || error.detail.unread !== true) throw error;
      this.#waitMs = Math.min(Math.max(2 * this.#waitMs, WAIT_MS_MIN), WAIT_MS_MAX);
      this.#waitsFor = messageOf(error);
      return true;
    }
  }

  get restMs(): number {
    return this.#waitMs;
  }

  get waitsFor(): string | undefined {
    return this.#waitMs === 0 ? undefined : this.#waitsFor;
  }

  async #step(): Promise<boolean> {
    const lu = this.#waiting()[0];
    if (lu === undefined) return false;
    const mover = this.#moverOf(lu.number);
    if (mover.complete) await this.#finishLu(lu);
    else await mover.step();
    return true;
  }

  #moverOf(number: number): WindowMover {
    if (this.#mover?.number !== number) {
      const { core, lus } = this.group;
      const save = (movedBytes: number) => lus.moved(number, movedBytes);
      this.#mover = { number, window: new WindowMover(core, this.group.movingArray(number), save) };
    }
    return this.#mover.window;
  }

  async #finishLu(lu: LabelLu): Promise<void> {
    const array = this.group.movingArray(lu.number);
    const { moving, ...rest } = lu;
    await this.group.lus.put({
      ...rest,
      width: must(moving, "it was moved").newWidth,
      sizeBytes: array.next.sizeBytes,
    });
    this.group.moved(lu.number);
    this.#finishedBytes += this.#rowBytes(lu);
    this.#mover = null;
  }

  async finish(whole: boolean): Promise<void> {
    const { core } = this.group;
    core.log.info({ group: core.name, whole }, "growth ended");
  }
}
