import { type Break, runSeed } from "./run.js";
import { explain } from "./run-one.js";
import { inWorkers } from "./workers.js";

export interface Runs {
  readonly first: number;
  readonly count: number;
  readonly steps: number;
  readonly broken: Break | undefined;
}

export interface RangeResult {
  readonly runs: number;
  readonly events: number;
  /** The first seed that failed, and why; the ones after it were not run. */
  readonly failed: { readonly seed: number; readonly what: string } | null;
}

/** Seeds that one worker process runs: its start costs less than one of them. */
const PER_WORKER = 50;

/** In this process, until one fails. */
export async function runRange({ first, count, steps, broken }: Runs): Promise<RangeResult> {
  let events = 0;
  for (let seed = first; seed < first + count; seed++) {
    const { failure, events: more } = await runSeed({ seed, steps, broken });
    events += more;
    if (failure !== null) return { runs: seed - first + 1, events, failed: { seed, what: failure.what } };
  }
  return { runs: count, events, failed: null };
}

/** What came of many runs. */
export interface RunsSummary {
  readonly runs: number;
  readonly events: number;
  readonly seconds: number;
  readonly failed: ReadonlyArray<{ readonly seed: number; readonly what: string }>;
}

/** All of them in worker processes; the first failure of any stops what has not begun. */
export async function runInWorkers(runs: Runs, workers: number): Promise<RunsSummary> {
  const startedMs = Date.now();
  const [failed, total] = [[] as { seed: number; what: string }[], { runs: 0, events: 0 }];
  const firsts = Array.from({ length: Math.ceil(runs.count / PER_WORKER) }, (_, i) => runs.first + i * PER_WORKER);
  const jobs = firsts.map((first) => argumentsFor(runs, first));
  const take = (result: RangeResult): boolean => {
    total.runs += result.runs;
    total.events += result.events;
    if (result.failed !== null) failed.push(result.failed);
    return failed.length === 0;
  };
  const died = (what: string, job: number): RangeResult => ({
    runs: 0,
    events: 0,
    failed: { seed: firsts[job]!, what },
  });
  await inWorkers<RangeResult>(jobs, workers, take, died);
  return { ...total, seconds: (Date.now() - startedMs) / 1000, failed };
}

function argumentsFor({ first, count, steps, broken }: Runs, from: number): string[] {
  const left = Math.min(PER_WORKER, first + count - from);
  const some = ["--worker", "0", "--seed", `${from}`, "--seeds", `${left}`, "--steps", `${steps}`];
  return broken === undefined ? some : [...some, "--break", broken];
}

/** @returns the exit status */
export async function runMany(runs: Runs, workers: number): Promise<number> {
  const { failed, ...total } = await runInWorkers(runs, workers);
  console.log(`sim: ${total.runs} runs of ${runs.steps} steps, ${total.events} events, ${total.seconds.toFixed(0)} s`);
  for (const { seed, what } of failed) console.log(`sim: seed ${seed} FAILED: ${what}`);
  // One failure is explained: it costs hundreds of runs.
  if (failed[0] !== undefined) await explain({ seed: failed[0].seed, steps: runs.steps, broken: runs.broken });
  return failed.length > 0 ? 1 : 0;
}
