/**
 * What a benchmark makes, it takes away again, also after an error and after Ctrl-C: each step that makes something leaves its
 * undoing here. Processes, mounts and loop devices outlive the process that made them, so that nothing else would.
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";

type Step = () => void | Promise<void>;

export class Undo {
  readonly #steps: { what: string; step: Step }[] = [];

  add(what: string, step: Step): void {
    this.#steps.push({ what, step });
  }

  /** In reverse order. A step that fails is reported, and the others still run. */
  async all(): Promise<void> {
    for (let next = this.#steps.pop(); next !== undefined; next = this.#steps.pop()) {
      try {
        await next.step();
      } catch (error) {
        console.error(`bench: cannot ${next.what}: ${(error as Error).message}`);
        process.exitCode = 1;
      }
    }
  }
}

/** The children of the moment: on a signal they end first, then everything is undone. */
const children = new Set<ChildProcess>();

export function stopChildren(): void {
  for (const child of children) child.kill("SIGTERM");
}

/** A program in a process group of its own, so that a terminal's Ctrl-C reaches only this process, which then stops it in order. */
export function start(file: string, args: readonly string[], options: { stderr?: "inherit" | "ignore" } = {}) {
  return spawn(file, args, { detached: true, stdio: ["ignore", "pipe", options.stderr ?? "inherit"] });
}

export async function output(file: string, args: readonly string[]): Promise<string> {
  const child = start(file, args);
  children.add(child);
  const chunks: Buffer[] = [];
  child.stdout.on("data", (chunk: Buffer) => chunks.push(chunk));
  try {
    const [status, signal] = (await once(child, "close")) as [number | null, string | null];
    if (status !== 0) throw new Error(`${file} ended with ${signal ?? `status ${status}`}`);
    return Buffer.concat(chunks).toString();
  } finally {
    children.delete(child);
  }
}

/** A short command that must succeed; its error says what it said. */
export function must(file: string, ...args: string[]): string {
  try {
    return execFileSync(file, args, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] }).trim();
  } catch (error) {
    const { stderr } = error as { stderr?: string };
    throw new Error(`${file} ${args.join(" ")}: ${(stderr ?? "").trim() || (error as Error).message}`);
  }
}

export const pause = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

/** SIGTERM, and SIGKILL when that is not heard. */
export async function stop(child: ChildProcess, patienceMs = 20_000): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, "exit");
  child.kill("SIGTERM");
  const timer = setTimeout(() => child.kill("SIGKILL"), patienceMs);
  await exited;
  clearTimeout(timer);
}
