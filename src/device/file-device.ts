import fs, { type BigIntStats, constants as flags } from "node:fs";
import { readFile } from "node:fs/promises";
import { seek } from "fs-ext";
import { StorageError } from "../lib/errors.js";
import type { Logger } from "../lib/log.js";
import { formatSizes } from "../lib/size.js";
import { BLOCK_BYTES, roundDown } from "../lib/units.js";
import type { BlockDevice } from "./device.js";
import { errnoOf } from "./errno.js";
import { closeFd, FileDevice } from "./file-io.js";
import { claimedError } from "./in-use.js";
import { lockFile, major, minor } from "./lock.js";

/** lseek(2). */
const SEEK_END = 2;

/**
 * read-write-exclusive: a member of a group. Block devices are claimed from the kernel too (O_EXCL): a mounted one is refused.
 * read-write-shared: a member of a shared group; other shared openers are let in, exclusive ones are not.
 * read-write-unlocked: for the reserved area alone, of which each node writes its own blocks.
 * read-only: whoever only looks or follows; no lock at all.
 */
export type OpenMode = "read-write-exclusive" | "read-write-shared" | "read-write-unlocked" | "read-only";

export interface OpenOptions {
  readonly mode: OpenMode;
  /** O_DIRECT: past the page cache, in multiples of 4096. */
  readonly direct?: boolean | undefined;
  /** Smaller is refused; by default one block. */
  readonly minimumBytes?: number | undefined;
  /** See OpenFile. */
  readonly onBounce?: (() => void) | undefined;
  readonly log: Logger;
}

/**
 * Open a plain file, loop device or block device.
 * @throws StorageError, one clear sentence each: ENOENT (does not exist), ENODEV (is not a disk), EACCES, EBUSY (in use, by whom),
 *   EINVAL (too small), EROFS, ENXIO (nothing behind the device), ENOTSUP (no direct I/O there), EIO
 */
export async function openFileDevice(path: string, options: OpenOptions): Promise<BlockDevice> {
  const before = await statDisk(path);
  if (options.mode !== "read-only") await checkWriteProtection(path, before);
  const opened: number[] = [];
  const open = async (extra: number): Promise<number> => {
    const fd = await openFd(path, before, options, extra);
    opened.push(fd);
    return fd;
  };
  try {
    const exclusive = options.mode === "read-write-exclusive";
    const fd = await open(exclusive && before.isBlockDevice() ? flags.O_EXCL : 0);
    const found = await statFd(fd);
    checkSame(path, before, found);
    if (options.mode === "read-write-exclusive" || options.mode === "read-write-shared")
      await lockFile(fd, path, exclusive ? "exclusive" : "shared", found);
    const sizeBytes = await sizeOf(fd, path, options.minimumBytes ?? BLOCK_BYTES);
    const syncFd = options.mode === "read-only" ? null : await open(flags.O_DSYNC);
    if (syncFd !== null) checkSame(path, found, await statFd(syncFd));
    const direct = options.direct ?? false;
    options.log.debug({ device: path, sizeBytes, direct, mode: options.mode }, "disk opened");
    return new FileDevice({ name: path, sizeBytes, fd, syncFd, direct, log: options.log, onBounce: options.onBounce });
  } catch (error) {
    for (const fd of opened) await closeFd(fd);
    throw error;
  }
}

/** Looked at before it is opened: opening a FIFO would wait for its other end, opening a character device may do anything. */
async function statDisk(path: string): Promise<BigIntStats> {
  const stats = await statPath(path).catch((error: unknown) => {
    throw openError(path, error);
  });
  const kind = kindOf(stats);
  if (kind !== null) throw new StorageError("ENODEV", `${path} is ${kind}, not a disk`, { device: path });
  return stats;
}

