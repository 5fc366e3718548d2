import type { BlockDevice } from "../device/device.js";
import type { LabelledDisk } from "./contract.js";
import type { GroupCore } from "./core.js";
import type { Growth } from "./grow.js";
import type { LabelMember } from "./label.js";
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
  probe(number?: number): Promise<void> {
    const { roster, core } = this.#group;
    return roster.probe(rowsStart(core.shape), number);
  }

  /** @throws StorageError as Group.replaceDisk */
  async replace(number: number, disk: LabelledDisk): Promise<void> {
    const { core, roster, growth } = this.#group;
    await growth.changing.run(async () => {
      core.assertAlive();
      const { slot, label: old } = roster.placeFor(number, disk);
      const sequence = (await readLabel(disk.device))?.sequence ?? 0;
      const { rowBytes, rowCount } = core.shape;
      const { uuid, device } = disk;
      await this.#admit(slot, device, sequence, {
        ...{ uuid, number: disk.number, state: "rebuilding", unbuiltBytes: rowBytes * rowCount },
        ...{ sizeBytes: device.sizeBytes, path: device.name },
      });
      core.emit("member-replaced", { replaces: old.number }, disk.number);
      this.resume();
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

  /** From here on it gets every write. What else the group keeps on a member is written on it, then its label. */
  async #admit(slot: number, device: BlockDevice, sequence: number, label: LabelMember): Promise<void> {
    const { core, roster, labels } = this.#group;
    core.guard();
    await core.writable();
    labels.passSequence(sequence);
    roster.fill(slot, label, device);
    await core.bitmap.rewrite();
    await core.journal.restate();
    await labels.save();
    // What was journaled while nobody took its parity has none. In place, its regions are marked, and the rebuild finds them.
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
      marked: core.bitmap.marked(),
      save: () => labels.save(),
      complete: () => this.#completed(member),
      nowMs: () => core.clock.monotonicMs(),
    });
    tasks.start(this.#rebuild);
  }

  async #completed(member: Member): Promise<void> {
    const { core, roster, labels } = this.#group;
    member.state = "online";
    member.label = { ...member.label, unbuiltBytes: 0 };
    await labels.save();
    if (!roster.degraded) core.emit("complete", {}, member.label.number);
  }

  /** The first region that some member may lack: what a rebuild has passed, all members have. */
  wholeUpTo(): number {
    const { core, roster } = this.#group;
    if (!roster.degraded) return Number.POSITIVE_INFINITY;
    const rebuilding = roster.rebuilding;
    if (rebuilding === null || this.#rebuild?.member !== rebuilding) return 0;
    return Math.floor(this.#rebuild.builtUpTo / core.shape.regionBytes);
  }
}
