import type { BlockDevice } from "../device/device.js";
import { must } from "../lib/assert.js";
import { messageOf, StorageError } from "../lib/errors.js";
import { clearJournal } from "./clear-member.js";
import type { LabelledDisk } from "./contract.js";
import type { GroupCore } from "./core.js";
import { Former, isAsLeft } from "./former.js";
import type { Growth } from "./grow.js";
import { type LabelMember, newMember } from "./label.js";
import { readLabel } from "./label-io.js";
import type { LabelKeeper } from "./label-keeper.js";
import { rowsStart } from "./layout.js";
import type { Member } from "./member.js";
import { type LuRows, RebuildWork } from "./rebuild.js";
import type { Roster } from "./roster.js";
import type { TaskBoard } from "./task-board.js";

/** Of each member, in one step of a rebuild: some tens of milliseconds. */
const REBUILD_STEP_BYTES = 4 * 1024 * 1024;

/** What membership asks of the group; group.ts. */
export interface MembershipSide {
  readonly core: GroupCore;
  readonly roster: Roster;
  readonly labels: LabelKeeper;
  readonly tasks: TaskBoard;
  readonly growth: Growth;
  /** Rows of LUs in [from, to) of the row space. */
  rowsIn(from: number, to: number): readonly LuRows[];
}

/** Members leave and come in while the group serves, and what one that came in lacks is written on it in the background. */
export class Membership {
  readonly #group: MembershipSide;
  #rebuild: RebuildWork | null = null;

  constructor(group: MembershipSide) {
    this.#group = group;
  }

  /** Resolves when the labels of the others say so. @throws StorageError as Roster.takeOut */
  async fail(number: number): Promise<void> {
    this.#group.core.assertAlive();
    this.#group.roster.takeOut(number);
    await this.#group.labels.save();
  }

  /** As Group.probe. */
  async probe(number?: number): Promise<void> {
    const { roster, core } = this.#group;
    await Promise.all([this.judgeAgain(), roster.probe(rowsStart(core.shape), number)]);
  }

  /** What was taken for a failed disk may have been a path: then the labels do not call it failed any more when this resolves. Never rejects. */
  async judgeAgain(): Promise<void> {
    const { core, roster, labels } = this.#group;
    const acquitted = roster.judgeAgain();
    if (acquitted.length === 0) return;
    for (const { reason, label } of acquitted) core.emit("member-acquitted", { reason }, label.number);
    await labels.save().catch((failure: unknown) => {
      core.log.error({ group: core.name, error: messageOf(failure) }, "labels could not be written");
    });
  }

  /** @throws StorageError as Group.replaceDisk */
  async replace(number: number, disk: LabelledDisk): Promise<void> {
    const { core, roster, growth } = this.#group;
    await growth.changing.run(async () => {
      core.assertAlive();
      const old = roster.placeFor(number, disk);
      const { slot } = old;
      const sequence = (await readLabel(disk.device))?.sequence ?? 0;
      const { rowBytes, rowCount } = core.shape;
      const { device } = disk;
      const label: LabelMember = { ...newMember(disk), state: "rebuilding", unbuiltBytes: rowBytes * rowCount };
      await this.#admit(slot, device, sequence, label, (successor) => this.#succeed(old, successor));
      core.emit("member-replaced", { replaces: number }, disk.number);
      this.resume();
    });
  }

  /** @throws StorageError as Group.checkReplacement */
  checkReplacement(number: number, sizeBytes: number): void {
    this.#group.core.assertAlive();
    this.#group.roster.placeOf(number);
    this.#group.roster.checkSize("the other disk", sizeBytes);
  }

