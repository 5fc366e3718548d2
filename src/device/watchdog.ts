import { closeSync, openSync, readFileSync, writeSync } from "node:fs";
import path from "node:path";
import { StorageError } from "../lib/errors.js";
import { errnoOf } from "./errno.js";

const SYSFS = "/sys/class/watchdog";
/** Any byte but `V` is a sign of life; `V` right before the close disarms, where the driver allows it (Linux, Documentation/watchdog/watchdog-api.rst). */
const SIGN = "\n";
const DISARM = "V";

/**
 * A watchdog of the machine: once armed, it resets the machine when there is no sign of life for as long as its timeout. It does what a process cannot do to
 * itself while it is stopped. Each call is one small system call that does not wait.
 */
export class Watchdog {
  #fd: number | null = null;

  private constructor(
    readonly path: string,
    readonly timeoutSeconds: number,
  ) {}

  /**
   * Find out how it is set; nothing is armed.
   * @throws StorageError ENXIO when there is no such watchdog; EINVAL when it would fire later than `secondsMax`
   */
  static find(place: string, secondsMax: number, sysfs = SYSFS): Watchdog {
    const base = path.basename(place);
    const name = base === "watchdog" ? "watchdog0" : base;
    const timeoutSeconds = readTimeout(path.join(sysfs, name, "timeout"));
    if (timeoutSeconds === null) throw new StorageError("ENXIO", `${place} is no watchdog that this kernel has`);
    if (timeoutSeconds <= secondsMax) return new Watchdog(place, timeoutSeconds);
    const text = `${place} fires after ${timeoutSeconds} s, later than the lease of ${secondsMax} s: set its driver to less, or the lease to more`;
    throw new StorageError("EINVAL", text);
  }

  get armed(): boolean {
    return this.#fd !== null;
  }

  /** Arms it when it is not. @throws StorageError EACCES, EBUSY (another process has it), EIO */
  live(): void {
    try {
      this.#fd ??= openSync(this.path, "w");
      writeSync(this.#fd, SIGN);
    } catch (error) {
      throw watchdogError(this.path, error);
    }
  }

  /** Nothing happens when it is not armed. */
  disarm(): void {
    const fd = this.#fd;
    if (fd === null) return;
    this.#fd = null;
    try {
      writeSync(fd, DISARM);
    } finally {
      closeSync(fd);
    }
  }
}

function readTimeout(file: string): number | null {
  try {
    const seconds = Number(readFileSync(file, "latin1").trim());
    return Number.isInteger(seconds) && seconds > 0 ? seconds : null;
  } catch {
    return null;
  }
}

function watchdogError(place: string, error: unknown): StorageError {
  const errno = errnoOf(error);
  if (errno === "EBUSY") return new StorageError("EBUSY", `${place} is in use by another process`);
  if (errno === "EACCES" || errno === "EPERM")
    return new StorageError("EACCES", `${place} cannot be opened: no permission`);
  return new StorageError("EIO", `${place} cannot be written: ${errno}`);
}
