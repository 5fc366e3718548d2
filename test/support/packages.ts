import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

function repositoryRoot(): string {
  let folder = path.dirname(fileURLToPath(import.meta.url));
  while (!existsSync(path.join(folder, "package.json"))) folder = path.dirname(folder);
  return folder;
}

/** The checkout, wherever the compiled tests lie below it. */
export const REPOSITORY = repositoryRoot();
/** What tests build or download once and keep; git does not see it. */
export const CACHE = path.join(REPOSITORY, ".cache");

export interface MissingPackage {
  readonly name: string;
  readonly needed: string;
  readonly why: string;
}

export interface PackageReport {
  readonly missing: readonly MissingPackage[];
  /** For people; empty when nothing is missing. */
  readonly complaint: string;
}

/** What `scripts/packages.mjs` finds missing, after it has installed what it can (`install`) or as it is (`check`). */
export function packages(use: "test" | "bench", how: "install" | "check"): PackageReport {
  const args = [path.join(REPOSITORY, "scripts/packages.mjs"), use, "--json", ...(how === "check" ? ["--check"] : [])];
  const { stdout } = spawnSync(process.execPath, args, { encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] });
  return JSON.parse(stdout) as PackageReport;
}

let found: readonly MissingPackage[] | undefined;

/** Looks only; `scripts/test.mjs` has installed by then what could be installed. */
export function missingPackages(): readonly MissingPackage[] {
  found ??= packages("test", "check").missing;
  return found;
}

/** A reason to skip a test that needs these packages, for the `skip` option of node's test runner; false when all are there. */
export function skipWithout(...names: string[]): string | false {
  const absent = missingPackages().filter(({ name }) => names.includes(name));
  if (absent.length === 0) return false;
  return `LEFT OUT: ${absent.map(({ name, why }) => `${name} (${why})`).join(", ")}`;
}
