import type { Clock } from "../lib/clock.js";
import type { SlowDiskSettings } from "./aside-watch.js";

/** How long a group that is put together waits for a disk that is slower than all others. */
export interface Patience {
  readonly clock: Clock;
  readonly settings: SlowDiskSettings;
}

/**
 * All disks were asked the same at the same moment.
 * @param answers  never reject
 * @returns the place of the one that has not answered, and is late by the measure of the watch (aside-watch.ts); null: all have answered
 */
export async function lateOne(answers: readonly Promise<unknown>[], patience: Patience): Promise<number | null> {
  const { clock, settings } = patience;
  const startMs = clock.monotonicMs();
  const open = new Set(answers.keys());
  const closing = answers.map((answer, i) => answer.then(() => void open.delete(i)));
  await new Promise<void>((resolve) => {
    for (const one of closing) void one.then(() => open.size <= 1 && resolve());
    if (open.size <= 1) resolve();
  });
  const othersMs = clock.monotonicMs() - startMs;
  const leftMs = Math.max(settings.afterMs, settings.factor * othersMs) - othersMs;
  return await new Promise((resolve) => {
    const cancel = Number.isFinite(leftMs) ? clock.after(leftMs, () => resolve([...open][0] ?? null)) : () => {};
    void Promise.all(closing).then(() => {
      cancel();
      resolve(null);
    });
  });
}
