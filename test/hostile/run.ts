import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { SeededRandom } from "../../src/lib/prng.js";
import { MIB } from "../../src/lib/units.js";
import { LIMITS } from "../../src/limits.js";
import type { BystanderReport } from "./bystander-report.js";
import { RawSender } from "./raw.js";
import type { Scenario } from "./scenario.js";
import { CLIENTS, STRANGERS, Target } from "./target.js";

/** What must hold during every scenario. */
const BOUNDS = {
  /** Of each kind of call of the bystander. */
  p99Ms: 100,
  /** A piece of work in the daemon. */
  loopMs: 20,
  residentMib: (LIMITS.dataCacheBytesDefault + LIMITS.metadataCacheBytesDefault) / MIB + 350,
} as const;

/** Above this the machine is busy with other things, and times say nothing of the daemon. */
const MACHINE_LATE_MS_MAX = 15;
/** Fewer calls have no p99. */
const CALLS_MIN = 50;
/** No machine is busy so long: whoever waits longer is kept out. Few calls are made then, so that their p99 says nothing. */
const CALL_MS_MAX = 1000;
const SLICE_MS = 4_000;
/** A scenario that has not ended so long after its time hangs. */
const GRACE_MS = 20_000;
const OVER_LOOP = `event_loop_delays_total{over="${BOUNDS.loopMs / 1000}"}`;

export interface HostileOptions {
  readonly scenarios: readonly Scenario[];
  readonly seconds: number;
  readonly seed: number;
  readonly say: (line: string) => void;
  /** How often a scenario is tried whose times alone were above the bounds: a machine has bad moments, the daemon must have a good one. Default: once. */
  readonly attempts?: number;
}

export interface Verdict {
  readonly scenario: string;
  readonly failures: readonly string[];
  /** Of these, times above the bounds. */
  readonly late: readonly string[];
  readonly notes: readonly string[];
}

/** Bring a rig up, let each scenario at it in turn, in an order that the seed gives, and judge after each. Ends early when the daemon has. */
export async function runHostile({ scenarios, seconds, seed, say, attempts = 1 }: HostileOptions): Promise<Verdict[]> {
  const { sender, why } = RawSender.open();
  const usable = scenarios.filter(({ needsRaw }) => needsRaw !== true || sender !== null);
  for (const { name } of scenarios.filter((one) => !usable.includes(one))) say(`SKIPPED ${name}: ${why}`);
  const target = await Target.up();
  const bystander = new BystanderProcess(target.port, seed);
  const random = new SeededRandom(seed);
  const verdicts: Verdict[] = [];
  try {
    await bystander.warm();
    const endMs = performance.now() + seconds * 1000;
    const sliceMs = Math.min(SLICE_MS, (seconds * 1000) / Math.max(1, usable.length));
    while (usable.length > 0 && performance.now() < endMs && target.isAlive) {
      for (const scenario of shuffled(usable, random)) {
        if (performance.now() >= endMs || !target.isAlive) break;
        const field = { target, bystander, raw: sender, seed: random.next(), sliceMs };
        let verdict = await judge(scenario, field);
        for (let again = 1; again < attempts && isOnlyLate(verdict); again++) {
          say(`once more ${scenario.name}: ${verdict.late.join("; ")}`);
          verdict = await judge(scenario, field);
        }
        verdicts.push(verdict);
        const { failures, notes } = verdict;
        say(`${failures.length === 0 ? "ok    " : "FAILED"} ${scenario.name}: ${[...failures, ...notes].join("; ")}`);
      }
    }
  } finally {
    bystander.end();
    await sender?.close();
    await target.remove();
  }
  return verdicts;
}

function isOnlyLate({ failures, late }: Verdict): boolean {
  return failures.length > 0 && failures.length === late.length;
}

function shuffled<T>(from: readonly T[], random: SeededRandom): T[] {
  const rest = [...from];
  return from.map(() => rest.splice(random.below(rest.length), 1)[0]!);
}

interface Field {
  readonly target: Target;
  readonly bystander: BystanderProcess;
  readonly raw: RawSender | null;
  readonly seed: number;
  readonly sliceMs: number;
}

