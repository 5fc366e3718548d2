import { StorageError } from "../lib/errors.js";
import { LIMITS } from "../limits.js";
import type { LabelledDisk } from "../raid/contract.js";
import { replacementFor, shelvedDisk, unusedDisk } from "./disk-choice.js";
import { pad } from "./disk-shelf.js";
import { standingOf } from "./disk-standing.js";
import type { DescribedGroup } from "./group-roster.js";
import type { CabinetParts } from "./parts.js";
import type { DiskRow } from "./types.js";

export interface AddDisk {
  readonly path: string;
  /** To be taken by itself when a member of a group is lost. */
  readonly spare?: boolean;
  /** Overwrite what another system, or another group, keeps there. */
  readonly force?: boolean;
}

export interface ReplaceDisk {
  /** A disk number, or the path of a disk that may have to be added first; absent: chosen. */
  readonly with?: number | string | undefined;
  /** As for adding. */
  readonly force?: boolean;
}

/** Operations on physical disks. Each refuses what would lose data and says why. */
export class DiskAdmin {
  constructor(
    private readonly parts: CabinetParts,
    private readonly rows: () => DiskRow[],
    /** The set-up is different: a spare may be there; `insisted`: a group that is not served may have lost a disk for good. */
    private readonly onChange: (insisted: boolean) => Promise<void>,
    /** A disk of ours is here that was not. @returns what its group still lacks, in a sentence; null: nothing */
    private readonly onTakenIn: (disk: LabelledDisk) => Promise<string | null>,
  ) {}

  add(wanted: AddDisk): Promise<DiskRow> {
    return this.parts.changes.run(async () => {
      const theirs = await this.parts.shelf.addPartners(wanted.path);
      if (theirs !== null) return this.#row(theirs.number);
      const ours = wanted.force === true ? null : await this.#takeIn(wanted);
      if (ours !== null) return this.#row(ours.number);
      const disk = await this.#add(wanted);
      await this.onChange(wanted.force ?? false);
      return this.#row(disk.number);
    });
  }

  /** Whether an unused disk is taken by itself when a member is lost. */
  setSpare(number: number, spare: boolean): Promise<DiskRow> {
    return this.parts.changes.run(async () => {
      const disk = unusedDisk(this.parts, number);
      if ((disk.spare === true) !== spare) {
        await this.parts.shelf.relabel(disk, spare);
        this.#report("disk-changed", disk, spare ? "is a spare" : "is no spare any more");
        await this.onChange(false);
      }
      return this.#row(number);
    });
  }

  /** Stop using a member. EBUSY when its group would not bear that. */
  fail(number: number): Promise<DiskRow> {
    return this.parts.changes.run(async () => {
      await this.#member(number).group.failDisk(number);
      return this.#row(number);
    });
  }

  /** Another disk takes the place of a member; one that is in use is a source until it has everything. @returns the other disk */
  replace(number: number, wanted: ReplaceDisk): Promise<DiskRow> {
    return this.parts.changes.run(async () => {
      const { group, described } = this.#member(number);
      if (wanted.with === number) {
        const text = `disk #${pad(number)} cannot take its own place; group rebuild --disk ${number} takes it back`;
        throw new StorageError("EINVAL", text);
      }
      // All that can be refused is refused before the other disk is touched.
      group.checkReplacement(number, Number.POSITIVE_INFINITY);
      const disk = await this.#replacement(wanted, described, (sizeBytes) => group.checkReplacement(number, sizeBytes));
      await this.parts.shelf.handOver(disk, described.uuid, () => group.replaceDisk(number, disk));
      return this.#row(disk.number);
    });
  }

  /** Take our label off a disk that no group needs. @param force  also off one whose group is not assembled here */
  remove(number: number, force: boolean): Promise<DiskRow> {
    return this.parts.changes.run(async () => {
      await this.parts.shelf.scan({ lenient: true });
      const row = this.#row(number);
      this.#refuseMember(number);
      const disk = shelvedDisk(this.parts, number);
      const standing = standingOf(disk, this.parts.groups);
      if (standing.kind === "unassembled" && !force) {
        const text = `disk #${pad(number)} holds data of group ${standing.groupName}, which is not assembled`;
        throw new StorageError("EBUSY", `${text}; --force gives it up`);
      }
      await this.parts.shelf.remove(disk);
      this.#report("disk-removed", disk, "removed, its label is gone:");
      await this.onChange(force);
      return row;
    });
  }

