import { execFile } from "node:child_process";
import { StorageError } from "../lib/errors.js";

export interface CommandOptions {
  readonly timeMsMax: number;
  /** Given to it on standard input. */
  readonly input?: string;
  /** What it is for, for the sentence that says that it failed. */
  readonly what: string;
}

/**
 * Run an executable that the configuration names.
 * @returns what it wrote on standard output
 * @throws StorageError EIO with the first line of what it said when its status is not 0
 */
export function runCommand(executable: string, args: readonly string[], options: CommandOptions): Promise<string> {
  const { timeMsMax, input = "", what } = options;
  return new Promise((resolve, reject) => {
    const child = execFile(executable, args, { timeout: timeMsMax }, (error, stdout, stderr) => {
      if (error === null) resolve(stdout);
      else reject(new StorageError("EIO", `${what}: ${stderr.trim().split("\n")[0] || error.message}`));
    });
    child.stdin?.on("error", () => {});
    child.stdin?.end(input);
  });
}
