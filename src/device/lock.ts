import { readFile } from "node:fs/promises";
import { flock } from "fs-ext";
import { StorageError } from "../lib/errors.js";
import { errnoOf } from "./errno.js";

export type LockKind = "exclusive" | "shared";

/** Where a file is, as /proc/locks counts: the device of its file system and its inode. From a stat with `bigint: true`. */
export interface FileIdentity {
  readonly dev: bigint;
  readonly ino: bigint;
}

/**
 * Take the lock of a disk, without waiting (flock(2)). It belongs to the open file description: closing the descriptor, or the end of
 * the process by whatever means, releases it, and two opens conflict even within one process.
 * @throws StorageError EBUSY naming the holder as far as it can be seen
 */
export async function lockFile(fd: number, path: string, kind: LockKind, where: FileIdentity): Promise<void> {
  const error = await tryFlock(fd, kind);
  if (error === null) return;
  if (errnoOf(error) !== "EAGAIN" && errnoOf(error) !== "EWOULDBLOCK") {
    throw new StorageError("EIO", `cannot lock ${path} (${errnoOf(error)})`, { device: path }, error);
  }
  throw await inUseError(path, where);
}

export async function inUseError(path: string, where: FileIdentity): Promise<StorageError> {
  const pid = await lockHolder(where);
  const holder = pid === null ? "another process" : await describeProcess(pid);
  return new StorageError("EBUSY", `disk ${path} is in use by ${holder}`, { device: path, pid });
}

function tryFlock(fd: number, kind: LockKind): Promise<Error | null> {
  return new Promise((resolve) => flock(fd, kind === "exclusive" ? "exnb" : "shnb", resolve));
}

/** Who holds a flock on a file: its process id, or null when that cannot be seen (another PID namespace, no /proc). */
export async function lockHolder(where: FileIdentity): Promise<number | null> {
  const text = await readFile("/proc/locks", "latin1").catch(() => "");
  return findHolder(text, where);
}

/**
 * A line of /proc/locks (proc_locks(5)): `2: FLOCK  ADVISORY  WRITE 8561 fe:00:16638343 0 EOF`, where a `->` marks one who waits.
 * @returns the process id of the first holder; null when there is none, or it lives in another PID namespace (0 or less)
 */
export function findHolder(locks: string, where: FileIdentity): number | null {
  const wanted = `${hex(major(where.dev))}:${hex(minor(where.dev))}:${where.ino}`;
  for (const line of locks.split("\n")) {
    const [, type, , , pid, place] = line.trim().split(/\s+/);
    if (type !== "FLOCK" || place !== wanted) continue;
    return Number(pid) > 0 ? Number(pid) : null;
  }
  return null;
}

async function describeProcess(pid: number): Promise<string> {
  if (pid === process.pid) return `this process (${pid})`;
  const line = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "");
  const command = line.replaceAll("\0", " ").trim();
  if (command === "") return `process ${pid}`;
  return `process ${pid} (${command.length > 120 ? `${command.slice(0, 120)}…` : command})`;
}

/** dev_t as glibc packs it (gnu_dev_major(3)). */
export function major(dev: bigint): number {
  return Number(((dev >> 8n) & 0xfffn) | ((dev >> 32n) & 0xfffff000n));
}

export function minor(dev: bigint): number {
  return Number((dev & 0xffn) | ((dev >> 12n) & 0xffffff00n));
}

function hex(value: number): string {
  return value.toString(16).padStart(2, "0");
}