  /** One of ours stays what it is: nothing is written on it. @returns null: it is none, or is here already */
  async #takeIn({ path, spare = false }: AddDisk): Promise<LabelledDisk | null> {
    await this.parts.shelf.scan({ lenient: true });
    const disk = await this.parts.shelf.takeIn(path, (found) => {
      const { kind } = standingOf(found, this.parts.groups);
      if (kind === "loose") return this.#isFree(found.number) && (found.spare === true) === spare;
      return kind === "unassembled" || kind === "member";
    });
    if (disk === null) return null;
    const lacking = await this.onTakenIn(disk);
    const of = disk.groupName === undefined ? "" : ` of group ${disk.groupName}`;
    const what = `${of} taken in as it is, from ${disk.device.name}${lacking === null ? "" : `: ${lacking}`}`;
    this.#report("disk-taken-in", disk, what.trimStart());
    return disk;
  }

  #isFree(number: number): boolean {
    return !this.rows().some((row) => row.number === number);
  }

  /** @param checkSize  throws when the disk is not large enough for what it is wanted for: before it is labelled */
  async #add(
    { path, spare = false, force = false }: AddDisk,
    checkSize: (sizeBytes: number) => void = () => {},
  ): Promise<LabelledDisk> {
    // A disk that its group has let go of may lie there unseen: its number is not free.
    await this.parts.shelf.scan({ lenient: true });
    const disk = await this.parts.shelf.add(path, {
      ...{ number: this.#freeNumber(), spare, force },
      checkLabelled: (found) => this.#checkLabelled(found, force),
      checkSize,
    });
    this.#report("disk-added", disk, spare ? "added as a spare:" : "added:");
    return disk;
  }

  /** A disk of ours is made new only when no group can miss it. */
  #checkLabelled(disk: LabelledDisk, force: boolean): void {
    const here = `${disk.device.name} is`;
    const name = `disk #${pad(disk.number)}`;
    const standing = standingOf(disk, this.parts.groups);
    switch (standing.kind) {
      case "loose":
        // One that came from another cabinet gets a number of ours; nothing is on it.
        if (force || !this.parts.shelf.labelled().includes(disk)) return;
        throw new StorageError("EEXIST", `${here} already ${name}`);
      case "member":
        throw new StorageError(
          "EEXIST",
          `${here} ${name} of group ${standing.described.name}, where its place waits for it`,
        );
      case "copy":
        if (force) return;
        throw new StorageError("EEXIST", `${here} a copy of ${name}, which is in use; --force would overwrite it`);
      case "replaced":
        if (force) return;
        throw new StorageError(
          "EEXIST",
          `${here} an old disk of group ${standing.described.name}; --force would overwrite it`,
        );
      case "unassembled":
        if (force) return;
        throw new StorageError(
          "EEXIST",
          `${here} ${name} of group ${standing.groupName}, which is not assembled; --force would overwrite it, group assemble puts together what is here`,
        );
    }
  }

  #refuseMember(number: number): void {
    const found = this.parts.groups.member(number);
    if (found === undefined) return;
    const { member, described } = found;
    const name = `disk #${pad(number)}`;
    if (described.state === "failed") return;
    if (member.state === "online" || member.state === "rebuilding") {
      throw new StorageError("EBUSY", `${name} is in use by group ${described.name}: fail or replace it first`);
    }
    const text = `${name} has its place in group ${described.name}: replace it first (disk replace ${number})`;
    throw new StorageError("EBUSY", text);
  }

  async #replacement(
    wanted: ReplaceDisk,
    { disks }: DescribedGroup["described"],
    checkSize: (sizeBytes: number) => void,
  ): Promise<LabelledDisk> {
    const { shelf } = this.parts;
    if (wanted.with === undefined) return replacementFor(disks, shelf);
    if (typeof wanted.with === "number") return unusedDisk(this.parts, wanted.with);
    const there = shelf.at(wanted.with);
    if (there !== null && there.groupUuid === undefined) return there;
    return this.#add({ path: wanted.with, force: wanted.force ?? false }, checkSize);
  }

  /** @throws StorageError ENOENT; EINVAL when the disk is in no group */
  #member(number: number): NonNullable<ReturnType<CabinetParts["groups"]["member"]>> {
    const found = this.parts.groups.member(number);
    if (found !== undefined) return found;
    this.#row(number);
    throw new StorageError("EINVAL", `disk #${pad(number)} is in no group`);
  }

  #row(number: number): DiskRow {
    const row = this.rows().find((disk) => disk.number === number);
    if (row === undefined) throw new StorageError("ENOENT", `there is no disk #${pad(number)}`);
    return row;
  }

  #freeNumber(): number {
    const used = new Set(this.rows().map(({ number }) => number));
    for (let number = 1; number <= LIMITS.diskNumberMax; number++) if (!used.has(number)) return number;
    throw new StorageError("ENOSPC", `all disk numbers to #${LIMITS.diskNumberMax} are used`);
  }

  #report(kind: string, { number, device }: LabelledDisk, what: string): void {
    const tail = what.endsWith(":") ? ` ${device.name}` : "";
    this.parts.events.add({
      ...{ severity: "info", kind, what: `disk #${pad(number)} ${what}${tail}` },
      detail: { disk: number, path: device.name },
    });
  }
}
