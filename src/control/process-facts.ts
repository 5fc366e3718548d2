import { readFileSync } from "node:fs";
import os from "node:os";
import { type Clock, wallMs } from "../lib/clock.js";
import type { ProcessFacts } from "./record-keeper.js";
import { version } from "./version.js";

/** Who this process is, for the records of its node. With process id and boot id a partner on the same host finds it again. */
export function processFacts(clock: Clock): ProcessFacts {
  return {
    ...{
      pid: process.pid,
      uid: process.getuid?.() ?? 0,
      hostName: os.hostname(),
      bootId: bootId(),
      version: version(),
    },
    startedAt: new Date(wallMs(clock)).toISOString(),
  };
}

/** Another after each boot of the host (random(4)). */
function bootId(): string {
  try {
    return readFileSync("/proc/sys/kernel/random/boot_id", "latin1").trim();
  } catch {
    return "";
  }
}
