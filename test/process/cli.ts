import path from "node:path";
import { fileURLToPath } from "node:url";
import { type CommandResult, command } from "../support/rig.js";

const CLI = path.join(path.dirname(fileURLToPath(import.meta.url)), "../../src/cli/main.js");

/** The real command line as a child process. */
export function cli(...args: readonly string[]): Promise<CommandResult> {
  return command(process.execPath, [CLI, ...args], 60_000);
}
