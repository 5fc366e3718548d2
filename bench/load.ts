/** The load generator (bench/nfsbench.c): built when needed, run against one server, its JSON read. */
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync } from "node:fs";
import path from "node:path";
import { CACHE, REPOSITORY } from "../test/support/packages.js";
import { must, output } from "./undo.js";

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

const SOURCE = path.join(REPOSITORY, "bench/nfsbench.c");

export function buildLoadGenerator(): string {
  const digest = createHash("sha256").update(readFileSync(SOURCE)).digest("hex").slice(0, 16);
  const target = path.join(CACHE, `nfsbench-${digest}`);
  if (existsSync(target)) return target;
  if (!existsSync("/usr/include/nfsc/libnfs-raw.h")) {
    throw new Error("the load generator needs libnfs: apt-get install libnfs-dev (or run as root, which installs it)");
  }
  mkdirSync(CACHE, { recursive: true });
  const work = `${target}.${process.pid}`;
  must("gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", work, SOURCE, "-lnfs");
  renameSync(work, target);
  return target;
}

export async function runLoad(program: string, url: string, load: Load): Promise<readonly Phase[]> {
  const numbers = { c: load.connections, q: load.depth, s: load.mib, n: load.files };
  const args = Object.entries(numbers).flatMap(([flag, value]) => [`-${flag}`, String(value)]);
  if (load.phases !== undefined) args.push("-p", load.phases.join(","));
  const result = JSON.parse(await output(program, [...args, url])) as { phases: Phase[]; errors: number };
  if (result.errors > 0) throw new Error(`${result.errors} calls went wrong`);
  return result.phases;
}
