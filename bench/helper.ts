/** Helpers in C: compiled when first needed, kept by the digest of their source. */
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync } from "node:fs";
import path from "node:path";
import { CACHE, REPOSITORY } from "../test/support/packages.js";
import { must } from "./undo.js";

export interface Helper {
  /** In bench/: `nfsbench.c`. */
  readonly source: string;
  /** The header of the library that it needs, and the Debian package that has it. */
  readonly header: string;
  readonly package: string;
  readonly library: string;
}

/** @returns the path of the program */
export function buildHelper(helper: Helper): string {
  const source = path.join(REPOSITORY, "bench", helper.source);
  const digest = createHash("sha256").update(readFileSync(source)).digest("hex").slice(0, 16);
  const target = path.join(CACHE, `${path.parse(helper.source).name}-${digest}`);
  if (existsSync(target)) return target;
  if (!existsSync(helper.header)) {
    throw new Error(`${helper.source} needs ${helper.package}: apt-get install it (or run as root, which does)`);
  }
  mkdirSync(CACHE, { recursive: true });
  const work = `${target}.${process.pid}`;
  must("gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", work, source, `-l${helper.library}`);
  renameSync(work, target);
  return target;
}
