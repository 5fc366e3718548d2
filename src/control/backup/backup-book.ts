import { existsSync, readdirSync, rmSync } from "node:fs";
import path from "node:path";
import { z } from "zod";
import { makeFolder } from "../../lib/make-folder.js";
import type { StateFiles } from "../state-files.js";

const KEPT_MAX = 1000;

const text = z.string();
const bookedSchema = z.object({
  backup: text,
  kind: z.enum(["file-system", "shared"]),
  name: text,
  uuid: text,
  parent: text.nullable(),
  chain: text,
  /** Which backups follow each other: those by hand (""), or those of one schedule (its pattern). */
  series: text,
  time: text,
  target: text,
  bytes: z.number().nullable(),
  /** The data is with the target: whoever wrote it has said so. */
  finished: z.boolean(),
  verified: text.nullable(),
});

/** A backup that was begun here. */
export type BookedBackup = z.infer<typeof bookedSchema>;

/**
 * What this node has backed up, in its state directory: a list for people, and for the last of each series what it saw of each group of each
 * file, from which the next one tells what has changed. Lost, the next backup is a full one; no more than that.
 */
export class BackupBook {
  #rows: BookedBackup[];

  constructor(
    private readonly file: string,
    private readonly folder: string,
    private readonly stateFiles: StateFiles,
  ) {
    // What cannot be read is begun anew: the next backups are full ones.
    this.#rows = z.array(bookedSchema).safeParse(stateFiles.readJson(file)).data ?? [];
  }

  rows(): readonly BookedBackup[] {
    return this.#rows;
  }

  find(backup: string): BookedBackup | undefined {
    return this.#rows.find((row) => row.backup === backup);
  }

  /** The last one of a series that is with its target, and that another can add to. */
  last(uuid: string, series: string): BookedBackup | undefined {
    return this.#rows.findLast(
      (row) => row.uuid === uuid && row.series === series && row.finished && existsSync(this.seen(row.backup)),
    );
  }

  /** What a backup saw (group-digests.ts). */
  seen(backup: string): string {
    return path.join(this.folder, `${backup}.groups`);
  }

  /** Where a backup that begins notes what it sees. @throws StorageError EACCES: no room, read-only */
  makeFolder(): void {
    makeFolder(this.folder);
  }

  /** What it began from, when that is not simply what its parent saw. */
  base(backup: string): string {
    return path.join(this.folder, `${backup}.base`);
  }

  add(row: BookedBackup): void {
    this.#rows.push(row);
    this.#save();
  }

  change(backup: string, change: Partial<BookedBackup>): BookedBackup | undefined {
    this.#rows = this.#rows.map((row) => (row.backup === backup ? { ...row, ...change } : row));
    this.#save();
    return this.find(backup);
  }

  /** Their files are gone. */
  remove(backups: readonly string[]): void {
    this.#rows = this.#rows.filter(({ backup }) => !backups.includes(backup));
    this.#save();
  }

  /** Of each series the files of the last that is finished and the last that is not are wanted; no others, but those of `running`. */
  prune(running: ReadonlySet<string>): void {
    const wanted = new Set(running);
    for (const { uuid, series } of this.#rows) {
      const own = this.#rows.filter((row) => row.uuid === uuid && row.series === series);
      for (const finished of [true, false]) {
        const last = own.findLast((row) => row.finished === finished);
        if (last === undefined) continue;
        wanted.add(last.backup);
        // What a broken-off one began from is needed to go on from it.
        if (!finished && last.parent !== null) wanted.add(last.parent);
      }
    }
    for (const name of existsSync(this.folder) ? readdirSync(this.folder) : []) {
      if (!wanted.has(name.replace(/\..*$/, ""))) this.#drop(path.join(this.folder, name));
    }
  }

  #save(): void {
    this.#rows = this.#rows.slice(-KEPT_MAX);
    this.stateFiles.writeJson(this.file, "the list of backups", this.#rows);
  }

  /** Where files cannot be removed (read-only) it goes with a later backup. */
  #drop(file: string): void {
    try {
      rmSync(file, { force: true });
    } catch {
      // As above.
    }
  }
}
