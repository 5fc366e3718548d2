/** The machine that a benchmark runs on. */
import { writeFileSync } from "node:fs";
import os from "node:os";
import { must } from "./undo.js";

export function machine() {
  const [cpu] = os.cpus();
  return {
    cpu: cpu?.model ?? "unknown",
    cores: os.cpus().length,
    memoryMiB: Math.round(os.totalmem() / 2 ** 20),
    kernel: os.release(),
    node: process.version,
    date: new Date().toISOString().slice(0, 10),
  };
}

/** Equal page cache for all: everything written out, nothing kept. @returns what was done, for people */
export function coldHost(): string {
  must("sync");
  try {
    writeFileSync("/proc/sys/vm/drop_caches", "3");
    return "written out and dropped before each server's turn";
  } catch {
    return "written out before each server's turn (dropping it needs root)";
  }
}
