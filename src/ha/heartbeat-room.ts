import type { GroupLack, Heartbeat } from "./record.js";

/** A heartbeat is one block (record.ts): of what stands in a node's way so much goes along. */
const TROUBLE_MAX = 4;
const TROUBLE_LENGTH_MAX = 200;
const LACKS_MAX = 8;
const SILENT_MAX = 4;

/** What a node says of itself. */
export interface OwnNews extends Pick<Heartbeat, "reach"> {
  readonly trouble: readonly string[] | null;
  readonly lacks: readonly GroupLack[];
  readonly silent: readonly string[];
}

export function newsThatFit({ trouble, reach, lacks, silent }: OwnNews): Pick<Heartbeat, keyof OwnNews> {
  return { trouble: troubleThatFits(trouble), reach, lacks: lacksThatFit(lacks), silent: silent.slice(0, SILENT_MAX) };
}

function troubleThatFits(trouble: readonly string[] | null): string[] | null {
  return trouble === null ? null : trouble.slice(0, TROUBLE_MAX).map((one) => one.slice(0, TROUBLE_LENGTH_MAX));
}

export function lacksThatFit<T>(lacks: readonly T[]): T[] {
  return lacks.slice(0, LACKS_MAX);
}
