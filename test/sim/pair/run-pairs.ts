import { inWorkers } from "../workers.js";
import type { PairBreak } from "./life.js";
import { PAIR_STEPS, type PairRunOptions, type PairRunResult, runPair } from "./run-pair.js";

export interface PairRuns {
  readonly first: number;
  /** Seeds at most. */
  readonly count: number;
  /** No run begins after so many. */
  readonly takeovers: number;
  readonly broken: PairBreak | undefined;
}

export interface PairRangeResult {
  readonly runs: number;
  readonly takeovers: number;
  readonly answered: number;
  readonly events: number;
  /** The first seed that failed, and why; the ones after it were not run. */
  readonly failed: { readonly seed: number; readonly what: string } | null;
}

/** Seeds that one worker process runs. */
const PER_WORKER = 16;
/** Of what is told of a failing run: what came last says most. */
const LINES_MAX = 30;

/** In this process, until one fails. */
export async function runPairRange({ first, count, takeovers, broken }: PairRuns): Promise<PairRangeResult> {
  const total = { runs: 0, takeovers: 0, answered: 0, events: 0 };
  for (let seed = first; seed < first + count && total.takeovers < takeovers; seed++) {
    const { failure, ...more } = await runPair({ seed, steps: PAIR_STEPS, broken });
    total.runs++;
    total.takeovers += more.takeovers;
    total.answered += more.answered;
    total.events += more.events;
    if (failure !== null) return { ...total, failed: { seed, what: failure } };
  }
  return { ...total, failed: null };
}

export interface PairRunsSummary {
  readonly runs: number;
  readonly takeovers: number;
  /** Calls of clients. */
  readonly answered: number;
  readonly events: number;
  readonly seconds: number;
  readonly failed: ReadonlyArray<{ readonly seed: number; readonly what: string }>;
}

/** In worker processes, until there were enough takeovers; the first failure of any stops what has not begun. */
export async function runPairsInWorkers(runs: PairRuns, workers: number): Promise<PairRunsSummary> {
  const startedMs = Date.now();
  const failed: { seed: number; what: string }[] = [];
  const total = { runs: 0, takeovers: 0, answered: 0, events: 0 };
  const firsts = Array.from({ length: Math.ceil(runs.count / PER_WORKER) }, (_, i) => runs.first + i * PER_WORKER);
  const take = (result: PairRangeResult): boolean => {
    total.runs += result.runs;
    total.takeovers += result.takeovers;
    total.answered += result.answered;
    total.events += result.events;
    if (result.failed !== null) failed.push(result.failed);
    return failed.length === 0 && total.takeovers < runs.takeovers;
  };
  const died = (what: string, job: number): PairRangeResult => {
    return { runs: 0, takeovers: 0, answered: 0, events: 0, failed: { seed: firsts[job] ?? -1, what } };
  };
  const jobs = firsts.map((first) => argumentsFor(runs, first));
  await inWorkers<PairRangeResult>(jobs, workers, take, died);
  failed.sort((a, b) => a.seed - b.seed);
  return { ...total, seconds: (Date.now() - startedMs) / 1000, failed };
}

function argumentsFor({ first, count, takeovers, broken }: PairRuns, from: number): string[] {
  const left = Math.min(PER_WORKER, first + count - from);
  const some = ["--pair", "--worker", "0", "--seed", `${from}`, "--seeds", `${left}`, "--takeovers", `${takeovers}`];
  return broken === undefined ? some : [...some, "--break", broken];
}

/** @returns the exit status */
export async function runManyPairs(runs: PairRuns, workers: number): Promise<number> {
  const { failed, ...total } = await runPairsInWorkers(runs, workers);
  console.log(figures(total));
  for (const { seed, what } of failed) console.log(`sim: seed ${seed} FAILED: ${what}`);
  if (failed[0] !== undefined) await explainPair({ seed: failed[0].seed, steps: PAIR_STEPS, broken: runs.broken });
  return failed.length > 0 ? 1 : 0;
}

export function figures({ runs, takeovers, answered, seconds }: Omit<PairRunsSummary, "failed">): string {
  return `sim: ${takeovers} takeovers in ${runs} runs of two nodes, ${answered} calls answered, ${seconds.toFixed(0)} s`;
}

/** One run, told as it goes. @returns the exit status */
export async function runOnePair(options: PairRunOptions): Promise<number> {
  const { failure, ...result } = await runPair({ ...options, tell: (what) => console.log(what) });
  const { takeovers, answered, digest } = result;
  console.log(`sim: seed ${options.seed}: ${takeovers} takeovers, ${answered} calls answered, trace ${digest}`);
  if (failure === null) return 0;
  console.log(`sim: FAILED: ${failure}`);
  return 1;
}

/** Say how to repeat a failing run, the fewest steps of it that fail too, and what happened in these. */
export async function explainPair(options: PairRunOptions): Promise<void> {
  const { failure } = await runPair(options);
  if (failure === null) {
    console.log(`sim: seed ${options.seed} fails no more when it runs alone: not a run by its seed`);
    return;
  }
  const only = await fewestSteps(options);
  const told: string[] = [];
  await runPair({ ...options, only, tell: (what) => told.push(what) });
  console.log(`  repeat:   ${commandFor(options)}`);
  console.log(`  shortest: ${commandFor({ ...options, only })}`);
  for (const line of told.slice(-LINES_MAX)) console.log(`  ${line}`);
}

/** Without any one of these it does not fail. */
async function fewestSteps(options: PairRunOptions): Promise<number[]> {
  let only = Array.from({ length: options.steps }, (_, step) => step);
  for (const step of [...only].reverse()) {
    const fewer = only.filter((other) => other !== step);
    const { failure }: PairRunResult = await runPair({ ...options, only: fewer });
    if (failure !== null) only = fewer;
  }
  return only;
}

function commandFor({ seed, only, broken }: PairRunOptions): string {
  const parts = [`npm run sim -- --pair --seed ${seed}`];
  if (only !== undefined) parts.push(`--only ${only.length > 0 ? only.join(",") : "none"}`);
  if (broken !== undefined) parts.push(`--break ${broken}`);
  return parts.join(" ");
}
