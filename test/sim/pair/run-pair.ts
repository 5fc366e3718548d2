import { SeededRandom } from "../../../src/lib/prng.js";
import { stepRandom } from "../machine.js";
import { act, drawAction } from "./actions.js";
import type { PairBreak } from "./life.js";
import { MODES, PairWorld } from "./pair-world.js";

export const PAIR_STEPS = 8;
const STACK_LINES = 4;
/** After this long what was done has come to rest, or never will. */
const REST_MS_MAX = 60_000;

export interface PairRunOptions {
  readonly seed: number;
  readonly steps: number;
  /** Only these steps of the schedule, by number; all by default. */
  readonly only?: readonly number[] | undefined;
  readonly broken?: PairBreak | undefined;
  readonly tell?: ((what: string) => void) | undefined;
}

export interface PairRunResult {
  readonly digest: string;
  readonly events: number;
  readonly takeovers: number;
  readonly answered: number;
  readonly failure: string | null;
}

/** One run. Never throws: a failure is a result. */
export async function runPair(options: PairRunOptions): Promise<PairRunResult> {
  const { seed, broken, tell = () => {} } = options;
  const world = new PairWorld({ seed, mode: MODES[seed % MODES.length]!, broken, tell });
  const stray = (error: unknown): void => {
    world.failure ??= error as Error;
  };
  process.on("unhandledRejection", stray);
  let failure: string | null = null;
  try {
    await play(world, options);
  } catch (error) {
    failure = (error as Error).message;
    tell((error as Error).stack?.split("\n").slice(0, STACK_LINES).join("\n") ?? failure);
  } finally {
    for (const { life } of world.nodes) life?.end();
    process.off("unhandledRejection", stray);
  }
  const { simulation, ownership, clients } = world;
  const answered = clients.reduce((sum, client) => sum + client.answered, 0);
  const { takeovers } = ownership;
  return { digest: simulation.digest(), events: simulation.eventCount, takeovers, answered, failure };
}

async function play(world: PairWorld, { seed, steps, only }: PairRunOptions): Promise<void> {
  const { simulation } = world;
  await world.create();
  await rest(world, () => world.whole, "the pair does not come together");
  const lottery = new SeededRandom(seed + 0x51ed27);
  for (let step = 0; step < steps; step++) {
    const name = drawAction(lottery);
    if (only !== undefined && !only.includes(step)) continue;
    const random = stepRandom(seed, step);
    world.tell(`step ${step}: ${name}`);
    // A process that is stopped now runs no further: what it would still do without waiting, it has done.
    await simulation.quiesce();
    act(name, world, random);
    if (random.below(2) === 0) await simulation.until(simulation.sleep(random.below(2500)), "a step");
    else await rest(world, () => world.whole, `the pair does not come together after ${name}`);
  }
  await rest(world, () => world.whole, "the pair does not come together in the end");
  for (const client of world.clients) client.stop();
  const quiet = () => world.whole && world.clients.every(({ idle }) => idle);
  await rest(world, quiet, "a client is not answered in the end");
  await end(world);
}

async function rest(world: PairWorld, condition: () => boolean, what: string): Promise<void> {
  const { simulation } = world;
  const endMs = simulation.nowMs + REST_MS_MAX;
  while (!condition()) {
    if (simulation.nowMs > endMs) throw new Error(what);
    await simulation.until(simulation.sleep(20), what);
  }
}

/** Everything that was answered is there; the file system is consistent. Once more when the group went to the other node in the middle of it. */
async function end(world: PairWorld): Promise<void> {
  const { current } = world.ownership;
  try {
    await checkAll(world);
  } catch (error) {
    if (world.ownership.current === current && world.owner !== null) throw error;
    await rest(world, () => world.whole, "the pair does not come together in the end");
    await checkAll(world);
  }
}

async function checkAll(world: PairWorld): Promise<void> {
  const { simulation } = world;
  const groups = world.owner?.life?.groups;
  if (groups?.server == null) throw new Error("nobody has the group in the end");
  const { server } = groups;
  for (const [number, client] of world.clients.entries()) {
    client.check(server);
    const right = await simulation.until(server.contentsAgree(number, client.state), "reading everything");
    if (!right) throw new Error(`files of client ${number} hold what was not written`);
  }
  await simulation.until(groups.check(), "fs check");
}
