import { SeededRandom } from "../../src/lib/prng.js";
import type { Without } from "../../src/raid/contract.js";
import { FsWorld } from "./fs-world.js";
import { LuWorld } from "./lu-world.js";
import { stepRandom } from "./machine.js";
import { STEPS, type StepName, stepNamed } from "./steps.js";
import { BeyondFaultModel, type World } from "./world.js";

/** Parts of a file system that a run can do without, to see that it is noticed. */
const FS_BREAKS = ["checksum", "room", "promise"] as const;
const GROUP_BREAKS = ["parity", "journal", "bitmap", "stale", "generation", "transient", "source"] as const;
/** ... and of what is around a group, or how it is set up. */
const MACHINE_BREAKS = ["clock", "lanes", "slow-disk"] as const;
export const BREAKS = [...GROUP_BREAKS, ...FS_BREAKS, ...MACHINE_BREAKS] as const;
export type Break = (typeof BREAKS)[number];

export interface RunOptions {
  readonly seed: number;
  readonly steps: number;
  /** Only these steps of the schedule, by number; all by default. */
  readonly only?: readonly number[] | undefined;
  readonly broken?: Break | undefined;
  readonly onStep?: ((step: number, name: StepName) => void) | undefined;
}

export interface RunResult {
  readonly digest: string;
  readonly events: number;
  readonly failure: RunFailure | null;
}

export interface RunFailure {
  /** Where in the schedule; -1: before or after it. */
  readonly step: number;
  readonly what: string;
  readonly stack: string;
}

/** What happens in a run: the same for the same seed, and the first `count` of a longer one. */
export function schedule(seed: number, count: number): StepName[] {
  const random = new SeededRandom(seed + 0x51ed27);
  return Array.from({ length: count }, () => STEPS[random.below(STEPS.length)]!);
}

/** @returns the part that is broken, when it is one of these */
function brokenOf(broken: Break | undefined, parts: readonly Break[]): Readonly<Record<string, true>> {
  return broken !== undefined && parts.includes(broken) ? { [broken]: true } : {};
}

export function withoutOf(broken: Break | undefined): Without {
  return brokenOf(broken, GROUP_BREAKS);
}

function makeWorld({ seed, broken }: RunOptions): World {
  const without = withoutOf(broken);
  const around = brokenOf(broken, MACHINE_BREAKS);
  if (seed % 3 !== 0) return new LuWorld(seed, without, around);
  return new FsWorld(seed, without, around, brokenOf(broken, FS_BREAKS));
}

/** One run. Never throws: a failure is a result. */
export async function runSeed(options: RunOptions): Promise<RunResult> {
  const world = makeWorld(options);
  const progress = { step: -1 };
  const strays: unknown[] = [];
  const stray = (error: unknown): void => void strays.push(error);
  process.on("unhandledRejection", stray);
  const failure = await failureOf(play(world, options, progress, strays), progress);
  process.off("unhandledRejection", stray);
  return { digest: world.simulation.digest(), events: world.simulation.eventCount, failure };
}

async function play(
  world: World,
  { seed, steps, only, onStep }: RunOptions,
  progress: { step: number },
  strays: readonly unknown[],
): Promise<void> {
  await world.create();
  for (const [step, name] of schedule(seed, steps).entries()) {
    if (only !== undefined && !only.includes(step)) continue;
    progress.step = step;
    onStep?.(step, name);
    await stepNamed(name)(world, stepRandom(seed, step));
    // What nobody waits for must not fail either: it would end the daemon.
    if (strays.length > 0) throw strays[0];
  }
  progress.step = -1;
  await world.end();
}

async function failureOf(run: Promise<void>, progress: { step: number }): Promise<RunFailure | null> {
  try {
    await run;
    return null;
  } catch (error) {
    if (error instanceof BeyondFaultModel) return null;
    const { message, stack } = error as Error;
    return { step: progress.step, what: message, stack: stack ?? message };
  }
}
