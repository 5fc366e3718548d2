import { LIMITS } from "../limits.js";

/**
 * What the daemon needs in its environment before its first line runs: libuv reads its thread count once (the module loader already uses
 * the pool), V8 sizes its heap at the start, and glibc its allocator. systemd/stripeward.service sets the same.
 */
export function startEnvironment({ hasPartner }: { hasPartner: boolean }) {
  return {
    UV_THREADPOOL_SIZE: String(hasPartner ? LIMITS.ioThreadsOfPair : LIMITS.ioThreads),
    NODE_OPTIONS: `--max-old-space-size=${LIMITS.heapMiB}`,
    MALLOC_ARENA_MAX: String(LIMITS.mallocArenasMax),
  };
}
