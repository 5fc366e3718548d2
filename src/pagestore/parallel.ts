import { allSettledOrThrow } from "../lib/mutex.js";

/**
 * Run `action` on every item, at most `limit` at once.
 * @throws the first error, after everything that was started has settled
 */
export async function inParallel<T>(
  items: readonly T[],
  limit: number,
  action: (item: T) => Promise<void>,
): Promise<void> {
  const rest = items.values();
  const worker = async (): Promise<void> => {
    for (const item of rest) await action(item);
  };
  await allSettledOrThrow(Array.from({ length: Math.min(limit, items.length) }, worker));
}
