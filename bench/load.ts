/** The load generator (bench/nfsbench.c): built when needed, run against one server, its JSON read. */
import { buildHelper } from "./helper.js";
import { output } from "./undo.js";

export interface Phase {
  readonly name: string;
  readonly unit: string;
  readonly rate: number;
  readonly seconds: number;
  readonly calls: number;
  readonly p50us: number;
  readonly p90us: number;
  readonly p99us: number;
  readonly maxus: number;
}

export interface Load {
  readonly connections: number;
  readonly depth: number;
  readonly mib: number;
  readonly files: number;
  /** In the order given; absent: the ten of the comparison. */
  readonly phases?: readonly string[];
}

export function buildLoadGenerator(): string {
  const header = "/usr/include/nfsc/libnfs-raw.h";
  return buildHelper({ source: "nfsbench.c", header, package: "libnfs-dev", library: "nfs" });
}

export async function runLoad(program: string, url: string, load: Load): Promise<readonly Phase[]> {
  const numbers = { c: load.connections, q: load.depth, s: load.mib, n: load.files };
  const args = Object.entries(numbers).flatMap(([flag, value]) => [`-${flag}`, String(value)]);
  if (load.phases !== undefined) args.push("-p", load.phases.join(","));
  const result = JSON.parse(await output(program, [...args, url])) as { phases: Phase[]; errors: number };
  if (result.errors > 0) throw new Error(`${result.errors} calls went wrong`);
  return result.phases;
}
