import { readFileSync } from "node:fs";

/** A server under load: fresh from `start`, gone after `stop`. */
export interface Server {
  readonly name: string;
  /** What it is made of, in one line. */
  readonly description: string;
  start(): Promise<void>;
  stop(): Promise<void>;
  readonly url: string;
  readonly pid: number;
}

export interface ResidentMemory {
  readonly nowBytes: number;
  readonly peakBytes: number;
}

/** proc(5): VmRSS now, VmHWM the most there ever was. */
export function residentMemory(pid: number): ResidentMemory {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  const field = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(status)?.[1] ?? 0) * 1024;
  return { nowBytes: field("VmRSS"), peakBytes: field("VmHWM") };
}
