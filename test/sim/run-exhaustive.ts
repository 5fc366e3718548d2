import type { CrashFailure, ExhaustiveResult } from "./exhaustive.js";
import type { Break } from "./run.js";
import { inWorkers } from "./workers.js";

export interface ExhaustiveRun {
  readonly seed: number;
  readonly operations: number;
  readonly broken: Break | undefined;
  /** Only this crash point. */
  readonly point?: number | undefined;
}

export interface ExhaustiveSummary {
  readonly points: number;
  readonly states: number;
  readonly repeated: number;
  readonly seconds: number;
  /** The earliest that was found. */
  readonly failure: CrashFailure | null;
}

/** Crash points are dealt out to worker processes in turn. */
export async function exhaustInWorkers(run: ExhaustiveRun, workers: number): Promise<ExhaustiveSummary> {
  const startedMs = Date.now();
  const parts = run.point === undefined ? workers : 1;
  const jobs = Array.from({ length: parts }, (_, part) => argumentsFor(run, part, parts));
  const results: ExhaustiveResult[] = [];
  const died = (what: string): ExhaustiveResult => {
    return { points: 0, states: 0, repeated: 0, failure: { point: -1, crash: "lost", missing: -1, what } };
  };
  await inWorkers<ExhaustiveResult>(jobs, workers, (result) => results.push(result) > 0, died);
  const failures = results.flatMap(({ failure }) => (failure === null ? [] : [failure]));
  failures.sort((a, b) => a.point - b.point);
  return {
    points: Math.max(...results.map(({ points }) => points)),
    states: results.reduce((sum, { states }) => sum + states, 0),
    repeated: results.reduce((sum, { repeated }) => sum + repeated, 0),
    seconds: (Date.now() - startedMs) / 1000,
    failure: failures[0] ?? null,
  };
}

function argumentsFor({ seed, operations, broken, point }: ExhaustiveRun, part: number, parts: number): string[] {
  return [
    ...["--exhaustive", "--worker", `${part}`, "--workers", `${parts}`],
    ...["--seed", `${seed}`, "--operations", `${operations}`],
    ...(broken === undefined ? [] : ["--break", broken]),
    ...(point === undefined ? [] : ["--point", `${point}`]),
  ];
}

/** @returns the exit status, and how many states were checked */
export async function runExhaustive(
  run: ExhaustiveRun,
  workers: number,
): Promise<{ readonly status: number; readonly states: number }> {
  const { points, states, repeated, seconds, failure } = await exhaustInWorkers(run, workers);
  const figures = `${points} writes and flushes, ${states} crash states recovered and checked`;
  console.log(
    `sim: ${run.operations} operations: ${figures} (${repeated} repeated ones left out), ${seconds.toFixed(0)} s`,
  );
  if (failure === null) return { status: 0, states };
  const { point, crash, missing, what } = failure;
  const members = missing < 0 ? "all members" : `without disk ${missing}`;
  console.log(`sim: FAILED after write or flush ${point}, unflushed writes ${crash}, ${members}: ${what}`);
  const options = [`--seed ${run.seed} --operations ${run.operations} --point ${point}`];
  if (run.broken !== undefined) options.push(`--break ${run.broken}`);
  console.log(`  repeat:   npm run sim -- --exhaustive ${options.join(" ")}`);
  return { status: 1, states };
}
