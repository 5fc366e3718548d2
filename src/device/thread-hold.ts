import { closeSync, mkdtempSync, openSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { flock, flockSync } from "fs-ext";

/** A file that is open twice: whoever locks it the second time waits until the first lets go. */
interface Latch {
  readonly holder: number;
  readonly waiter: number;
}

/**
 * Holds a thread of libuv's pool for a while, as a disk does that is slow to answer: the thread stands in flock(2). A timer would hold none, and hide what
 * a slow disk does to everybody else.
 */
export class ThreadHold {
  readonly #free: Latch[] = [];
  readonly #held = new Set<Latch>();
  #folder: string | null = null;

  /** Resolves after so long, or later when no thread was free. Should no latch be had (no file can be made), only time passes. */
  hold(ms: number): Promise<void> {
    const latch = this.#take();
    if (latch === null) return new Promise((resolve) => void setTimeout(resolve, ms));
    const { holder, waiter } = latch;
    flockSync(holder, "ex");
    this.#held.add(latch);
    setTimeout(() => flockSync(holder, "un"), ms);
    return new Promise((resolve) => {
      flock(waiter, "ex", () => {
        flockSync(waiter, "un");
        this.#held.delete(latch);
        this.#free.push(latch);
        resolve();
      });
    });
  }

  #take(): Latch | null {
    const free = this.#free.pop();
    if (free !== undefined) return free;
    try {
      if (this.#folder === null) {
        this.#folder = mkdtempSync(path.join(tmpdir(), "stripeward-slow-"));
        // A process does not end while one of its threads waits, and no timer of it runs any more then.
        process.once("exit", () => this.#releaseAll());
      }
      const file = path.join(this.#folder, "latch");
      const latch = { holder: openSync(file, "w"), waiter: openSync(file, "r") };
      rmSync(file);
      return latch;
    } catch {
      return null;
    }
  }

  #releaseAll(): void {
    for (const { holder } of this.#held) closeSync(holder);
    if (this.#folder !== null) rmSync(this.#folder, { recursive: true, force: true });
  }
}
