import { type ChildProcess, fork } from "node:child_process";
import { fileURLToPath } from "node:url";

/**
 * Do `jobs` in child processes, a few at a time: a job is the arguments of this program, its result one message.
 * A child that dies takes its job with it: `died` makes a result of that.
 */
export async function inWorkers<Result>(
  jobs: readonly (readonly string[])[],
  count: number,
  onResult: (result: Result, job: number) => boolean,
  died: (what: string, job: number) => Result,
): Promise<void> {
  const rest = jobs.entries();
  let going = true;
  const lane = async (): Promise<void> => {
    for (const [job, args] of rest) {
      if (!going) return;
      const result = await inChild<Result>(args).catch((error: Error) => died(error.message, job));
      if (!onResult(result, job)) going = false;
    }
  };
  await Promise.all(Array.from({ length: Math.min(count, jobs.length) }, lane));
}

function inChild<Result>(args: readonly string[]): Promise<Result> {
  return new Promise((resolve, reject) => {
    const child: ChildProcess = fork(fileURLToPath(new URL("main.js", import.meta.url)), [...args]);
    child.once("message", (message) => resolve(message as Result));
    child.once("error", reject);
    child.once("exit", (code, signal) => reject(new Error(`a worker ended with ${signal ?? code}`)));
  });
}
