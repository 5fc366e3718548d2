import { readFileSync } from "node:fs";
import path from "node:path";
import type { Config } from "../config/schema.js";
import { formatSize } from "../lib/size.js";
import { LIMITS } from "../limits.js";

/** What the daemon may hold resident: its own, what clients make it hold, and the caches of each file system. */
export function promisedBytes(memory: Config["memory"], fileSystems: number): number {
  const { dataCacheBytes, metadataCacheBytes } = memory;
  return LIMITS.processBytesMax + Math.max(1, fileSystems) * (dataCacheBytes + metadataCacheBytes);
}

/**
 * The limit of our control group (cgroup v2) or of one above it, which ends the daemon when it is passed; null when there is none, or none can be seen.
 * @param root  where the groups are mounted
 */
export function controlGroupLimit(root = "/sys/fs/cgroup", membership = "/proc/self/cgroup"): number | null {
  const own = /^0::(.*)$/m.exec(read(membership))?.[1];
  if (own === undefined) return null;
  let least: number | null = null;
  for (let group = own; ; group = path.dirname(group)) {
    const limit = Number(read(path.join(root, group, "memory.max")).trim() || "max");
    if (Number.isFinite(limit) && (least === null || limit < least)) least = limit;
    if (group === "/" || group === ".") return least;
  }
}

function read(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return "";
  }
}

/** Said when the daemon would be ended for holding what its settings let it hold. */
export function memoryWarnings(memory: Config["memory"], fileSystems: number, limitBytes: number | null): string[] {
  const bytes = promisedBytes(memory, fileSystems);
  if (limitBytes === null || bytes <= limitBytes) return [];
  const what = `with ${fileSystems} file systems and these caches the daemon may hold ${formatSize(bytes)}`;
  return [
    `${what}, and its unit allows ${formatSize(limitBytes)}: raise MemoryMax= or lower memory: in the configuration`,
  ];
}
