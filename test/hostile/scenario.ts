import type { Random } from "../../src/lib/prng.js";
import type { RawSender } from "./raw.js";
import type { Target } from "./target.js";

/** What a scenario is given. It ends by itself when `until` has come, leaves nothing open, and never waits longer than a moment beyond it. */
export interface HostileContext {
  /** The rig and its one daemon. */
  readonly target: Target;
  /** Everything that is chosen is chosen by this, so that a seed repeats it. */
  readonly random: Random;
  /** performance.now(): when to stop. */
  readonly untilMs: number;
  /** Addresses that no export names. */
  readonly strangers: readonly string[];
  /** Addresses that the export names, and that do not behave. The bystander is at another one. */
  readonly clients: readonly string[];
  /** Packets as they are; null: not root, or no compiler. */
  readonly raw: RawSender | null;
  /** A line beside the verdict: what was reached. */
  note(what: string): void;
}

export interface Scenario {
  /** A short word; `--only NAME` picks it. */
  readonly name: string;
  /** It is left out aloud without packets of its own making. */
  readonly needsRaw?: boolean;
  run(context: HostileContext): Promise<void>;
}

export function overTime({ untilMs }: HostileContext): boolean {
  return performance.now() >= untilMs;
}

export function pick<T>({ random }: HostileContext, from: readonly T[]): T {
  return from[random.below(from.length)]!;
}

/** So many who do one thing again and again until the time is over. @returns how often it was done */
export async function crowd(context: HostileContext, atOnce: number, once: () => Promise<void>): Promise<number> {
  let made = 0;
  const one = async () => {
    for (; !overTime(context); made++) await once();
  };
  await Promise.all(Array.from({ length: atOnce }, one));
  return made;
}
