import type { Restorer } from "../fs/snapshot/restorer.js";
import type { Snapshot } from "../fs/snapshot/snapshot.js";
import type { Clock } from "../lib/clock.js";
import { isStorageError, messageOf, operatingError, StorageError } from "../lib/errors.js";
import { GIB, MIB } from "../lib/units.js";
import type { LuDescription } from "../lu/lu.js";
import { isScratchTrouble } from "../pagestore/scratch.js";
import type { BlockInspector, Group } from "../raid/contract.js";
import type { ChangeLock } from "./change-lock.js";
import { compareCopies } from "./compare-copies.js";
import type { EventLog } from "./event-log.js";
import { EXPORTS_SETTING, ExportBook } from "./export-book.js";
import { isServing, type Kept, mayBeReadable, rowOf, troubleOf } from "./kept-file-system.js";
import type { ExportSink, FileSystemEvent, FileSystemLus, NewRoot, ServedFileSystem, StorageLayers } from "./layers.js";
import { Remounter } from "./remounter.js";
import type { CheckReport, FileSystemRow, FilesPage } from "./types.js";

export interface KeeperOptions {
  readonly layers: StorageLayers;
  readonly events: EventLog;
  readonly exports: ExportSink;
  /** Held by every operation that changes something, here and in the cabinet. */
  readonly changing: ChangeLock;
  readonly group: (name: string | undefined) => Group;
  readonly clock: Clock;
  /** One has ended its service for a reason of this node's own; called before anything that waits for it gets its error. */
  readonly onHindered?: ((group: string, why: string) => void) | undefined;
}

export interface CreateFileSystem {
  readonly name: string;
  readonly group?: string | undefined;
  /** Of the data LU; the metadata LU is always RAID-1. */
  readonly level: 1 | 5;
  readonly sizeBytes: number | "max";
  readonly metadataBytes?: number | undefined;
  readonly root: NewRoot;
}

/** What a backup is made of. */
export interface BackupSubject {
  readonly name: string;
  /** Of the data LU. */
  readonly uuid: string;
  readonly level: 1 | 5;
  readonly sizeBytes: number;
  readonly metadataBytes: number;
  /** Of the data LU, now. */
  readonly usedBytes: number;
  snapshot(): Promise<Snapshot>;
}

/** Setting of a file system that a backup is being put into, or was until that broke off: it is not served. */
const REFILLING = "restoring";
const HALF_RESTORED = "restoring a backup into it broke off: restore it once more";

/** File system `data` keeps its files on LU `data` and its page store on LU `data.meta`. */
export function metadataLuName(name: string): string {
  return `${name}.meta`;
}

/**
 * Usable size of the metadata LU: 6 % of the raw space it will describe, which is about one file per 8 KiB of data. At least
 * 64 MiB, so that a small rig can hold many small files; at most 32 GiB, as a large store holds larger files.
 */
export function metadataBytesFor(rawBytes: number): number {
  return Math.min(Math.max(Math.ceil(rawBytes * 0.06), 64 * MIB), 32 * GIB);
}

const EVENT_TEXTS: Readonly<Record<string, string>> = {
  failed: "a commit could not be written, its service has ended",
  "no-room":
    "there is no room for the copy of its metadata in the state directory: nothing is created or written until there is",
  room: "there is room for the copy of its metadata again",
  healed: "a bad block was rebuilt from the other disks and rewritten",
  unreadable: "a block is bad and could not be rebuilt",
  "write-failed": "data could not be written, it stays in memory and is tried again",
};

/** The file systems of a cabinet: found by the names of their LUs, mounted, checked, exported. */
export class FileSystemKeeper {
  readonly #kept = new Map<string, Kept>();
  readonly #refilling = new Set<string>();
  /** File systems that were here and are not now, with their groups: let go, or taken down to be tried again. */
  readonly #away = new Map<string, string>();
  readonly exports: ExportBook;
  readonly #remounter: Remounter;

