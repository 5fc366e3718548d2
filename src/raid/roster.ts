import type { BlockDevice } from "../device/device.js";
import { isStorageError, messageOf, operatingError, StorageError } from "../lib/errors.js";
import { formatSizes } from "../lib/size.js";
import { BLOCK_BYTES } from "../lib/units.js";
import { LOSSES_MAX } from "./assemble.js";
import type { DiskDescription, LabelledDisk } from "./contract.js";
import type { GroupRecord, LabelMember } from "./label.js";
import { readLabel } from "./label-io.js";
import { partedFromOf } from "./label-keeper.js";
import { memberBytesNeeded, TEST_BLOCK_AT } from "./layout.js";
import { isBehind, wentApart } from "./lineage.js";
import { Member, type MemberHooks } from "./member.js";

/** What the roster asks of the group that it belongs to. */
export interface RosterOptions {
  readonly record: () => GroupRecord;
  readonly hooks: Omit<MemberHooks, "failed" | "formerGone">;
  /** Another node has every disk: one that gives errors here has lost its path only. */
  readonly isPathLost: () => boolean;
  /** A member is out, already marked so; nothing of it has been recorded yet. */
  readonly onOut: (member: Member) => void;
  /** A disk's device is closed: whoever opens disks may have it again. */
  readonly onReleased: (number: number, path: string | undefined) => void;
  /** A member that is being rebuilt has lost the disk that had its place before. */
  readonly onUncovered: (member: Member) => void;
  /** One that was out already, because it was slow, is lost. */
  readonly onDismissed: (member: Member) => void;
}

/**
 * The members of a group by slot: who is in, who is out and why, and who may come in. It decides and refuses; recording a change on the
 * labels and writing what a new member lacks is the group's business.
 */
export class Roster {
  /** By slot. The array is the same one for ever; a place is filled by another Member when another disk takes it. */
  readonly members: Member[] = [];
  readonly #options: RosterOptions;
  readonly #releasing = new Set<Promise<void>>();
  /** Errors for which members were failed that may be those of a path. */
  readonly #errors = new WeakMap<Member, string>();

  constructor(options: RosterOptions) {
    this.#options = options;
  }

  /** @param device  null: nobody fills the place */
  fill(slot: number, label: LabelMember, device: BlockDevice | null, reason?: string): Member {
    const before = this.members[slot];
    // One that was left out has its device still.
    if (before?.isAside === true && before.device !== device) {
      before.dismiss("stale", before.reason ?? "");
      this.#release(before);
    }
    const member = new Member(slot, label, device, {
      ...this.#options.hooks,
      ...{ failed: this.#memberFailed, formerGone: this.formerGone },
    });
    member.reason = reason;
    this.members[slot] = member;
    return member;
  }

  get degraded(): boolean {
    return this.members.some((member) => !member.online);
  }

  /** Members without which the group has to do. One that is being replaced is none, while the disk that was there before can tell all it lacks. */
  get lostCount(): number {
    return this.members.filter((member) => !member.online && !member.covered).length;
  }

  get rebuilding(): Member | null {
    return this.members.find((member) => member.state === "rebuilding") ?? null;
  }

  /** By uuid: old disks that are open as sources. */
  get sources(): string[] {
    return this.members.flatMap(({ former }) => (former === null || former.device === null ? [] : [former.uuid]));
  }

  /** Called by the member itself, before its failed operation settles. */
  readonly #memberFailed = (member: Member, error: unknown): void => {
    const now = this.members[member.slot];
    // A place that another disk has taken since is no business of the old one; but what it failed to write it cannot tell.
    if (now !== member) {
      if (now?.former?.uuid === member.label.uuid) this.formerGone(now);
      return;
    }
    this.releaseFormer(member);
    this.#condemn(member, error);
    this.#release(member);
    this.#options.onOut(member);
  };

