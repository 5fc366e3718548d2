import { spawnSync } from "node:child_process";
import { closeSync, existsSync, ftruncateSync, mkdirSync, openSync, statfsSync } from "node:fs";
import { formatSize } from "../../lib/size.js";
import { CliError } from "../errors.js";
import { diskPath, type RigPaths, type RigRecord } from "./record.js";

/** Sparse files of the wanted size; one that is there already stays as it is. */
export function makeDiskFiles(paths: RigPaths, record: RigRecord): void {
  mkdirSync(paths.disks, { recursive: true });
  warnWhenTight(paths, record);
  for (let number = 1; number <= record.diskCount; number++) {
    const place = diskPath(paths, number);
    if (existsSync(place)) continue;
    const descriptor = openSync(place, "wx", 0o600);
    try {
      ftruncateSync(descriptor, record.diskBytes);
    } finally {
      closeSync(descriptor);
    }
  }
}

/** Sparse files take space only as they fill; say so when they could not all fill. */
function warnWhenTight({ disks }: RigPaths, { diskBytes, diskCount }: RigRecord): void {
  const { bavail, bsize } = statfsSync(disks);
  const wanted = diskBytes * diskCount;
  if (bavail * bsize >= wanted) return;
  process.stderr.write(
    `stripeward: warning: the disks may grow to ${formatSize(wanted)}, but only ${formatSize(bavail * bsize)} is free in ${disks}\n`,
  );
}

/** The rig's disk files that are there. */
export function presentDisks(paths: RigPaths, record: RigRecord): string[] {
  return allDisks(paths, record).filter((place) => existsSync(place));
}

export function allDisks(paths: RigPaths, record: RigRecord): string[] {
  return Array.from({ length: record.diskCount }, (_, i) => diskPath(paths, i + 1));
}

/** Loop device of each file that is there; one that is attached already is used again. */
export function attachLoops(paths: RigPaths, record: RigRecord): string[] {
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