async function judge(scenario: Scenario, { target, bystander, raw, seed, sliceMs }: Field): Promise<Verdict> {
  const notes: string[] = [];
  const failures: string[] = [];
  await bystander.report();
  const lateBefore = await target.metric(OVER_LOOP);
  const watch = new ResidentWatch(target);
  const context = {
    ...{ target, raw, random: new SeededRandom(seed), strangers: STRANGERS, clients: CLIENTS },
    untilMs: performance.now() + sliceMs,
    note: (what: string) => void notes.push(what),
  };
  try {
    await withinTime(scenario.run(context), sliceMs + GRACE_MS);
  } catch (error) {
    if (target.isAlive) failures.push(error instanceof Error ? error.message : String(error));
  }
  const peakMib = watch.end();
  if (!target.isAlive) {
    return { scenario: scenario.name, failures: [`the daemon has ended: ${target.lastWords()}`], late: [], notes };
  }
  const report = await bystander.report();
  failures.push(...report.wrong.slice(0, 5).map((what) => `the bystander: ${what}`));
  failures.push(...stalls(report));
  if (peakMib > BOUNDS.residentMib) failures.push(`resident ${peakMib.toFixed(0)} MiB`);
  const lateCount = ((await target.metric(OVER_LOOP)) ?? 0) - (lateBefore ?? 0);
  const pieces = lateCount > 0 ? [`${lateCount} pieces of work above ${BOUNDS.loopMs} ms`] : [];
  const times = [...slowRows(report), ...pieces];
  const late = report.lateMsMax <= MACHINE_LATE_MS_MAX ? times : [];
  failures.push(...late);
  if (late.length < times.length)
    notes.push(`not judged, the machine itself was ${report.lateMsMax.toFixed(0)} ms late: ${times.join(", ")}`);
  const worst = Math.max(0, ...report.rows.map(({ p99Ms }) => p99Ms));
  notes.push(`bystander p99 ${worst.toFixed(1)} ms`, `resident ${peakMib.toFixed(0)} MiB`);
  return { scenario: scenario.name, failures, late, notes };
}

function slowRows({ rows }: BystanderReport): string[] {
  return rows
    .filter(({ count, p99Ms }) => count >= CALLS_MIN && p99Ms > BOUNDS.p99Ms)
    .map(({ kind, p99Ms }) => `bystander's ${kind} took ${p99Ms.toFixed(0)} ms (p99)`);
}

function stalls({ rows, lateMsMax }: BystanderReport): string[] {
  return rows
    .filter(({ maxMs }) => maxMs > CALL_MS_MAX + lateMsMax)
    .map(({ kind, maxMs }) => `bystander's ${kind} took ${maxMs.toFixed(0)} ms`);
}

async function withinTime(work: Promise<void>, limitMs: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const over = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error("the scenario does not end")), limitMs);
  });
  try {
    await Promise.race([work, over]);
  } finally {
    clearTimeout(timer);
  }
}

class ResidentWatch {
  #peakMib = 0;
  readonly #timer: NodeJS.Timeout;

  constructor(private readonly target: Target) {
    this.#look();
    this.#timer = setInterval(() => this.#look(), 100);
  }

  end(): number {
    clearInterval(this.#timer);
    this.#look();
    return this.#peakMib;
  }

  #look(): void {
    if (this.target.isAlive) this.#peakMib = Math.max(this.#peakMib, this.target.residentMib);
  }
}

/** bystander.ts as a process. */
class BystanderProcess {
  readonly #child: ChildProcess;

  constructor(port: number, seed: number) {
    const program = fileURLToPath(new URL("bystander.js", import.meta.url));
    this.#child = fork(program, [String(port), String(seed)], { stdio: ["ignore", "inherit", "inherit", "ipc"] });
  }

  /** Until it has made its first calls, and no call of a cold start counts. */
  async warm(): Promise<void> {
    for (let calls = 0; calls < 200; ) {
      await new Promise((resolve) => setTimeout(resolve, 100));
      const { rows, wrong } = await this.report();
      if (wrong.length > 0) throw new Error(`the bystander does not get on: ${wrong[0]}`);
      for (const { count } of rows) calls += count;
    }
  }

  async report(): Promise<BystanderReport> {
    const answer = once(this.#child, "message");
    this.#child.send("report");
    const [report] = (await answer) as [BystanderReport];
    return report;
  }

  end(): void {
    if (this.#child.connected) this.#child.disconnect();
  }
}
