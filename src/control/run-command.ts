import { type ChildProcess, execFile } from "node:child_process";
import { messageOf, StorageError } from "../lib/errors.js";

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
    const fail = (why: string, cause: unknown) => reject(new StorageError("EIO", `${what}: ${why}`, {}, cause));
    let child: ChildProcess;
    try {
      child = execFile(executable, args, { timeout: timeMsMax }, (error, stdout, stderr) => {
        if (error === null) resolve(stdout);
        else fail(stderr.trim().split("\n")[0] || error.message, error);
      });
    } catch (error) {
      // Some errors of fork and exec (ENOMEM, EPERM, E2BIG) are thrown, and not told to the callback.
      fail(messageOf(error), error);
      return;
    }
    child.stdin?.on("error", () => {});
    child.stdin?.end(input);
  });
}
