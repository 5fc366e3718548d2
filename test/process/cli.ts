import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { type CommandResult, command } from "../support/rig.js";

const CLI = path.join(path.dirname(fileURLToPath(import.meta.url)), "../../src/cli/main.js");

/** The real command line as a child process. */
export function cli(...args: readonly string[]): Promise<CommandResult> {
  return command(process.execPath, [CLI, ...args], 60_000);
}

/** Resolves when this process has ended, whether or not somebody has asked for its status. */
export async function gone(pid: number): Promise<void> {
  while (existsSync(`/proc/${pid}`) && !readFileSync(`/proc/${pid}/stat`, "latin1").includes(") Z ")) await sleep(20);
}
