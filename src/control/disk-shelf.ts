import { realpathSync } from "node:fs";
import path from "node:path";
import { expandPattern } from "../config/glob.js";
import type { BlockDevice } from "../device/device.js";
import { isStorageError, messageOf, StorageError } from "../lib/errors.js";
import type { LabelledDisk } from "../raid/contract.js";
import { lateOne, type Patience } from "../raid/late-disk.js";
import type { EventLog } from "./event-log.js";
import type { StorageLayers, SurveyedDisk } from "./layers.js";
import type { StateFiles } from "./state-files.js";

export interface ShelfOptions {
  readonly layers: StorageLayers;
  readonly events: EventLog;
  /** From the configuration: absolute paths and patterns. */
  readonly patterns: readonly string[];
  /** Paths of disks that were added by hand. */
  readonly knownDisksFile: string;
  readonly stateFiles: StateFiles;
  /** With a disk that is slower than all others of its group. */
  readonly patience: Patience;
  /** Two nodes look at the same disks: what this one may take. Absent: everything. */
  readonly sharing?: DiskSharing | undefined;
}

export interface DiskSharing {
  /** The group is ours, or is being taken. */
  isOurs(groupUuid: string): boolean;
  /** The process that holds a disk is our partner: it is where it should be. */
  isPartner(pid: number): boolean;
}

/** Of fewer members none is left out. */
const MEMBERS_TO_LACK_ONE = 3;

/** A place where a disk is: open, and in no group. */
interface Slot {
  readonly device: BlockDevice;
  readonly disk: LabelledDisk | null;
}

interface Taken {
  readonly disk: LabelledDisk;
  readonly groupUuid: string;
}

export interface AddOptions {
  readonly number: number;
  readonly spare: boolean;
  /** Overwrite what another system keeps there. */
  readonly force: boolean;
  /** Throws when a disk that carries our label must not be made a new one. */
  readonly checkLabelled: (disk: LabelledDisk) => void;
  /** Throws when it is not large enough for what it is wanted for. */
  readonly checkSize: (sizeBytes: number) => void;
}

/**
 * Finds disks, opens them, reads their labels, and holds those that no group has taken yet.
 * A path is looked at once: by its real path, so that a link and its target are one disk.
 */
export class DiskShelf {
  readonly #slots = new Map<string, Slot>();
  /** Disks that a group has taken, by real path. */
  readonly #taken = new Map<string, Taken>();
  /** Members that are being opened, by real path: each once, for all who want it. */
  readonly #opening = new Map<string, Promise<Slot>>();
  #closed = false;
  readonly #complaints = new Map<string, string>();
  /** What the partner has, by real path. */
  readonly #elsewhere = new Map<string, SurveyedDisk>();

  /** Absolute paths and patterns to look at; a reload may change them. */
  patterns: readonly string[];

  constructor(private readonly options: ShelfOptions) {
    this.patterns = options.patterns;
  }