  constructor(private readonly options: KeeperOptions) {
    this.#remounter = new Remounter(options.clock, (name) => this.#remount(name));
    this.exports = new ExportBook(
      options.exports,
      options.changing,
      (name) => this.#served(name),
      () => [...this.#kept.values()].map((kept) => ({ name: kept.name, served: isServing(kept) ? kept.served : null })),
    );
  }

  rows(): FileSystemRow[] {
    return [...this.#kept.values()].map(rowOf);
  }

  /** Those that are served. */
  mounted(): { name: string; served: ServedFileSystem }[] {
    return [...this.#kept.values()].filter(isServing).map(({ name, served }) => ({ name, served }));
  }

  statistics(): ReadonlyMap<string, Readonly<Record<string, number>>> {
    return new Map(this.mounted().map(({ name, served }) => [name, served.statistics()]));
  }

  /** Name of the file system that stands on an LU. */
  userOf(group: string, lu: string): string | undefined {
    const kept = this.#kept.get(lu.replace(/\.meta$/, ""));
    return kept?.group === group ? kept.name : undefined;
  }

  /** Who knows the blocks of a group's LUs, by LU number: its mounted file systems. */
  inspectors(group: string): ReadonlyMap<number, BlockInspector> {
    const on = [...this.#kept.values()].filter((kept) => kept.group === group && kept.stopped !== true);
    return new Map(on.flatMap(({ served }) => [...(served?.inspectors() ?? [])]));
  }

  /** Write out what waits in memory, while it serves. */
  async settle(group: Group): Promise<void> {
    const { name } = group.describe();
    const on = [...this.#kept.values()].filter((kept) => kept.group === name && kept.stopped !== true);
    await Promise.all(on.map(({ served }) => served?.settle()));
  }

  /** An LU has become larger: the file system on it, if any is mounted, uses all of it when this resolves. */
  async grow(group: string, lu: string): Promise<void> {
    const name = this.userOf(group, lu);
    if (name === undefined) return;
    const { served, stopped } = this.#find(name);
    if (stopped !== true) await served?.grow();
  }

  /** Mount what is there and not mounted. What fails is kept with its reason; it does not stop the rest. */
  async mountAll(group: Group): Promise<void> {
    const { name: groupName, state, lus } = group.describe();
    this.#forgetDeleted(groupName, lus);
    for (const data of lus) {
      const metadata = lus.find(({ name }) => name === metadataLuName(data.name));
      if (metadata === undefined) continue;
      const known = this.#kept.get(data.name);
      if (known?.served != null && known.group === groupName) continue;
      if (known !== undefined && known.group !== groupName) this.#reportTwins(data.name, groupName);
      else if (state === "failed") this.#keepBroken(data, groupName, "its group has failed");
      else await this.#mountOrKeep(group, data, metadata);
    }
  }

  create(wanted: CreateFileSystem): Promise<FileSystemRow> {
    return this.options.changing.run(async () => {
      if (this.#kept.has(wanted.name)) throw new StorageError("EEXIST", `file system ${wanted.name} exists already`);
      const group = this.options.group(wanted.group);
      const [data, metadata] = await this.#createLus(group, wanted);
      try {
        const lus = openBoth(group, data, metadata);
        await this.options.layers.formatFileSystem(wanted.name, lus, wanted.root).finally(() => closeBoth(lus));
        await this.#mount(group, data, metadata);
      } catch (error) {
        await deleteQuietly(group, [data, metadata]);
        throw error;
      }
      this.options.events.add({
        severity: "info",
        kind: "file-system-created",
        what: `file system ${wanted.name} created`,
        detail: { fileSystem: wanted.name, group: group.describe().name },
      });
      return rowOf(this.#find(wanted.name));
    });
  }

  async check(name: string, options: { readonly data: boolean }): Promise<CheckReport> {
    // First: to read a block through the file system heals it, and then nobody could say what was bad.
    const compared = options.data ? await compareCopies(this.#lusOf(this.#find(name)), this.#served(name)) : null;
    const found = await this.#served(name).check(options);
    const problems = [...found.problems, ...(compared?.problems ?? [])];
    const notes = compared === null ? {} : { notes: compared.notes };
    const report = { ...found, ...notes, name, problems, clean: problems.length === 0 };
    this.options.events.add({
      severity: report.clean ? "info" : "error",
      kind: "file-system-checked",
      what: report.clean
        ? `file system ${name} is clean`
        : `file system ${name} has ${report.problems.length} problems`,
      detail: { fileSystem: name },
    });
    return report;
  }

  async files(name: string, after: string | null, limit: number): Promise<FilesPage> {
    return this.#served(name).listFiles(after, limit);
  }

  /** @throws StorageError ENOENT, EIO (not mounted) */
  backupSubject(name: string): BackupSubject {
    const served = this.#served(name);
    const { level, lus } = this.#find(name);
    if (lus === undefined) throw new StorageError("EIO", `file system ${name} is not mounted`);
    const { uuid, sizeBytes } = lus.dataLu.description;
    const metadataBytes = lus.metadataLu.description.sizeBytes;
    const { totalBytes, freeBytes } = served.fileSystem.space();
    const usedBytes = Math.max(0, totalBytes - freeBytes);
    return { name, uuid, level, sizeBytes, metadataBytes, usedBytes, snapshot: () => served.snapshot() };
  }

  /** @throws StorageError ENOENT, EIO (not mounted), EEXIST (not empty), EBUSY (being filled) */
  requireFillable(name: string): void {
    const kept = this.#find(name);
    if (this.#refilling.has(name)) throw new StorageError("EBUSY", `a backup is being restored into ${name} already`);
    if (kept.refilling === true || this.#served(name).isEmpty()) return;
    const what = "is not empty: a backup is restored into a new or an empty one";
    throw new StorageError("EEXIST", `file system ${name} ${what}`);
  }

  /**
   * Fill an empty file system from a backup, or one whose last filling broke off. It is made anew, served to nobody meanwhile, and served
   * again when it is whole and proven to be consistent.
   * @throws StorageError EEXIST (not empty), EBUSY (being filled), EIO, and what `fill` throws: it stays out of service then
   */
  async refill(name: string, fill: (restorer: Restorer) => Promise<void>): Promise<void> {
    this.requireFillable(name);
    this.#refilling.add(name);
    try {
      const kept = await this.options.changing.run(() => this.#empty(name));
      await fill(must(kept.served).restorer());
      await this.options.changing.run(() => this.#serveFilled(kept));
    } catch (error) {
      const kept = this.#kept.get(name);
      if (kept?.refilling === true) kept.reason = HALF_RESTORED;
      throw error;
    } finally {
      this.#refilling.delete(name);
    }
  }

  /** Before a failed group is taken apart: its file systems are let go, as far as that goes. */
  async forget(group: Group): Promise<void> {
    const { name } = group.describe();
    const on = [...this.#kept.values()].filter((kept) => kept.group === name);
    await Promise.allSettled(on.map((kept) => this.#unmount(kept)));
  }

  /** All of them, each tried; the first error is thrown at the end. */
  async close(): Promise<void> {
    this.#remounter.end();
    const results = await Promise.allSettled([...this.#kept.values()].map((kept) => this.#unmount(kept)));
    for (const result of results) if (result.status === "rejected") throw result.reason;
  }

  /** Made anew, with the settings that are its own, and marked. */
  async #empty(name: string): Promise<Kept> {
    const known = this.#find(name);
    // Once more: what came in between would be lost.
    if (known.refilling !== true && !this.#served(name).isEmpty())
      throw new StorageError("EEXIST", `file system ${name} is not empty any more`);
    const exports = must(known.served).getSetting(EXPORTS_SETTING);
    const [group, data, metadata] = this.#lusOf(known);
    await this.#unmount(known);
    try {
      const lus = openBoth(group, data, metadata);
      const root = { mode: 0o755, uid: 0, gid: 0 };
      await this.options.layers.formatFileSystem(name, lus, root).finally(() => closeBoth(lus));
      const anew = await this.#open(group, data, metadata);
      await anew.setSetting(REFILLING, "yes");
      if (exports !== null) await anew.setSetting(EXPORTS_SETTING, exports);
      this.#keep({ ...this.#find(name), refilling: true, reason: "a backup is being restored into it" });
      return this.#find(name);
    } catch (error) {
      if (!this.#kept.has(name)) this.#keepBroken(data, known.group, messageOf(error));
      throw error;
    }
  }

  /** What was filled past all caches is mounted anew, proven, and only then served. */
  async #serveFilled(filled: Kept): Promise<void> {
    const { name } = filled;
    if (this.#kept.get(name) !== filled)
      throw new StorageError("EIO", `file system ${name} has left while it was filled`);
    const [group, data, metadata] = this.#lusOf(filled);
    await this.#unmount(filled);
    await this.#mountOrKeep(group, data, metadata);
    const kept = this.#find(name);
    const { clean, problems } = await must(kept.served).check({ data: false });
    if (!clean) throw new StorageError("EIO", `what was restored is not consistent: ${problems[0] ?? "unknown"}`);
    const served = must(kept.served);
    await served.setSetting(REFILLING, "");
    this.#keep({ ...kept, refilling: false, reason: null });
    this.exports.publish(served);
  }

  #lusOf({ name, group: groupName }: Kept): [Group, LuDescription, LuDescription] {
    const group = this.options.group(groupName);
    const { lus } = group.describe();
    const data = lus.find((lu) => lu.name === name);
    const metadata = lus.find((lu) => lu.name === metadataLuName(name));
    if (data === undefined || metadata === undefined) throw new StorageError("EIO", `an LU of ${name} is gone`);
    return [group, data, metadata];
  }

  /** LUs of a group that were deleted: nobody need wait for what was on them. */
  #forgetDeleted(group: string, lus: readonly LuDescription[]): void {
    for (const [name, of] of this.#away) {
      if (of !== group || lus.some((lu) => lu.name === name)) continue;
      this.#away.delete(name);
      this.exports.forget(name);
    }
    this.#tellUnserved();
  }

  #keep(kept: Kept): void {
    this.#kept.set(kept.name, kept);
    this.#away.delete(kept.name);
    this.#tellUnserved();
  }

  #tellUnserved(): void {
    const waiting = [...this.#kept.values()].filter((kept) => !isServing(kept)).map(({ name }) => name);
    this.options.exports.setUnserved([...waiting, ...this.#away.keys()]);
  }

  async #unmount(kept: Kept): Promise<void> {
    this.#kept.delete(kept.name);
    this.#away.set(kept.name, kept.group);
    this.#tellUnserved();
    if (kept.served === null) return;
    this.options.exports.withdraw(kept.served.fileSystem);
    try {
      await kept.served.close();
    } finally {
      if (kept.lus !== undefined) await closeBoth(kept.lus);
    }
  }

  async #createLus(group: Group, wanted: CreateFileSystem): Promise<[LuDescription, LuDescription]> {
    const metadataBytes = wanted.metadataBytes ?? metadataBytesFor(rawBytesFor(group, wanted));
    // Both fit, or neither is made.
    group.checkLus([
      { name: metadataLuName(wanted.name), level: 1, sizeBytes: metadataBytes },
      { name: wanted.name, level: wanted.level, sizeBytes: wanted.sizeBytes },
    ]);
    const metadata = await group.createLu(metadataLuName(wanted.name), 1, metadataBytes);
    try {
      return [await group.createLu(wanted.name, wanted.level, wanted.sizeBytes), metadata];
    } catch (error) {
      await deleteQuietly(group, [metadata]);
      throw error;
    }
  }

  /**
   * What cannot be written is served for reading, where that can be done.
   * @param known  the reason that was told already
   * @param readOnly  why it is not even tried to write it
   */
  async #mountOrKeep(
    group: Group,
    data: LuDescription,
    metadata: LuDescription,
    { known = null, readOnly = null }: { known?: string | null; readOnly?: string | null } = {},
  ): Promise<void> {
    try {
      await this.#mount(group, data, metadata, readOnly);
    } catch (error) {
      if (operatingError(error) === null) throw error;
      if (readOnly === null && mayBeReadable(error) && group.describe().state !== "failed")
        return await this.#mountOrKeep(group, data, metadata, { known, readOnly: messageOf(error) });
      const hindered = isScratchTrouble(error);
      this.#keepBroken(data, group.describe().name, messageOf(error), { hindered, known });
      if (hindered) this.#remounter.later(data.name);
    }
  }

  /** Why this node does not serve a group's file systems as it should, for a reason of its own; null: nothing is in the way. */
  hindrance(group: string): string | null {
    for (const kept of this.#kept.values()) {
      if (kept.group !== group) continue;
      const why = kept.hindered === true ? kept.reason : isServing(kept) ? troubleOf(kept.served) : null;
      if (why !== null) return `file system ${kept.name}: ${why}`;
    }
    return null;
  }

  /** None of a group's file systems could be mounted here, and that is this node's fault. */
  isUseless(group: string): boolean {
    const on = [...this.#kept.values()].filter((kept) => kept.group === group);
    return on.length > 0 && on.every(({ hindered, served }) => hindered === true && served === null);
  }

  /** Once more. @returns whether that is all: it is served, or somebody else's business by now */
  async #remount(name: string): Promise<boolean> {
    let done = true;
    await this.options.changing.runUnlessEnded(async () => {
      const kept = this.#kept.get(name);
      // Taken down meanwhile, or mounted with its group.
      if (kept === undefined || isServing(kept) || kept.refilling === true) return;
      const lus = this.#findLus(kept);
      if (lus === null) return;
      const before = kept.reason;
      await this.#unmount(kept).catch((error: unknown) => {
        if (!isStorageError(error)) throw error;
      });
      // What began with this node passes; a commit that a sound node could not write is for an administrator.
      const readOnly = kept.hindered === true ? null : (kept.cause ?? null);
      await this.#mountOrKeep(...lus, { known: before, readOnly });
      const now = this.#find(name);
      done = isServing(now);
      if (done && now.readOnly !== true) this.#tellServed(now);
    });
    return done;
  }

  /**
   * Mount it anew: for reading and writing, when an administrator thinks that what stopped it is over, or for reading only.
   * @throws StorageError ENOENT, EEXIST (it is mounted so), EBUSY (being restored), EIO
   */
  remount(name: string, { readOnly }: { readonly readOnly: boolean }): Promise<FileSystemRow> {
    return this.options.changing.run(async () => {
      const kept = this.#find(name);
      if (kept.refilling === true || this.#refilling.has(name))
        throw new StorageError("EBUSY", `a backup is being restored into file system ${name}`);
      if (isServing(kept) && (kept.readOnly === true) === readOnly)
        throw new StorageError(
          "EEXIST",
          `file system ${name} is mounted for ${readOnly ? "reading only" : "reading and writing"} already`,
        );
      const lus = this.#findLus(kept);
      if (lus === null) throw new StorageError("EIO", `file system ${name} cannot be mounted: its group is not served`);
      await this.#unmount(kept).catch((error: unknown) => {
        if (operatingError(error) === null) throw error;
      });
      await this.#mountOrKeep(...lus, { readOnly: readOnly ? "an administrator wants it so" : null });
      const now = this.#find(name);
      if (!isServing(now)) throw new StorageError("EIO", `file system ${name} cannot be mounted: ${now.reason}`);
      if (now.readOnly !== true) this.#tellServed(now);
      return rowOf(now);
    });
  }

  /** null: its group is gone or has failed: whoever brings that back mounts what is on it. */
  #findLus(kept: Kept): [Group, LuDescription, LuDescription] | null {
    try {
      const lus = this.#lusOf(kept);
      return lus[0].describe().state === "failed" ? null : lus;
    } catch (error) {
      if (!isStorageError(error)) throw error;
      return null;
    }
  }

  #tellServed({ name, group }: Kept): void {
    this.options.events.add({
      ...{ severity: "info", kind: "file-system-served", what: `file system ${name} is served again` },
      detail: { fileSystem: name, group },
    });
  }

  async #mount(
    group: Group,
    data: LuDescription,
    metadata: LuDescription,
    readOnly: string | null = null,
  ): Promise<void> {
    const served = await this.#open(group, data, metadata, readOnly);
    if (this.#find(data.name).refilling !== true) this.exports.publish(served);
  }

  /** Mounted, and served to nobody yet. */
  async #open(
    group: Group,
    data: LuDescription,
    metadata: LuDescription,
    readOnly: string | null = null,
  ): Promise<ServedFileSystem> {
    const lus = openBoth(group, data, metadata);
    const onEvent = (event: FileSystemEvent) => this.#event(data.name, event);
    const mounting = this.options.layers.mountFileSystem(lus, onEvent, readOnly !== null);
    const served = await mounting.catch(async (error: unknown) => {
      await closeBoth(lus);
      throw error;
    });
    const refilling = served.getSetting(REFILLING) === "yes";
    const reason = refilling ? HALF_RESTORED : readOnly === null ? null : `read-only: ${readOnly}`;
    const { name } = data;
    const groupName = group.describe().name;
    const { level } = data;
    this.#keep({ name, group: groupName, level, served, reason, lus, refilling, readOnly: readOnly !== null });
    if (readOnly !== null && !refilling) {
      const what = `file system ${name} is served for reading only: ${readOnly}`;
      const detail = { fileSystem: name, group: groupName };
      this.options.events.add({ severity: "error", kind: "file-system-read-only", what, detail });
    }
    return served;
  }

  #keepBroken(
    data: LuDescription,
    group: string,
    reason: string,
    { hindered = false, known = null }: { hindered?: boolean; known?: string | null } = {},
  ): void {
    const before = this.#kept.get(data.name)?.reason ?? known;
    this.#keep({ name: data.name, group, level: data.level, served: null, reason, hindered });
    if (before === reason) return;
    this.options.events.add({
      severity: "error",
      kind: "file-system-failed",
      what: `file system ${data.name} is not served: ${reason}`,
      detail: { fileSystem: data.name, group },
    });
  }

  #reportTwins(name: string, group: string): void {
    this.options.events.add({
      severity: "error",
      kind: "file-system-failed",
      what: `file system ${name} of group ${group} is not served: another one has its name`,
      detail: { fileSystem: name, group },
    });
  }

  /** `failed`: the commit could not be made durable. Nothing more may be acknowledged, so its exports go at once. */
  #event(name: string, event: FileSystemEvent): void {
    const kept = this.#kept.get(name);
    const failed = event.kind === "failed";
    if (failed && kept?.served != null) {
      kept.stopped = true;
      const cause = event.detail.cause ?? event.detail.error;
      const why = cause === undefined ? "" : ` (${String(cause)})`;
      kept.hindered = event.detail.scratch === true;
      kept.reason = kept.hindered
        ? `${String(cause)}; it is served again when that has passed`
        : `a commit could not be written${why}; fs remount when the disks are well`;
      kept.cause =
        cause === undefined ? "a commit could not be written" : `a commit could not be written: ${String(cause)}`;
      this.options.exports.withdraw(kept.served.fileSystem);
      this.#tellUnserved();
      this.#remounter.later(name);
      if (kept.hindered) this.options.onHindered?.(kept.group, String(cause));
    }
    const { file } = event.detail;
    const where = typeof file === "string" ? `${file}: ` : "";
    this.options.events.add({
      severity: event.kind === "room" ? "info" : event.kind === "healed" ? "warning" : "error",
      kind: `file-system-${event.kind}`,
      what: `file system ${name}: ${where}${EVENT_TEXTS[event.kind] ?? event.kind}`,
      detail: { fileSystem: name, ...event.detail },
    });
  }

  #find(name: string): Kept {
    const kept = this.#kept.get(name);
    if (kept === undefined) throw new StorageError("ENOENT", `there is no file system ${name}`);
    return kept;
  }

  #served(name: string): ServedFileSystem {
    const kept = this.#find(name);
    if (!isServing(kept))
      throw new StorageError(
        "EIO",
        `file system ${name} is not ${kept.served === null ? "mounted" : "served"}: ${kept.reason}`,
      );
    return kept.served;
  }
}

function must(served: ServedFileSystem | null): ServedFileSystem {
  if (served === null) throw new StorageError("EIO", "the file system cannot be mounted");
  return served;
}

/** The raw space that the file system will take: what was asked for with its redundancy, or all that is free. */
function rawBytesFor(group: Group, wanted: CreateFileSystem): number {
  const { rowsFree, rowBytes, disks } = group.describe();
  if (wanted.sizeBytes === "max") return rowsFree * rowBytes * disks.length;
  const overhead = wanted.level === 1 ? 2 : disks.length / Math.max(1, disks.length - 1);
  return wanted.sizeBytes * overhead;
}

function openBoth(group: Group, data: LuDescription, metadata: LuDescription): FileSystemLus {
  return { dataLu: group.openLu(data.number), metadataLu: group.openLu(metadata.number) };
}

/** Whoever used them has flushed what counts, and has told what could not be. */
async function closeBoth({ dataLu, metadataLu }: FileSystemLus): Promise<void> {
  await Promise.allSettled([dataLu.close(), metadataLu.close()]);
}

/** Undo after another error, which is the one to be told. */
async function deleteQuietly(group: Group, lus: readonly LuDescription[]): Promise<void> {
  for (const lu of lus) await group.deleteLu(lu.number).catch(() => {});
}
