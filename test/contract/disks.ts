import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";

/** A folder of its own for a test, and its removal. */
export function scratchFolder(): { readonly folder: string; remove(): void } {
  const folder = mkdtempSync(path.join(tmpdir(), "stripeward-device-"));
  return { folder, remove: () => rmSync(folder, { recursive: true, force: true }) };
}

export function makeSparse(file: string, byteCount: number): string {
  writeFileSync(file, "");
  truncateSync(file, byteCount);
  return file;
}

/** Null when loop devices can be made here, otherwise the reason why not. */
export function noLoopReason(): string | null {
  if (process.getuid?.() !== 0) return "not root";
  const probe = spawnSync("losetup", ["-f"], { encoding: "utf8" });
  if (probe.error) return "losetup is not installed";
  return probe.status === 0 ? null : probe.stderr.trim();
}

export interface Loop {
  readonly path: string;
  detach(): void;
}

/** A loop device on a file. Attached under its own number whatever other processes do: losetup retries when it loses the race. */
export function attachLoop(file: string, ...options: string[]): Loop {
  const run = spawnSync("losetup", ["-f", "--show", ...options, file], { encoding: "utf8" });
  if (run.status !== 0) throw new Error(`losetup: ${run.stderr}`);
  const device = run.stdout.trim();
  return { path: device, detach: () => void spawnSync("losetup", ["-d", device]) };
}
