import { type RunOptions, runSeed, schedule } from "./run.js";
import { shrink } from "./shrink.js";

/** The command that repeats a run. */
export function commandFor({ seed, steps, only, broken }: RunOptions): string {
  const parts = [`npm run sim -- --seed ${seed} --steps ${steps}`];
  if (only !== undefined) parts.push(`--only ${only.length > 0 ? only.join(",") : "none"}`);
  if (broken !== undefined) parts.push(`--break ${broken}`);
  return parts.join(" ");
}

/** One run, told step by step. @returns the exit status */
export async function runOne(options: RunOptions): Promise<number> {
  const { digest, events, failure } = await runSeed({
    ...options,
    onStep: (step, name) => console.log(`${String(step).padStart(4)}  ${name}`),
  });
  console.log(`sim: seed ${options.seed}: ${events} events, trace ${digest}`);
  if (failure === null) return 0;
  console.log(`sim: FAILED at ${place(failure.step)}: ${failure.stack}`);
  if (options.only === undefined) await explain(options);
  return 1;
}

function place(step: number): string {
  return step < 0 ? "the end" : `step ${step}`;
}

/** Say how to repeat a failing run, and the shortest schedule of it that fails. */
export async function explain(options: RunOptions): Promise<void> {
  const { failure } = await runSeed(options);
  if (failure === null) {
    console.log(`sim: seed ${options.seed} fails no more when it runs alone: not a run by its seed`);
    return;
  }
  console.log(`  repeat:   ${commandFor(options)}`);
  const shrunk = await shrink(options, failure);
  const names = schedule(options.seed, options.steps);
  console.log(`  shortest: ${commandFor({ ...options, only: shrunk.only })}`);
  console.log(`            ${shrunk.only.map((step) => `${step} ${names[step]}`).join(", ")} (${shrunk.tries} tries)`);
  console.log(`            ${place(shrunk.failure.step)}: ${shrunk.failure.what}`);
}
