import { LIMITS } from "../limits.js";

/**
 * What the daemon needs in its environment before its first line runs: libuv reads its thread count once (the module loader already uses
 * the pool), and V8 sizes its heap at the start. systemd/stripeward.service sets the same.
 */
export function daemonEnvironment({ hasPartner }: { hasPartner: boolean }): NodeJS.ProcessEnv {
  const heap = `--max-old-space-size=${LIMITS.heapMiB}`;
  const given = process.env.NODE_OPTIONS;
  return {
    ...process.env,
    UV_THREADPOOL_SIZE: String(hasPartner ? LIMITS.ioThreadsOfPair : LIMITS.ioThreads),
    NODE_OPTIONS: given === undefined ? heap : `${heap} ${given}`,
  };
}
