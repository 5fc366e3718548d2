import { readFileSync } from "node:fs";

/** The project's version, from the package file, which stands above the build folder, wherever that is. */
export function version(): string {
  for (const above of ["../../..", "../../../.."]) {
    try {
      const parsed: unknown = JSON.parse(readFileSync(new URL(`${above}/package.json`, import.meta.url), "utf8"));
      const { name, version: found } = parsed as { name?: unknown; version?: unknown };
      if (name === "stripeward" && typeof found === "string") return found;
    } catch {
      // Not here; the next folder up.
    }
  }
  return "unknown";
}
