import { readdirSync } from "node:fs";
import path from "node:path";

/**
 * Expand a path or pattern (`*` and `?` in any of its parts; a name that begins with a dot only when the pattern does).
 * A path without a pattern stands for itself, also when nothing is there: its absence is for the caller to report.
 * @returns absolute paths, sorted
 */
export function expandPattern(pattern: string): string[] {
  if (!hasPattern(pattern)) return [pattern];
  let found = ["/"];
  for (const part of pattern.split("/").filter((piece) => piece !== "")) {
    found = found.flatMap((folder) => matchesIn(folder, part));
  }
  return found.sort();
}

export function hasPattern(text: string): boolean {
  return /[*?]/.test(text);
}

function matchesIn(folder: string, part: string): string[] {
  if (!hasPattern(part)) return [path.join(folder, part)];
  return namesIn(folder)
    .filter((name) => matches(part, name) && (part.startsWith(".") || !name.startsWith(".")))
    .map((name) => path.join(folder, name));
}

/** A folder that is absent or closed to us holds no disks. */
function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

/** Whether a name matches, in time of their product at most: after a `*` only the last one ever takes a character more. */
export function matches(pattern: string, name: string): boolean {
  let [at, inName, star, starInName] = [0, 0, -1, 0];
  while (inName < name.length) {
    const wanted = pattern[at];
    if (wanted === "*") {
      star = at++;
      starInName = inName;
    } else if (wanted === "?" || wanted === name[inName]) {
      at++;
      inName++;
    } else if (star < 0) return false;
    else {
      at = star + 1;
      inName = ++starInName;
    }
  }
  while (pattern[at] === "*") at++;
  return at === pattern.length;
}
