import { closeSync, existsSync, openSync, readFileSync, rmSync } from "node:fs";
import path from "node:path";
import { flockSync } from "fs-ext";
import { messageOf, StorageError } from "../lib/errors.js";
import { makeFolder } from "../lib/make-folder.js";

/** The daemon's own folder: scratch copies, process id, disks added by hand. Nothing in it is needed to get at the data. */
export class StateDirectory {
  readonly scratch: string;
  readonly knownDisks: string;
  readonly drills: string;
  readonly backups: string;
  /** What backups saw of each file; see BackupBook. */
  readonly backupFolder: string;
  /** Of the process id, which is written when there is room for it. */
  readonly pidFile: string;

  private constructor(
    readonly path: string,
    private readonly lock: number,
  ) {
    this.scratch = StateDirectory.#inside(path, "scratch");
    this.knownDisks = StateDirectory.#inside(path, "known-disks.json");
    this.drills = StateDirectory.#inside(path, "drills.json");
    this.backups = StateDirectory.#inside(path, "backups.json");
    this.backupFolder = StateDirectory.#inside(path, "backups");
    try {
      makeFolder(this.scratch);
    } catch {
      // No room, or read-only: whoever needs it says so.
    }
    this.pidFile = StateDirectory.#inside(path, "stripeward.pid");
  }

  static #inside(folder: string, name: string): string {
    return path.join(folder, name);
  }

  /** @throws StorageError EBUSY naming the daemon that works there; EACCES when it cannot be made; ENOSPC, EIO when nothing can be written there */
  static claim(folder: string): StateDirectory {
    let lock: number;
    try {
      makeFolder(folder);
      lock = openLock(path.join(folder, "lock"));
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
    rmSync(this.pidFile, { force: true });
    closeSync(this.lock);
  }
}

/** Where nothing can be made (no room, read-only) the one that is there does as well. */
function openLock(file: string): number {
  try {
    return openSync(file, "a", 0o600);
  } catch (error) {
    if (!existsSync(file)) throw error;
    return openSync(file, "r");
  }
}

function holder(folder: string): string {
  try {
    return ` (process ${readFileSync(path.join(folder, "stripeward.pid"), "utf8").trim()})`;
  } catch {
    return "";
  }
}
