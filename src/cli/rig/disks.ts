import { spawnSync } from "node:child_process";
import { closeSync, existsSync, ftruncateSync, openSync, statfsSync } from "node:fs";
import { makeFolder } from "../../lib/make-folder.js";
import { formatSize } from "../../lib/size.js";
import { MIB } from "../../lib/units.js";
import { CliError } from "../errors.js";
import { tell } from "../output.js";
import { diskPath, type RigPaths, type RigRecord, sharedPaths } from "./record.js";

/** The shared LU needs room for some records of eight nodes. */
const SHARED_BYTES = 64 * MIB;

/** Sparse files of the wanted size; one that is there already stays as it is. */
export function makeDiskFiles(paths: RigPaths, record: RigRecord): void {
  makeFolder(paths.disks);
  warnWhenTight(paths, record);
  for (const place of dataDisks(paths, record)) makeSparse(place, record.diskBytes);
  for (const place of sharedPaths(paths, record)) makeSparse(place, SHARED_BYTES);
}

function makeSparse(place: string, byteCount: number): void {
  if (existsSync(place)) return;
  const descriptor = openSync(place, "wx", 0o600);
  try {
    ftruncateSync(descriptor, byteCount);
  } finally {
    closeSync(descriptor);
  }
}

/** Sparse files take space only as they fill; say so when they could not all fill. */
function warnWhenTight({ disks }: RigPaths, { diskBytes, diskCount }: RigRecord): void {
  const { bavail, bsize } = statfsSync(disks);
  const wanted = diskBytes * diskCount;
  if (bavail * bsize >= wanted) return;
  tell(
    `stripeward: warning: the disks may grow to ${formatSize(wanted)}, but only ${formatSize(bavail * bsize)} is free in ${disks}`,
  );
}

/** The rig's disk files that are there. */
function presentDisks(paths: RigPaths, record: RigRecord): string[] {
  return allDisks(paths, record).filter((place) => existsSync(place));
}

/** Where a daemon finds the rig's disks: the data disks by number, then the shared LU and its backup. Loop devices are attached by it. */
export function rigDisks(paths: RigPaths, record: RigRecord): string[] {
  return record.loop ? attachLoops(paths, record) : allDisks(paths, record);
}

function allDisks(paths: RigPaths, record: RigRecord): string[] {
  return [...dataDisks(paths, record), ...sharedPaths(paths, record)];
}

function dataDisks(paths: RigPaths, { diskCount }: RigRecord): string[] {
  return Array.from({ length: diskCount }, (_, i) => diskPath(paths, i + 1));
}

/** Loop device of each file that is there; one that is attached already is used again. */
function attachLoops(paths: RigPaths, record: RigRecord): string[] {
  if (process.getuid?.() !== 0) throw new CliError("--loop needs root: only root may attach loop devices");
  return presentDisks(paths, record).map((place) => loopOf(place)[0] ?? losetup("--find", "--show", place).trim());
}

export function detachLoops(paths: RigPaths, record: RigRecord): void {
  for (const place of presentDisks(paths, record)) for (const loop of loopOf(place)) losetup("--detach", loop);
}

function loopOf(place: string): string[] {
  return losetup("--associated", place, "--noheadings", "--output", "NAME")
    .split("\n")
    .map((name) => name.trim())
    .filter((name) => name !== "");
}

function losetup(...args: readonly string[]): string {
  const { error, status, stdout, stderr } = spawnSync("losetup", args, { encoding: "utf8" });
  if (error !== undefined) throw new CliError(`losetup cannot be run: ${error.message}`);
  if (status !== 0) throw new CliError(stderr.trim().replace(/\s*\n\s*/g, " ") || "losetup failed");
  return stdout;
}