  #condemn(member: Member, error: unknown): void {
    const reason = messageOf(error);
    member.reason = reason;
    member.state = isStorageError(error, "ENXIO") ? "missing" : "failed";
    if (member.state === "missing" || isJudged(error)) return;
    this.#errors.set(member, reason);
    this.#acquit(member);
  }

  /** One that gave errors, and that another node has, is no disk that failed: what failed is the path to it. @returns whether it is such a one */
  #acquit(member: Member): boolean {
    const error = this.#errors.get(member);
    if (error === undefined || member.state !== "failed" || !this.#options.isPathLost()) return false;
    member.state = "missing";
    member.reason = `this node has lost the path to it, the partner has it (${error})`;
    return true;
  }

  /** The other node may not have said what it has when they failed. @returns members that did not fail after all; nothing of it has been recorded yet */
  judgeAgain(): Member[] {
    return this.members.filter((member) => this.#acquit(member));
  }

  /** As if it were lost, but its device stays open. */
  leaveOut(member: Member, reason: string): void {
    this.releaseFormer(member);
    member.leaveOut(reason);
    this.#options.onOut(member);
  }

  /** One that was left out is lost now. */
  dismiss(member: Member, error: unknown): void {
    member.dismiss("failed", "");
    this.#condemn(member, error);
    this.#release(member);
    this.#options.onDismissed(member);
  }

  /** Nothing is read from it or written to it any more; requests under way end first. */
  #release(member: Member): void {
    this.#close(member.device, member.label.number);
  }

  #close(device: BlockDevice | null, number: number): void {
    const releasing = (device?.close() ?? Promise.resolve())
      .catch(() => {})
      .then(() => {
        this.#releasing.delete(releasing);
        this.#options.onReleased(number, device?.name);
      });
    this.#releasing.add(releasing);
  }

  /** Nothing is wanted any more of the disk that had its place before: whoever opens disks may have it. */
  releaseFormer({ former }: Member): void {
    const device = former?.letGo() ?? null;
    if (former !== null && device !== null) this.#close(device, former.number);
  }

  /** It cannot be asked any more: what it covered counts as lost from here on. */
  readonly formerGone = (member: Member): void => {
    const covered = member.covered;
    this.releaseFormer(member);
    if (covered) this.#options.onUncovered(member);
  };

  /** Members in use, or the one with this number. Who turns out to be gone is released when it resolves. */
  async probe(position: number, number?: number): Promise<void> {
    const asked = this.members.filter(({ online, label }) => online && (number ?? label.number) === label.number);
    await Promise.all(asked.map((member) => member.probe(position)));
    await Promise.all(this.#releasing);
  }

  /** Every device is closed when it resolves. */
  async close(): Promise<void> {
    for (const member of this.members) this.releaseFormer(member);
    await Promise.allSettled(this.members.map((member) => member.device?.close()));
    await Promise.all(this.#releasing);
  }

  /** @throws StorageError ENOENT */
  find(number: number): Member {
    const member = this.members.find(({ label }) => label.number === number);
    if (member !== undefined) return member;
    throw new StorageError("ENOENT", `disk #${number} is not a member of group "${this.#options.record().name}"`);
  }

  /** @throws StorageError EBUSY when the group would not bear the loss */
  takeOut(number: number): void {
    const member = this.find(number);
    if (!member.takesWrites) throw new StorageError("EINVAL", `disk #${number} is ${member.state} already`);
    if (member.online && this.lostCount >= LOSSES_MAX) {
      const text = `disk #${number} cannot be taken out: without it group "${this.#options.record().name}" would lose data`;
      throw new StorageError("EBUSY", text, { disk: number });
    }
    member.fail(new StorageError("EIO", "taken out of use by an administrator", { disk: number, judged: true }));
  }

  /**
   * The member whose place a new disk may take: one that is out, or one in use while all the others are, too.
   * @throws StorageError EBUSY, EEXIST, ENOSPC
   */
  placeFor(number: number, disk: LabelledDisk): Member {
    const member = this.placeOf(number);
    this.checkNew(disk);
    return member;
  }

  /** As `placeFor`, before it is known which disk is to come. @throws StorageError EBUSY */
  placeOf(number: number): Member {
    const member = this.find(number);
    this.refuseWhileRebuilding();
    const lacking = this.members.find((one) => one !== member && !one.online);
    if (member.online && lacking !== undefined) {
      const text = `disk #${number} is in use, and disk #${lacking.label.number} is ${lacking.state}: that one comes first`;
      throw new StorageError("EBUSY", text, { number });
    }
    return member;
  }

  /** @throws StorageError EEXIST (in a group), ENOSPC (too small) */
  checkNew(disk: LabelledDisk): void {
    if (disk.groupUuid !== undefined) {
      throw new StorageError("EEXIST", `disk #${disk.number} is in a group already`, { disk: disk.number });
    }
    this.checkSize(`disk #${disk.number}`, disk.device.sizeBytes);
  }

  /** @throws StorageError ENOSPC */
  checkSize(name: string, sizeBytes: number): void {
    const needed = memberBytesNeeded(this.#options.record().shape);
    if (sizeBytes >= needed) return;
    const [has, wants] = formatSizes(sizeBytes, needed);
    throw new StorageError("ENOSPC", `${name} has ${has}, ${wants} are needed`, { needed, sizeBytes });
  }

  /** @throws StorageError EBUSY */
  refuseWhileRebuilding(): void {
    const other = this.rebuilding;
    if (other === null) return;
    throw new StorageError("EBUSY", `disk #${other.label.number} is being rebuilt: wait until that is done`);
  }

  /**
   * What a disk that was away still has of what it should have.
   * @returns its entry for the label, rebuilding
   * @throws StorageError EINVAL, EBUSY, EACCES, EIO (Group.returnDisk)
   */
  async readmit(disk: LabelledDisk, force: boolean): Promise<{ slot: number; label: LabelMember; sequence: number }> {
    const record = this.#options.record();
    const member = this.members.find(({ label }) => label.uuid === disk.uuid);
    if (member === undefined) {
      throw new StorageError("EINVAL", `disk #${disk.number} is not a member of group "${record.name}" (any more)`);
    }
    if (member.takesWrites) throw new StorageError("EBUSY", `disk #${disk.number} is ${member.state} already`);
    this.refuseWhileRebuilding();
    const needed = memberBytesNeeded(record.shape);
    if (disk.device.sizeBytes < needed) {
      const [has, wants] = formatSizes(disk.device.sizeBytes, needed);
      const text = `${disk.device.name} shrank to ${has}, ${wants} are needed`;
      throw new StorageError("EINVAL", text, { disk: disk.number });
    }
    const label = await readLabel(disk.device);
    if (label?.group?.uuid !== record.uuid) {
      throw new StorageError("EINVAL", `${disk.device.name} has no label of group "${record.name}"`);
    }
    const doubt = this.#doubtOf(member, label.group, record);
    if (doubt !== null && !force)
      throw new StorageError("EACCES", `disk #${disk.number} ${doubt}`, { disk: disk.number });
    await proveWritable(disk.device);
    const { rowBytes, rowCount } = record.shape;
    // What the bitmap does not tell of is all that there is. An end without its label has been cut off, or written over: what else is gone nobody knows.
    const isWhole = doubt === null && label.badEnd === undefined;
    const marked = isWhole && !isBehind(label.group, partedFromOf(record.members[member.slot], record));
    const unbuiltBytes = marked ? unbuiltOf(member.label, label.group) : rowBytes * rowCount;
    const { sizeBytes, name: path } = disk.device;
    const entry: LabelMember = { ...member.label, state: "rebuilding", unbuiltBytes, sizeBytes, path };
    return { slot: member.slot, label: entry, sequence: label.sequence };
  }

  /** Why what it holds may not be what we know of it; null when there is no reason. */
  #doubtOf(member: Member, theirs: GroupRecord, ours: GroupRecord): string | null {
    if (member.state === "failed") return `was taken out of use (${member.reason ?? "it gave errors"})`;
    return wentApart(ours, theirs) ? "was used without the others since it went away" : null;
  }

  describe(member: Member): DiskDescription {
    const { label, device, state, reason, errors, slow } = member;
    const { uuid: groupUuid, name: groupName } = this.#options.record();
    const description = {
      ...{ number: label.number, uuid: label.uuid, path: device?.name ?? label.path, state, groupUuid, groupName },
      sizeBytes: device?.sizeBytes ?? label.sizeBytes,
      ...{ errors: { ...errors }, slow },
    };
    return reason === undefined ? description : { ...description, reason };
  }
}

/**
 * What a member lacks by the labels, in bytes from the end of the row space: the others know how far its rebuild got, and it knows how much of that
 * it had when it was put back as it was a moment before.
 */
export function unbuiltOf({ uuid, unbuiltBytes }: LabelMember, own: GroupRecord | undefined): number {
  const entry = own?.members.find((member) => member.uuid === uuid);
  return Math.max(unbuiltBytes, entry?.unbuiltBytes ?? 0);
}

/** One that can be read and not written would be out again with its first write. @throws StorageError EIO */
async function proveWritable(device: BlockDevice): Promise<void> {
  try {
    await device.writeThrough([Buffer.alloc(BLOCK_BYTES)], TEST_BLOCK_AT);
  } catch (error) {
    const failure = operatingError(error);
    if (failure === null) throw error;
    throw new StorageError("EIO", `${device.name} cannot be written: ${failure.message}`, {}, error);
  }
}

/** Not an error of the device, but what somebody makes of it: an administrator, or too many bad blocks. */
function isJudged(error: unknown): boolean {
  return isStorageError(error) && error.detail.judged === true;
}
