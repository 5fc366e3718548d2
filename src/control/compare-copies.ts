import { plural } from "../lib/plural.js";
import type { LuDescription } from "../lu/lu.js";
import type { Group, LuFault } from "../raid/contract.js";
import { pad } from "./disk-shelf.js";
import type { ServedFileSystem } from "./layers.js";

/**
 * Every copy of what a file system stands on: both of its metadata, data and parity. What is proven to be wrong is healed.
 * @returns a sentence for each place that was wrong; and for each that could not be read, and each LU that could not be compared
 */
export async function compareCopies(
  [group, ...lus]: readonly [Group, ...LuDescription[]],
  served: ServedFileSystem,
): Promise<{ readonly problems: string[]; readonly notes: string[] }> {
  const problems: string[] = [];
  const notes: string[] = [];
  const inspectors = served.inspectors();
  try {
    for (const { number, name } of lus) {
      const { faults, wrong, unreadable, why } = await group.compareLu(number, inspectors.get(number) ?? null);
      // What one disk does not answer now is not wrong: the others have it, and the disk's errors tell.
      const unread = faults.filter(({ what }) => what === "unreadable");
      for (const fault of faults) (fault.what === "unreadable" ? notes : problems).push(sentence(fault, name));
      const more = [wrong - (faults.length - unread.length), unreadable - unread.length] as const;
      if (more[0] > 0) problems.push(`LU ${name}: and ${plural(more[0], "other place")}`);
      if (more[1] > 0) notes.push(`LU ${name}: and ${plural(more[1], "other place")} that cannot be read`);
      if (why !== null) notes.push(`LU ${name}: its copies could not be compared: ${why}`);
    }
  } finally {
    for (const inspector of inspectors.values()) inspector.close();
  }
  return { problems, notes };
}

const FOUND: Readonly<Record<string, string>> = {
  checksum: "does not match its checksum",
  parity: "parity does not agree with the data",
  copy: "the two copies differ",
  unreadable: "cannot be read",
};

function sentence({ disk, position, at, what, done, file }: LuFault, lu: string): string {
  const place = `LU ${lu}${at === null ? "" : ` byte ${at}`}, disk #${pad(disk)} byte ${position}`;
  return `${place}${file === null ? "" : ` (${file})`}: ${FOUND[what] ?? what}; ${done}`;
}