function kindOf(stats: BigIntStats): string | null {
  if (stats.isFile() || stats.isBlockDevice()) return null;
  if (stats.isDirectory()) return "a directory";
  if (stats.isCharacterDevice()) return "a character device";
  if (stats.isFIFO()) return "a FIFO";
  return stats.isSocket() ? "a socket" : "something else";
}

/** The kernel lets a write-protected block device be opened for writing and refuses the writes: better said now. */
async function checkWriteProtection(path: string, stats: BigIntStats): Promise<void> {
  if (!stats.isBlockDevice()) return;
  const number = `${major(stats.rdev)}:${minor(stats.rdev)}`;
  const flag = await readFile(`/sys/dev/block/${number}/ro`, "latin1").catch(() => "");
  if (flag.trim() === "1") throw new StorageError("EROFS", `disk ${path} is read-only`, { device: path });
}

function openFd(path: string, stats: BigIntStats, options: OpenOptions, extra: number): Promise<number> {
  const mode = options.mode === "read-only" ? flags.O_RDONLY : flags.O_RDWR;
  const direct = options.direct === true ? flags.O_DIRECT : 0;
  return new Promise((resolve, reject) => {
    fs.open(path, mode | direct | extra, (error, fd) => {
      if (error === null) resolve(fd);
      else if (errnoOf(error) === "EBUSY") claimedError(path, stats, stats.rdev).then(reject, reject);
      else reject(openError(path, error, options.direct === true));
    });
  });
}

function openError(path: string, error: unknown, direct = false): StorageError {
  const errno = errnoOf(error);
  const detail = { device: path, errno };
  switch (errno) {
    case "ENOENT":
    case "ENOTDIR":
      return new StorageError("ENOENT", `disk ${path} does not exist`, detail, error);
    case "EACCES":
    case "EPERM":
      return new StorageError("EACCES", `no permission to open disk ${path}`, detail, error);
    case "EROFS":
      return new StorageError("EROFS", `disk ${path} is read-only`, detail, error);
    case "ETXTBSY":
      return new StorageError("EBUSY", `disk ${path} is in use as swap space or as a program`, detail, error);
    case "ENXIO":
    case "ENODEV":
    case "ENOMEDIUM":
      return new StorageError("ENXIO", `there is no device behind ${path}`, detail, error);
    default:
      if (errno === "EINVAL" && direct)
        return new StorageError("ENOTSUP", `direct I/O is not possible on ${path}`, detail, error);
      return new StorageError("EIO", `cannot open disk ${path} (${errno})`, detail, error);
  }
}

/** Between looking and opening, another file may have taken the name. */
function checkSame(path: string, a: BigIntStats, b: BigIntStats): void {
  if (a.dev === b.dev && a.ino === b.ino && a.rdev === b.rdev) return;
  throw new StorageError("EBUSY", `${path} was replaced while it was being opened`, { device: path });
}

/** By seeking to the end: fstat says 0 for a block device. Rounded down to whole blocks. */
async function sizeOf(fd: number, path: string, minimumBytes: number): Promise<number> {
  const end = await new Promise<number>((resolve, reject) => {
    seek(fd, 0, SEEK_END, (error, position) => (error ? reject(openError(path, error)) : resolve(position)));
  });
  const sizeBytes = roundDown(end, BLOCK_BYTES);
  if (sizeBytes >= minimumBytes) return sizeBytes;
  const [has, wants] = formatSizes(end, minimumBytes);
  const text = `disk ${path} is too small: ${has}, needed are ${wants}`;
  throw new StorageError("EINVAL", text, { device: path, sizeBytes: end, minimumBytes });
}

function statPath(path: string): Promise<BigIntStats> {
  return new Promise((resolve, reject) => {
    fs.stat(path, { bigint: true }, (error, stats) => (error ? reject(error) : resolve(stats)));
  });
}

function statFd(fd: number): Promise<BigIntStats> {
  return new Promise((resolve, reject) => {
    fs.fstat(fd, { bigint: true }, (error, stats) => (error ? reject(error) : resolve(stats)));
  });
}
