import { closeSync, openSync, readFileSync, rmSync } from "node:fs";
import path from "node:path";
import { flockSync } from "fs-ext";
import { messageOf, StorageError } from "../lib/errors.js";
import { writeSmallFile } from "../lib/json-file.js";
import { makeFolder } from "../lib/make-folder.js";

/** The daemon's own folder: scratch copies, process id, disks added by hand. Nothing in it is needed to get at the data. */
export class StateDirectory {
  readonly scratch: string;
  readonly knownDisks: string;
  readonly drills: string;
  readonly backups: string;
  /** What backups saw of each file; see BackupBook. */
  readonly backupFolder: string;
  readonly #pid: string;

  private constructor(
    readonly path: string,
    private readonly lock: number,
  ) {
    this.scratch = StateDirectory.#inside(path, "scratch");
    this.knownDisks = StateDirectory.#inside(path, "known-disks.json");
    this.drills = StateDirectory.#inside(path, "drills.json");
    this.backups = StateDirectory.#inside(path, "backups.json");
    this.backupFolder = StateDirectory.#inside(path, "backups");
    this.#pid = StateDirectory.#inside(path, "stripeward.pid");
    makeFolder(this.scratch);
    writeSmallFile(this.#pid, `${process.pid}\n`);
  }

  static #inside(folder: string, name: string): string {
    return path.join(folder, name);
  }

  /** @throws StorageError EBUSY naming the daemon that works there; EACCES when it cannot be made; ENOSPC, EIO when nothing can be written there */
  static claim(folder: string): StateDirectory {
    let lock: number;
    try {
      makeFolder(folder);
      lock = openSync(path.join(folder, "lock"), "a", 0o600);
    } catch (error) {
      throw new StorageError("EACCES", `the state directory cannot be used: ${messageOf(error)}`);
    }
    try {
      flockSync(lock, "exnb");
    } catch {
      closeSync(lock);
      throw new StorageError("EBUSY", `another daemon${holder(folder)} works in the state directory ${folder}`);
    }
    try {
      return new StateDirectory(folder, lock);
    } catch (error) {
      closeSync(lock);
      throw error;
    }
  }

  release(): void {
    rmSync(this.#pid, { force: true });
    closeSync(this.lock);
  }
}

function holder(folder: string): string {
  try {
    return ` (process ${readFileSync(path.join(folder, "stripeward.pid"), "utf8").trim()})`;
  } catch {
    return "";
  }
}
