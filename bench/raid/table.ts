import { median } from "../report.js";
import { lowestAndHighest, type Outcome, ratioOf } from "./contest.js";

function rate(values: readonly number[], unit: Outcome["unit"]): string {
  const value = median(values);
  if (value === undefined) return "";
  if (unit === "writes") return `${Math.round(value)} /s`;
  return value >= 10e9 ? `${(value / 1e9).toFixed(1)} GB/s` : `${Math.round(value / 1e6)} MB/s`;
}

function verdict(outcome: Outcome): string {
  if (outcome.failure !== undefined) return "failed";
  return (ratioOf(outcome) ?? 0) >= outcome.wanted ? "reached" : "MISSED";
}

export function cells(outcomes: readonly Outcome[]): { head: string[]; body: string[][] } {
  const head = ["", "ours", "peer", "ratio", "wanted", "lowest, highest", ""];
  const body = outcomes.map((outcome) => {
    const [low, high] = lowestAndHighest(outcome);
    const spread = outcome.ours.length === 0 ? "" : `${low.toFixed(2)}, ${high.toFixed(2)}`;
    const figures = [rate(outcome.ours, outcome.unit), rate(outcome.peer, outcome.unit)];
    const ratio = outcome.failure === undefined ? (ratioOf(outcome)?.toFixed(2) ?? "") : "";
    return [outcome.title, ...figures, ratio, outcome.wanted.toFixed(2), spread, verdict(outcome)];
  });
  return { head, body };
}

/** Who was compared, and what failed. */
export function footnotes(outcomes: readonly Outcome[]): string[] {
  return outcomes.map(({ title, names, failure }) => {
    const [ours, peer] = names;
    return `${title}: ${ours}, against ${peer}.${failure === undefined ? "" : ` FAILED: ${failure}`}`;
  });
}
