/** Two sides that take turns: the ratio of each round, and the median of these. */
import { isStorageError } from "../../src/lib/errors.js";
import { median } from "../report.js";

export interface Side {
  readonly name: string;
  /** Work once. @returns what is done a second, in the contest's unit */
  turn(): Promise<number>;
}

export interface Contest {
  readonly title: string;
  /** Bytes a second are shown as MB/s or GB/s. */
  readonly unit: "bytes" | "writes";
  /** The least that the ratio, ours to the peer's, should be. */
  readonly wanted: number;
  readonly ours: Side;
  readonly peer: Side;
  readonly rounds: number;
}

export interface Outcome {
  readonly title: string;
  readonly unit: "bytes" | "writes";
  readonly wanted: number;
  readonly names: readonly [string, string];
  /** By round. */
  readonly ours: readonly number[];
  readonly peer: readonly number[];
  /** Why there are no figures. */
  readonly failure?: string;
}

/**
 * One uncounted turn of each, then the rounds. The order of a round is the other way round than that of the one before, so that a machine
 * that becomes slower or faster favours nobody.
 */
export async function hold(contest: Contest, goOn: () => void): Promise<Outcome> {
  const { title, unit, wanted, ours, peer, rounds } = contest;
  const rates: { ours: number[]; peer: number[] } = { ours: [], peer: [] };
  const outcome = { title, unit, wanted, names: [ours.name, peer.name] as const, ...rates };
  try {
    for (let round = 0; round <= rounds; round++) {
      for (const side of round % 2 === 0 ? (["ours", "peer"] as const) : (["peer", "ours"] as const)) {
        goOn();
        const rate = await contest[side].turn();
        if (round > 0) rates[side].push(rate);
      }
    }
    return outcome;
  } catch (error) {
    if (!isStorageError(error)) throw error;
    return { ...outcome, failure: `${error.code}: ${error.message}` };
  }
}

/** The median of the rounds' ratios: both sides of a round met nearly the same machine. */
export function ratioOf({ ours, peer }: Outcome): number | undefined {
  return median(ours.map((rate, round) => rate / (peer[round] ?? Number.NaN)));
}

export function lowestAndHighest({ ours, peer }: Outcome): readonly [number, number] {
  const ratios = ours.map((rate, round) => rate / (peer[round] ?? Number.NaN));
  return [Math.min(...ratios), Math.max(...ratios)];
}
