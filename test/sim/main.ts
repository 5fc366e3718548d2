import { availableParallelism } from "node:os";
import { parseArgs } from "node:util";
import { exhaust } from "./exhaustive.js";
import { PAIR_BREAKS } from "./pair/life.js";
import { PAIR_STEPS } from "./pair/run-pair.js";
import { runManyPairs, runOnePair, runPairRange } from "./pair/run-pairs.js";
import { BREAKS } from "./run.js";
import { runExhaustive } from "./run-exhaustive.js";
import { runMany, runRange } from "./run-many.js";
import { runOne } from "./run-one.js";

const USAGE = `usage: npm run sim -- [options]
  --seed N          one run, by its seed; with --seeds: the first of them
  --seeds N         so many runs (1000)
  --steps M         steps of each (40)
  --only 3,7,9      only these steps of the schedule; none: no step at all
  --break PART      without ${BREAKS.join(", ")}
  --pair            two nodes, their disks, clocks and clients: takeovers
  --takeovers N     so many of them (1000), or --seeds runs
  --break PART      of a pair: without ${PAIR_BREAKS.join(", ")}
  --exhaustive      every write and flush of a recorded workload as a crash point
  --operations N    of that workload (1000)
  --point P         only this crash point
  --workers N       processes (as many as there are CPUs)
`;

const OPTIONS = {
  seed: { type: "string" },
  seeds: { type: "string" },
  steps: { type: "string", default: "40" },
  only: { type: "string" },
  break: { type: "string" },
  pair: { type: "boolean", default: false },
  takeovers: { type: "string" },
  exhaustive: { type: "boolean", default: false },
  operations: { type: "string", default: "1000" },
  point: { type: "string" },
  workers: { type: "string", default: String(availableParallelism()) },
  worker: { type: "string" },
  help: { type: "boolean", default: false },
} as const;

class UsageError extends Error {}

function count(text: string, name: string): number {
  const value = Number(text);
  if (text === "" || !Number.isSafeInteger(value) || value < 0) throw new UsageError(`--${name} takes a number`);
  return value;
}

function broken<Part extends string>(text: string | undefined, parts: readonly Part[]): Part | undefined {
  const found = parts.find((name) => name === text);
  if (text !== undefined && found === undefined) throw new UsageError(`--break takes ${parts.join(", ")}`);
  return found;
}

function steps(text: string | undefined): number[] | undefined {
  return text === "none" ? [] : text?.split(",").map((step) => count(step, "only"));
}

type Values = ReturnType<typeof parseArgs<{ options: typeof OPTIONS }>>["values"];

async function pairs(values: Values): Promise<number> {
  const part = broken(values.break, PAIR_BREAKS);
  const first = count(values.seed ?? "1", "seed");
  const takeovers = count(values.takeovers ?? "1000", "takeovers");
  if (values.seed !== undefined && values.seeds === undefined) {
    return await runOnePair({ seed: first, steps: PAIR_STEPS, only: steps(values.only), broken: part });
  }
  const enough = values.takeovers === undefined && values.seeds !== undefined ? Number.MAX_SAFE_INTEGER : takeovers;
  const runs = { first, count: count(values.seeds ?? `${takeovers}`, "seeds"), takeovers: enough, broken: part };
  if (values.worker !== undefined) return await send(await runPairRange(runs));
  return await runManyPairs(runs, count(values.workers, "workers"));
}

/** @returns the exit status: 1 when something was found */
async function main(): Promise<number> {
  const { values } = parseArgs({ options: OPTIONS });
  const number = (name: "steps" | "operations" | "workers"): number => count(values[name], name);
  if (values.help) {
    process.stdout.write(USAGE);
    return 0;
  }
  if (values.pair) return await pairs(values);
  const part = broken(values.break, BREAKS);
  const first = count(values.seed ?? "1", "seed");
  if (values.exhaustive) {
    const point = values.point === undefined ? undefined : count(values.point, "point");
    const options = { seed: first, operations: number("operations"), broken: part, point };
    if (values.worker === undefined) return (await runExhaustive(options, number("workers"))).status;
    return await send(await exhaust({ ...options, part: count(values.worker, "worker"), of: number("workers") }));
  }
  const runs = { first, count: count(values.seeds ?? "1000", "seeds"), steps: number("steps"), broken: part };
  if (values.worker !== undefined) return await send(await runRange(runs));
  if (values.seed === undefined || values.seeds !== undefined) return await runMany(runs, number("workers"));
  return await runOne({ seed: first, steps: runs.steps, only: steps(values.only), broken: part });
}

/** To the process that started this one as its worker. */
async function send(result: object): Promise<number> {
  await new Promise<void>((resolve) => {
    if (process.send === undefined) resolve();
    else process.send(result, undefined, undefined, () => resolve());
  });
  return 0;
}

// Nobody waits for a worker whose parent is gone.
process.once("disconnect", () => process.exit());
try {
  process.exitCode = await main();
  process.disconnect?.();
} catch (error) {
  if (!(error instanceof UsageError) && (error as { code?: string }).code?.startsWith("ERR_PARSE_ARGS") !== true)
    throw error;
  process.stderr.write(`sim: ${(error as Error).message}\n${USAGE}`);
  process.exitCode = 2;
}
