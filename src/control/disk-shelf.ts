import { existsSync, mkdirSync, readFileSync, realpathSync, renameSync, writeFileSync } from "node:fs";
import path from "node:path";
import { expandPattern } from "../config/glob.js";
import type { BlockDevice } from "../device/device.js";
import { isStorageError, messageOf, StorageError } from "../lib/errors.js";
import type { LabelledDisk } from "../raid/contract.js";
import type { EventLog } from "./event-log.js";
import type { StorageLayers } from "./layers.js";

export interface ShelfOptions {
  readonly layers: StorageLayers;
  readonly events: EventLog;
  /** From the configuration: absolute paths and patterns. */
  readonly patterns: readonly string[];
  /** Paths of disks that were added by hand. */
  readonly knownDisksFile: string;
}

/** A place where a disk is: open, and in no group. */
interface Slot {
  readonly device: BlockDevice;
  readonly disk: LabelledDisk | null;
}

/**
 * Finds disks, opens them, reads their labels, and holds those that no group has taken yet.
 * A path is looked at once: by its real path, so that a link and its target are one disk.
 */
export class DiskShelf {
  readonly #slots = new Map<string, Slot>();
  /** Real path of each disk that a group has taken, by uuid. */
  readonly #taken = new Map<string, string>();
  readonly #complaints = new Map<string, string>();

  /** Absolute paths and patterns to look at; a reload may change them. */
  patterns: readonly string[];

  constructor(private readonly options: ShelfOptions) {
    this.patterns = options.patterns;
  }

  /**
   * Open what is new. A path that cannot be opened is reported once and passed over.
   * @throws StorageError EBUSY when another process holds one of our disks: two daemons on the same disks are a mistake
   *   that must not be papered over
   */
  async scan(): Promise<void> {
    for (const place of this.#places()) await this.#look(place);
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
  take(disks: readonly LabelledDisk[]): void {
    for (const [place, slot] of this.#slots) {
      if (slot.disk === null || !disks.includes(slot.disk)) continue;
      this.#slots.delete(place);
      this.#taken.set(slot.disk.uuid, place);
    }
  }

  /** A group that has been closed gives its places back, to be opened again by the next scan. */
  giveBack(uuids: readonly string[]): void {
    for (const uuid of uuids) this.#taken.delete(uuid);
  }

  /** Label a new disk. EEXIST when it has a label, EBUSY when it carries someone else's data and `force` is not given. */
  async add(place: string, number: number, force: boolean): Promise<LabelledDisk> {
    const real = realPath(place);
    if ([...this.#taken.values()].includes(real))
      throw new StorageError("EEXIST", `${place} is already a disk of ours`);
    const slot = this.#slots.get(real) ?? (await this.#open(real));
    try {
      await this.#checkEmpty(slot, place, force);
      const disk = await this.options.layers.initDisk(slot.device, number);
      this.#slots.set(real, { device: slot.device, disk });
      this.#remember(real);
      this.#complaints.delete(real);
      return disk;
    } catch (error) {
      if (!this.#slots.has(real)) await slot.device.close();
      throw error;
    }
  }

  async close(): Promise<void> {
    const slots = [...this.#slots.values()];
    this.#slots.clear();
    await Promise.all(slots.map(({ device }) => device.close()));
  }

  async #checkEmpty(slot: Slot, place: string, force: boolean): Promise<void> {
    if (slot.disk !== null) throw new StorageError("EEXIST", `${place} is already disk #${pad(slot.disk.number)}`);
    const owner = await this.options.layers.identify(slot.device);
    if (owner === null || force) return;
    throw new StorageError("EBUSY", `${place} carries ${owner}; --force would overwrite it`);
  }

  async #open(place: string): Promise<Slot> {
    const device = await this.options.layers.openDevice(place);
    try {
      return { device, disk: await this.options.layers.readLabel(device) };
    } catch (error) {
      await device.close();
      throw error;
    }
  }

  async #look(place: string): Promise<void> {
    const real = realPath(place);
    if (this.#slots.has(real) || [...this.#taken.values()].includes(real)) return;
    try {
      this.#slots.set(real, await this.#open(real));
      this.#complaints.delete(real);
    } catch (error) {
      if (isStorageError(error, "EBUSY") && (await this.#isOurs(real))) throw error;
      this.#complain(real, error);
    }
  }

  /** Whether a disk that somebody else holds carries our label. One that does not (a mounted root disk) is none of our business. */
  async #isOurs(place: string): Promise<boolean> {
    try {
      const device = await this.options.layers.openReadOnly(place);
      try {
        return (await this.options.layers.readLabel(device)) !== null;
      } finally {
        await device.close();
      }
    } catch {
      return false;
    }
  }

  #complain(place: string, error: unknown): void {
    const reason = existsSync(place) ? messageOf(error) : "nothing is there";
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
    if (!existsSync(this.options.knownDisksFile)) return [];
    const parsed: unknown = JSON.parse(readFileSync(this.options.knownDisksFile, "utf8"));
    return Array.isArray(parsed) ? parsed.filter((item) => typeof item === "string") : [];
  }

  /** A path that the configuration covers needs no second record. */
  #remember(place: string): void {
    const covered = this.patterns.flatMap(expandPattern).some((listed) => realPath(listed) === place);
    const known = this.#known();
    if (covered || known.includes(place)) return;
    const file = this.options.knownDisksFile;
    mkdirSync(path.dirname(file), { recursive: true });
    writeFileSync(`${file}.new`, `${JSON.stringify([...known, place], null, 2)}\n`);
    renameSync(`${file}.new`, file);
  }
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