  /**
   * Open what is new, let go of what has vanished. A path that cannot be opened is reported once and passed over.
   * @throws StorageError EBUSY when another process holds one of our disks: two daemons on the same disks are a mistake
   *   that must not be papered over. Not with `lenient`: a daemon that serves goes on.
   */
  async scan({ lenient = false } = {}): Promise<void> {
    this.#elsewhere.clear();
    await this.#dropOutdated([...this.#slots.keys()]);
    for (const place of this.#places()) await this.#look(place, lenient);
  }

  /** Everything that carries our label where the configuration says, whoever uses it. */
  async survey(): Promise<SurveyedDisk[]> {
    const places = [...new Set([...this.#places().map(realPath), ...this.#slots.keys(), ...this.#taken.keys()])];
    const looks = await Promise.all(places.map((place) => this.options.layers.surveyDisk(place)));
    const surveyed = looks.filter((disk) => disk !== null);
    await this.#letMembersGo(surveyed);
    return surveyed;
  }

  /** What carried no label when it was opened, and is a member of a group now: the lock is that of whoever has the group. */
  async #letMembersGo(surveyed: readonly SurveyedDisk[]): Promise<void> {
    const members = surveyed.filter(
      ({ path: place, group }) => group !== null && this.#slots.get(place)?.disk === null,
    );
    await Promise.all(members.map(({ path: place }) => this.#drop(place)));
  }

  /**
   * Open members of a group, all or none; what is not there is left out, and what was not all there when it was opened is opened anew.
   * One that is much slower than all others is left out, too, when the group can do without it, and comes on the shelf when it is open.
   * @throws StorageError EBUSY when another process holds one
   */
  async openMembers(places: readonly string[]): Promise<void> {
    const wanted = places.map(realPath);
    await this.#dropOutdated(wanted);
    const fresh = wanted.filter((place) => !this.#slots.has(place) && !this.#taken.has(place));
    const opening = fresh.map(async (place) => ({ place, slot: await this.#openOnce(place) }));
    const late = await this.#lateMember(opening);
    if (late !== null) void ended(opening[late]!.then(({ place, slot }) => this.#keepLate(place, slot)));
    const opened = await Promise.allSettled(opening.filter((_, i) => i !== late));
    const slots = opened.flatMap((result) => (result.status === "fulfilled" ? [result.value] : []));
    const busy = opened.find((result) => result.status === "rejected" && isStorageError(result.reason, "EBUSY"));
    if (busy !== undefined) {
      await Promise.all(slots.map(({ slot }) => slot.device.close()));
      throw (busy as PromiseRejectedResult).reason;
    }
    for (const { place, slot } of slots) this.#put(place, slot);
  }

  /**
   * The place of the one that is late, and that may be missing as in raid/assemble.ts: all others are there and whole by their own labels, and of two the other one
   * may have been used alone. null: none, or its label is waited for
   */
  async #lateMember(opening: readonly Promise<{ readonly slot: Slot }>[]): Promise<number | null> {
    const late = await lateOne(opening.map(ended), this.options.patience);
    if (late === null) return null;
    const others = await Promise.allSettled(opening.filter((_, i) => i !== late));
    const disks = others.flatMap((one) => (one.status === "fulfilled" ? (one.value.slot.disk ?? []) : []));
    const group = await this.options.layers.describeGroup(disks);
    if (group === null || group.disks.length < MEMBERS_TO_LACK_ONE) return null;
    return group.disks.filter(({ state }) => state !== "online").length === 1 ? late : null;
  }

  #put(place: string, slot: Slot): void {
    this.#slots.set(place, slot);
    this.#elsewhere.delete(place);
  }

  /** A second attempt while the first one waits for the disk would find it locked by this process. */
  #openOnce(place: string): Promise<Slot> {
    const known = this.#opening.get(place);
    if (known !== undefined) return known;
    const opening = this.#open(place).finally(() => this.#opening.delete(place));
    this.#opening.set(place, opening);
    return opening;
  }

  /** Its group was taken without it, or not at all. */
  async #keepLate(place: string, slot: Slot): Promise<void> {
    const group = slot.disk?.groupUuid;
    const isWanted = group !== undefined && this.options.sharing?.isOurs(group) === true && !this.#closed;
    if (isWanted) this.#put(place, slot);
    else await slot.device.close();
  }

  /** Let go of disks of a group that is not ours any more. */
  async closeMembers(groupUuid: string): Promise<void> {
    const found = [...this.#slots].filter(([, { disk }]) => disk?.groupUuid === groupUuid);
    for (const [place] of found) this.#slots.delete(place);
    await Promise.all(found.map(([, { device }]) => device.close()));
  }

  /** Disks that the partner has, in groups that it serves or in none, as they were at the last scan. */
  elsewhere(): SurveyedDisk[] {
    return [...this.#elsewhere.values()];
  }

  /** Labelled disks that no group has taken. */
  labelled(): LabelledDisk[] {
    return [...this.#slots.values()].flatMap(({ disk }) => (disk === null ? [] : [disk]));
  }

  unlabelled(): BlockDevice[] {
    return [...this.#slots.values()].flatMap(({ device, disk }) => (disk === null ? [device] : []));
  }

  /** Paths that could not be used, and why. */
  complaints(): ReadonlyMap<string, string> {
    return this.#complaints;
  }

  /** A group takes these; it closes them. */
  take(disks: readonly LabelledDisk[], groupUuid: string): void {
    for (const [place, slot] of this.#slots) {
      if (slot.disk === null || !disks.includes(slot.disk)) continue;
      this.#slots.delete(place);
      this.#taken.set(place, { disk: slot.disk, groupUuid });
    }
  }

  /** The group did not want them after all; they are still open. */
  putBack(disks: readonly LabelledDisk[]): void {
    for (const [place, { disk }] of this.#taken) {
      if (!disks.includes(disk)) continue;
      this.#taken.delete(place);
      this.#slots.set(place, { device: disk.device, disk });
    }
  }

  /** Disks on the shelf whose label names the group. */
  ofGroup(groupUuid: string): LabelledDisk[] {
    return this.labelled().filter((disk) => disk.groupUuid === groupUuid);
  }

  /** Give one disk to a group by `action`; when that fails, it is here again. */
  async handOver(disk: LabelledDisk, groupUuid: string, action: () => Promise<void>): Promise<void> {
    this.take([disk], groupUuid);
    try {
      await action();
    } catch (error) {
      this.putBack([disk]);
      throw error;
    }
  }

  /** A group has closed a member's device: its path is free, and looked at by the next scan. */
  release(groupUuid: string, number: number): void {
    for (const [place, taken] of this.#taken) {
      if (taken.groupUuid === groupUuid && taken.disk.number === number) this.#taken.delete(place);
    }
  }

  /** A group has been closed: all its places are free. */
  releaseAll(groupUuid: string): void {
    for (const [place, taken] of this.#taken) if (taken.groupUuid === groupUuid) this.#taken.delete(place);
  }

  /** A shared group has the disk of this number. */
  isTaken(number: number): boolean {
    return [...this.#taken.values()].some(({ disk }) => disk.shared === true && disk.number === number);
  }

  /** The labelled disk at a path, while no group has it. */
  at(place: string): LabelledDisk | null {
    return this.#slots.get(realPath(place))?.disk ?? null;
  }

  /** Label a new disk. EEXIST when a group uses it, EBUSY when it carries someone else's data and `force` is not given. */
  async add(place: string, options: AddOptions): Promise<LabelledDisk> {
    const real = realPath(place);
    const taken = this.#taken.get(real);
    if (taken !== undefined) throw new StorageError("EEXIST", `${place} is disk #${pad(taken.disk.number)}, in use`);
    const slot = this.#slots.get(real) ?? (await this.#open(real));
    try {
      if (slot.disk === null) await this.#checkEmpty(slot.device, place, options.force);
      else options.checkLabelled(slot.disk);
      options.checkSize(slot.device.sizeBytes);
      const label = { number: options.number, spare: options.spare, force: true };
      // First: where this cannot be noted down the disk is left as it is.
      this.#remember(real);
      const disk = await this.options.layers.initDisk(slot.device, label);
      this.#slots.set(real, { device: slot.device, disk });
      this.#complaints.delete(real);
      return disk;
    } catch (error) {
      if (!this.#slots.has(real)) await slot.device.close();
      throw error;
    }
  }

  /**
   * Have a disk as it is, with all that is on it: it lies where the configuration does not look, or did when this node's list of disks was lost.
   * @param wanted  whether the disk with this label is
   * @returns null: it carries none of our labels, is not wanted, or is here already
   */
  async takeIn(place: string, wanted: (disk: LabelledDisk) => boolean): Promise<LabelledDisk | null> {
    const real = realPath(place);
    if (this.#slots.has(real) || this.#taken.has(real)) return null;
    const slot = await this.#open(real);
    if (slot.disk === null || !wanted(slot.disk)) {
      await slot.device.close();
      return null;
    }
    this.#slots.set(real, slot);
    this.#remember(real);
    this.#complaints.delete(real);
    return slot.disk;
  }

  /**
   * A disk that the partner has labelled, and holds: nothing is to be done but to look there from now on, also after a restart.
   * @returns null when it is not the partner's
   */
  async addPartners(place: string): Promise<SurveyedDisk | null> {
    const real = realPath(place);
    if (this.options.sharing === undefined || this.#slots.has(real) || this.#taken.has(real)) return null;
    const surveyed = await this.options.layers.surveyDisk(real);
    if (surveyed === null || surveyed.group?.shared === true) return null;
    if (!(await this.#isElsewhere(real)) && !(await this.#partnerHas(real))) return null;
    this.#elsewhere.set(real, surveyed);
    this.#remember(real);
    return surveyed;
  }

  async #partnerHas(place: string): Promise<boolean> {
    try {
      const device = await this.options.layers.openDevice(place);
      await device.close();
      return false;
    } catch (error) {
      return this.#partnerHolds(error);
    }
  }

  /** Write the label of a disk in no group anew. */
  async relabel(disk: LabelledDisk, spare: boolean): Promise<void> {
    const place = this.#placeOf(disk);
    const { device, number } = disk;
    const fresh = await this.options.layers.initDisk(device, { number, spare, force: false });
    this.#slots.set(place, { device, disk: fresh });
  }

  /** Its label says something else now: close it, and open it in the way that it wants. */
  async reopen(disk: LabelledDisk): Promise<void> {
    const place = this.#placeOf(disk);
    this.#slots.delete(place);
    await disk.device.close();
    await this.#look(place, true);
  }

  /** Take our label off a disk and let it go. Where the configuration names its path it is seen again, as one that was never added. */
  async remove(disk: LabelledDisk): Promise<void> {
    const place = this.#placeOf(disk);
    await this.options.layers.wipeDisk(disk.device);
    this.#slots.delete(place);
    await disk.device.close();
    this.#forget(place);
    if (this.#isCovered(place)) await this.#look(place, true);
  }

  async close(): Promise<void> {
    this.#closed = true;
    const slots = [...this.#slots.values()];
    this.#slots.clear();
    await Promise.all(slots.map(({ device }) => device.close()));
  }

  #placeOf(disk: LabelledDisk): string {
    for (const [place, slot] of this.#slots) if (slot.disk === disk) return place;
    throw new StorageError("ENOENT", `disk #${pad(disk.number)} is not here any more`);
  }

  async #checkEmpty(device: BlockDevice, place: string, force: boolean): Promise<void> {
    const owner = await this.options.layers.identify(device);
    if (owner === null || force) return;
    throw new StorageError("EBUSY", `${place} carries ${owner}; --force would overwrite it`);
  }

  async #open(place: string): Promise<Slot> {
    const { layers } = this.options;
    const device = (await this.#isShared(place)) ? await layers.openShared(place) : await layers.openDevice(place);
    try {
      return { device, disk: await this.options.layers.readLabel(device) };
    } catch (error) {
      await device.close();
      throw error;
    }
  }

  /** Looked at without a lock first: an exclusive one, held for a moment, would stand in the way of the other nodes. */
  async #isShared(place: string): Promise<boolean> {
    return (await this.#peek(place))?.shared === true;
  }

  /** A path that is absent costs one stat. */
  async #look(place: string, lenient: boolean): Promise<void> {
    const real = realPath(place);
    if (this.#slots.has(real) || this.#taken.has(real) || this.#opening.has(real)) return;
    try {
      if (!this.options.layers.exists(real)) throw new StorageError("ENXIO", "nothing is there");
      if (await this.#isElsewhere(real)) return;
      this.#slots.set(real, await this.#open(real));
      this.#complaints.delete(real);
    } catch (error) {
      if (this.#partnerHolds(error)) return await this.#notePartners(real);
      if (!lenient && isStorageError(error, "EBUSY") && (await this.#isOurs(real))) throw error;
      this.#complain(real, error);
    }
  }

  /** A member of a group that the partner serves, or may: it is not touched. */
  async #isElsewhere(place: string): Promise<boolean> {
    const { sharing, layers } = this.options;
    if (sharing === undefined) return false;
    const surveyed = await layers.surveyDisk(place);
    if (surveyed === null || surveyed.group === null || surveyed.group.shared) return false;
    if (sharing.isOurs(surveyed.group.uuid)) return false;
    this.#elsewhere.set(place, surveyed);
    this.#complaints.delete(place);
    return true;
  }

  /** One that carries no label of ours is none of our business. */
  async #notePartners(place: string): Promise<void> {
    const surveyed = await this.options.layers.surveyDisk(place);
    if (surveyed !== null) this.#elsewhere.set(place, surveyed);
    this.#complaints.delete(place);
  }

  #partnerHolds(error: unknown): boolean {
    if (!isStorageError(error, "EBUSY")) return false;
    const { pid } = error.detail;
    return typeof pid === "number" && this.options.sharing?.isPartner(pid) === true;
  }

  /** Let go of what is not there any more, or is to be opened anew. */
  async #dropOutdated(places: readonly string[]): Promise<void> {
    for (const place of places) {
      const slot = this.#slots.get(place);
      if (slot !== undefined && (await this.#isOutdated(place, slot))) await this.#drop(place);
    }
  }

  /**
   * A disk that was pulled out while nobody used it, or that has another name now; one that shrank or grew, so that what was found on it may be wrong; one that
   * showed no label while its path was not well, and does now.
   */
  async #isOutdated(place: string, { device, disk }: Slot): Promise<boolean> {
    const { layers } = this.options;
    if (!layers.exists(place)) return true;
    const sizeBytes = await layers.sizeOf(place);
    if (sizeBytes !== null && sizeBytes !== device.sizeBytes) return true;
    return disk === null && (await layers.surveyDisk(place)) !== null;
  }

  async #drop(place: string): Promise<void> {
    const slot = this.#slots.get(place);
    this.#slots.delete(place);
    await slot?.device.close();
  }

  /** Whether a disk that somebody else holds carries our label. One that does not (a mounted root disk) is none of our business. */
  async #isOurs(place: string): Promise<boolean> {
    return (await this.#peek(place)) !== null;
  }

  /** What a label says without opening the disk for ourselves; null when there is none, or it cannot be read. */
  async #peek(place: string): Promise<LabelledDisk | null> {
    try {
      const device = await this.options.layers.openReadOnly(place);
      try {
        return await this.options.layers.readLabel(device);
      } finally {
        await device.close();
      }
    } catch {
      return null;
    }
  }

  #complain(place: string, error: unknown): void {
    const reason = messageOf(error);
    if (this.#complaints.get(place) === reason) return;
    this.#complaints.set(place, reason);
    this.options.events.add({
      severity: "warning",
      kind: "disk-unusable",
      what: `no disk at ${place}: ${reason}`,
      detail: { path: place },
    });
  }

  #places(): string[] {
    const listed = this.patterns.flatMap(expandPattern);
    return [...new Set([...listed, ...this.#known()])];
  }

  #known(): string[] {
    const { knownDisksFile } = this.options;
    const text = this.options.stateFiles.read(knownDisksFile);
    if (text === undefined) return [];
    try {
      const parsed: unknown = JSON.parse(text);
      return Array.isArray(parsed) ? parsed.filter((item) => typeof item === "string") : [];
    } catch (error) {
      const hint = "remove it, and name the disks in the configuration or add them again (disk add)";
      throw new StorageError("EIO", `${knownDisksFile} is damaged: ${hint}`, {}, error);
    }
  }

  #isCovered(place: string): boolean {
    return this.patterns.flatMap(expandPattern).some((listed) => realPath(listed) === place);
  }

  /** A path that the configuration covers needs no second record. */
  #remember(place: string): void {
    const known = this.#known();
    if (!this.#isCovered(place) && !known.includes(place)) this.#record([...known, place]);
  }

  #forget(place: string): void {
    const known = this.#known();
    if (known.includes(place)) this.#record(known.filter((one) => one !== place));
  }

  #record(places: readonly string[]): void {
    this.options.stateFiles.writeJson(this.options.knownDisksFile, "the list of disks that were added", places);
  }
}

/** Whatever became of it. */
function ended(work: Promise<unknown>): Promise<void> {
  return work.then(
    () => {},
    () => {},
  );
}

function realPath(place: string): string {
  try {
    return realpathSync(place);
  } catch {
    return path.resolve(place);
  }
}

export function pad(number: number): string {
  return String(number).padStart(3, "0");
}