  /** What the old disk holds is a source from here on: at once while it is in use, otherwise when it is lent. */
  #succeed(old: Member, successor: Member): void {
    const { core } = this.#group;
    const { uuid, number, unbuiltBytes } = old.label;
    const whole = old.online;
    const fillers = core.lost.places().filter(({ slot, kind }) => slot === old.slot && kind !== "unread");
    successor.former = new Former({
      ...{ uuid, number, device: whole ? old.device : null },
      labels: () => (unbuiltBytes === 0 || whole ? old.lastLabels : []),
      stale: new Set(whole ? [] : core.bitmap.marked()),
      ...{ builtRegions: 0, doubtful: new Set(), fillers: new Set(fillers.map(({ position }) => position)) },
      ...{ rowsStart: rowsStart(core.shape), regionBytes: core.shape.regionBytes },
    });
  }

  /**
   * A replacement that an earlier life began: the old disk is a source still. What was written since it left is in marked regions, or in such as the
   * labels call built. What was given up since may have changed its column without a mark. Called before this life writes anything.
   * @param device  null: it is not here
   */
  recall(successor: Member, device: BlockDevice | null): void {
    const { core } = this.#group;
    const { former, unbuiltBytes } = successor.label;
    if (former === null) return;
    const { rowBytes, rowCount, regionBytes } = core.shape;
    const doubtful = new Set(core.lost.places().map(({ position }) => position));
    successor.former = new Former({
      ...{ uuid: former.uuid, number: former.number, labels: () => former.labels, device },
      stale: new Set(core.without.source === true ? [] : core.bitmap.marked()),
      builtRegions: Math.floor((rowBytes * rowCount - unbuiltBytes) / regionBytes),
      ...{ doubtful, fillers: doubtful, rowsStart: rowsStart(core.shape), regionBytes },
    });
    if (device !== null) core.emit("disk-lent", { path: device.name }, former.number);
  }

  /** @throws StorageError as Group.lendDisk */
  async lend({ uuid, number, device, groupUuid }: LabelledDisk): Promise<void> {
    const { core, roster, growth } = this.#group;
    await growth.changing.run(async () => {
      core.assertAlive();
      const member = roster.members.find(({ former }) => former?.uuid === uuid);
      const former = member?.former ?? null;
      if (member === undefined || former === null || former.device !== null || !member.takesWrites) {
        throw new StorageError("EINVAL", `nothing is wanted of disk #${number} by group "${core.name}"`);
      }
      const label = await readLabel(device);
      if (label === null || label.group?.uuid !== groupUuid || !isAsLeft(former.labels(), label)) {
        throw new StorageError("EINVAL", `disk #${number} is not as it was when it was last in use`);
      }
      former.device = device;
      core.emit("disk-lent", { path: device.name }, number);
      this.#rebuild?.hurry();
      core.pace.hurry();
      await core.losses.reexamine();
      if (member.online) roster.releaseFormer(member);
    });
  }

  /** @throws StorageError as Group.returnDisk */
  async return(disk: LabelledDisk, force: boolean): Promise<void> {
    const { core, roster, growth } = this.#group;
    await growth.changing.run(async () => {
      core.assertAlive();
      const { slot, label, sequence } = await roster.readmit(disk, force);
      await this.#admit(slot, disk.device, sequence, label);
      core.emit("member-returned", { unbuiltBytes: label.unbuiltBytes }, disk.number);
      this.resume();
    });
  }

  /** One that was left out because it was slow is well. @throws StorageError as Roster.readmit; it stays out then */
  takeBack({ label, device }: Member): Promise<void> {
    const { uuid, number } = label;
    const { core } = this.#group;
    return this.return({ uuid, number, device: must(device, "it kept its device"), groupUuid: core.uuid }, false);
  }

  /** From here on it gets every write. What else the group keeps on a member is written on it, then its label. */
  async #admit(
    slot: number,
    device: BlockDevice,
    sequence: number,
    label: LabelMember,
    succeed: (successor: Member) => void = () => {},
  ): Promise<void> {
    const { core, roster, labels } = this.#group;
    core.guard();
    await core.writable();
    labels.passSequence(sequence);
    const { rowBytes, rowCount } = core.shape;
    // It is not known to come from where we come from.
    if (label.unbuiltBytes === rowBytes * rowCount) await clearJournal(core, device);
    // In one go: whatever is written on it is known to be newer than on the disk that was here before.
    succeed(roster.fill(slot, label, device));
    await core.bitmap.rewrite();
    await core.journal.restate();
    await labels.save();
    // What was journaled while nobody took its parity has none. In place, its regions are marked, and the rebuild finds them. What has to
    // wait for a block that cannot be read now goes there later, with its parity.
    await core.cache.empty();
  }

  /** Begin, or go on with, the rebuild of the member that wants it. */
  resume(): void {
    const { core, roster, labels, tasks, rowsIn } = this.#group;
    const member = roster.rebuilding;
    if (member === null) return;
    const { regionBytes, rowBytes, rowCount } = core.shape;
    this.#rebuild = new RebuildWork({
      ...{ member, regionBytes, spaceBytes: rowBytes * rowCount, stepBytes: REBUILD_STEP_BYTES, rowsIn },
      ...{ unitBytes: 2 * core.shape.chunkBytes, rowsStart: rowsStart(core.shape) },
      waits: (place) => this.#waits(member, place),
      marked: core.bitmap.marked(),
      save: () => labels.save(),
      complete: () => this.#completed(member),
      givesUp: core.without.transient === true,
      nowMs: () => core.clock.monotonicMs(),
    });
    tasks.start(this.#rebuild);
  }

  #waits({ label }: Member, place: { readonly member: Member; readonly position: number } | null): void {
    const { core } = this.#group;
    if (place === null) core.emit("rebuild-goes-on", {}, label.number);
    else core.emit("rebuild-waits", { for: place.member.label.number, position: place.position }, label.number);
  }

  async #completed(member: Member): Promise<void> {
    const { core, roster, labels } = this.#group;
    member.state = "online";
    member.label = { ...member.label, unbuiltBytes: 0 };
    roster.releaseFormer(member);
    // With blocks lost it is still good to know what the old disk would have of them, should it turn up.
    if (core.lost.size === 0) member.former = null;
    await labels.save();
    if (!roster.degraded) core.emit("complete", {}, member.label.number);
  }

  /** What the rebuild waits for is given up, and rebuilt without. @throws StorageError EIO */
  async giveUp(): Promise<void> {
    if (this.waitingCount === 0) return;
    const { core, tasks } = this.#group;
    if (tasks.find("rebuild").state === "paused") {
      throw new StorageError("EBUSY", `the rebuild of group "${core.name}" is paused: resume it first`);
    }
    const given = this.#rebuild?.giveUp();
    core.pace.hurry();
    await given;
  }

  /** Places that the rebuild waits for. */
  get waitingCount(): number {
    const task = this.#group.tasks.underWay("rebuild");
    return task !== null && task.work === this.#rebuild ? this.#rebuild.waitingCount : 0;
  }

  /**
   * The first region that some member may lack: what a rebuild has passed, all members have. As far as the labels say so: of what they call unbuilt
   * the marks tell the next life where the old disk is not current.
   */
  wholeUpTo(): number {
    const { core, roster } = this.#group;
    if (!roster.degraded) return Number.POSITIVE_INFINITY;
    const rebuilding = roster.rebuilding;
    if (rebuilding === null || this.#rebuild?.member !== rebuilding) return 0;
    const { rowBytes, rowCount, regionBytes } = core.shape;
    const labelled = rowBytes * rowCount - rebuilding.label.unbuiltBytes;
    return Math.floor(Math.min(this.#rebuild.builtUpTo, labelled) / regionBytes);
  }
}
