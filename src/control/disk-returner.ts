import { AssertionError } from "../lib/assert.js";
import type { CancelTimer } from "../lib/clock.js";
import { messageOf, operatingError } from "../lib/errors.js";
import type { Group, LabelledDisk } from "../raid/contract.js";
import { pad } from "./disk-shelf.js";
import { type DiskStanding, standingOf } from "./disk-standing.js";
import type { CabinetParts, CareSettings } from "./parts.js";

export interface ReturnerOptions {
  readonly care: () => CareSettings;
  /** A disk of a group that is not served has turned up: try to put the group together. Called while changes are locked. */
  readonly revive: () => Promise<void>;
}

type MemberPlace = Extract<DiskStanding, { readonly member: unknown }>;

interface Refusal {
  readonly reason: string;
  /** What refused it may be over by itself: it is asked about in every round, and told once. */
  readonly passing: boolean;
  /** Of its place in the group then. */
  readonly state: MemberPlace["member"]["state"];
}

/**
 * Notices members that were pulled out while nobody used them, and brings back those that were away: while a group lacks one, the places
 * of disks are looked at again from time to time, and a disk that is a member of an open group, under whatever path, is handed to it. What a
 * group refuses stays on the shelf with the reason.
 */
export class DiskReturner {
  /** By the disk as it was opened: pulled out and put in again, it is asked about anew; so it is when its place has another state. */
  #refusals = new WeakMap<LabelledDisk, Refusal>();
  readonly #seen = new WeakSet<LabelledDisk>();
  readonly #asked = new WeakSet<Group>();
  /** By the uuid of an old disk that was lent: how many blocks were lost or unreadable then. */
  readonly #lent = new Map<string, number>();
  #cancel: CancelTimer | null = null;

  constructor(
    private readonly parts: CabinetParts,
    private readonly options: ReturnerOptions,
  ) {}

  /** Why a disk on the shelf was not taken back. */
  refusalOf(disk: LabelledDisk): string | undefined {
    return this.#refusals.get(disk)?.reason;
  }

  /** Ask again about disks that were refused. */
  forgetRefusals(): void {
    this.#refusals = new WeakMap();
  }

  /** Begin to look for disks; after each change of the settings too. */
  arm(): void {
    this.stop();
    const { diskScanSeconds } = this.options.care();
    if (diskScanSeconds === 0) return;
    this.#cancel = this.parts.clock.after(diskScanSeconds * 1000, () => void this.#tick());
  }

  stop(): void {
    this.#cancel?.();
    this.#cancel = null;
  }

  async #tick(): Promise<void> {
    this.#probeAll();
    await this.#lookIfLacking();
    if (!this.parts.changes.ended) this.arm();
  }

  /** Nobody waits for it, and a group whose last answer is still out is not asked again: a disk may take its time. */
  #probeAll(): void {
    for (const group of this.parts.groups.all()) {
      if (this.#asked.has(group)) continue;
      this.#asked.add(group);
      void group.probe().finally(() => this.#asked.delete(group));
    }
  }

  /** A disk has been pulled out, or put back: what the next round would find is found now. */
  async diskMoved(number: number): Promise<void> {
    await this.parts.groups.member(number)?.group.probe(number);
    await this.#lookIfLacking();
  }

  async #lookIfLacking(): Promise<void> {
    if (!this.#somethingLacks()) return;
    await this.parts.changes.runUnlessEnded(() => this.#look()).catch((error) => this.#complain(error));
  }

  /** Places could not be looked through (a folder that may not be read): what is served goes on. */
  #complain(error: unknown): void {
    if (error instanceof AssertionError) throw error;
    const what = `the search for missing disks failed: ${messageOf(error)}`;
    this.parts.events.add({ severity: "warning", kind: "disk-scan-failed", what });
  }

  #somethingLacks(): boolean {
    const { groups } = this.parts;
    return groups.all().some((group) => {
      const { disks, lostBlocks, unreadable } = group.describe();
      return lostBlocks + unreadable > 0 || disks.some(({ state }) => state !== "online");
    });
  }

  async #look(): Promise<void> {
    await this.parts.shelf.scan({ lenient: true });
    if (this.#foundForUnassembled()) await this.options.revive();
    await this.returnAll();
  }

  /** Each disk counts once: a group that stays incomplete is not taken apart every few seconds. */
  #foundForUnassembled(): boolean {
    const { shelf, groups } = this.parts;
    const found = shelf.labelled().filter((disk) => !this.#seen.has(disk));
    for (const disk of found) this.#seen.add(disk);
    return found.some(
      (disk) => disk.groupUuid !== undefined && groups.get(disk.groupUuid)?.describe().state === "failed",
    );
  }

  /** Hand every disk on the shelf that is a member to its group. Called while changes are locked. */
  async returnAll(): Promise<void> {
    const { shelf, groups } = this.parts;
    for (const disk of shelf.labelled()) {
      this.#seen.add(disk);
      const standing = standingOf(disk, groups);
      if (standing.kind === "member") await this.#return(disk, standing);
      else if (standing.kind === "replaced") await this.#lend(disk, standing.group);
      else if (standing.kind === "copy") this.#refuse(disk, standing, copyText(disk, standing.member));
    }
  }

  /** One whose place another has may still tell what that one lacks. */
  async #lend(disk: LabelledDisk, group: Group): Promise<void> {
    const { uuid, lostBlocks, unreadable } = group.describe();
    const wanted = lostBlocks + unreadable;
    // What it could not tell the last time it cannot tell now.
    if (wanted === 0 || this.#lent.get(disk.uuid) === wanted) return;
    this.#lent.set(disk.uuid, wanted);
    try {
      await this.parts.shelf.handOver(disk, uuid, () => group.lendDisk(disk));
    } catch (error) {
      if (operatingError(error) === null) throw error;
    }
  }

  async #return(disk: LabelledDisk, place: MemberPlace): Promise<void> {
    const known = this.#refusals.get(disk);
    if (known?.state === place.member.state && !known.passing) return;
    const { group, described } = place;
    try {
      await this.parts.shelf.handOver(disk, described.uuid, () => group.returnDisk(disk));
    } catch (error) {
      const failure = operatingError(error);
      if (failure === null) throw error;
      // Its place is filled, or another member is being rebuilt: it is asked again.
      if (failure.code !== "EBUSY") this.#refuse(disk, place, failure.message, failure.code === "EIO");
    }
  }

  #refuse(disk: LabelledDisk, place: MemberPlace, reason: string, passing = false): void {
    const {
      described: { name: group },
      member: { state },
    } = place;
    if (this.#refusals.get(disk)?.state === state) return;
    this.#refusals.set(disk, { reason, state, passing });
    this.parts.events.add({
      severity: "warning",
      kind: "disk-not-returned",
      what: `group ${group}: disk #${pad(disk.number)} at ${disk.device.name} is not taken back: ${reason}`,
      detail: { group, disk: disk.number, path: disk.device.name },
    });
  }
}

export function copyText(disk: LabelledDisk, inUse: { readonly path: string }): string {
  return `${disk.device.name} and ${inUse.path} are copies of one disk, and ${inUse.path} is in use`;
}
