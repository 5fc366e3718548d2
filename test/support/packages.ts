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

let missing: readonly MissingPackage[] | undefined;

/** Looks only; `scripts/test.mjs` has installed by then what could be installed. */
export function missingPackages(): readonly MissingPackage[] {
  if (missing !== undefined) return missing;
  const script = path.join(REPOSITORY, "scripts/packages.mjs");
  const { stdout } = spawnSync(process.execPath, [script, "test", "--check", "--json"], { encoding: "utf8" });
  missing = (JSON.parse(stdout) as { missing: MissingPackage[] }).missing;
  return missing;
}

/** A reason to skip a test that needs these packages, for the `skip` option of node's test runner; false when all are there. */
export function skipWithout(...names: string[]): string | false {
  const absent = missingPackages().filter(({ name }) => names.includes(name));
  if (absent.length === 0) return false;
  return `LEFT OUT: ${absent.map(({ name, why }) => `${name} (${why})`).join(", ")}`;
}
