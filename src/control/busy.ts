import { setTimeout as sleep } from "node:timers/promises";
import type { Clock } from "../lib/clock.js";
import { isStorageError } from "../lib/errors.js";
import { LIMITS } from "../limits.js";

/** Between two attempts. */
const RETRY_MS = 50;

/**
 * Who was killed a moment ago may still be ending, with its locks: whoever starts a daemon anew at once is not to fail for that.
 * @throws what the last attempt threw; EBUSY only after `LIMITS.claimMs`
 */
export async function whileBusy<T>(clock: Clock, attempt: () => T | Promise<T>): Promise<T> {
  const deadline = clock.monotonicMs() + LIMITS.claimMs;
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      if (!isStorageError(error, "EBUSY") || clock.monotonicMs() >= deadline) throw error;
      // Not by the clock: its timers keep no process alive, and nothing else does yet.
      await sleep(RETRY_MS);
    }
  }
}
