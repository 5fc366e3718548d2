/** `npm run bench -- raid`: the RAID layer against its peers, both in one run, turn by turn. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { MIB } from "../../src/lib/units.js";
import { LIMITS } from "../../src/limits.js";
import { packages } from "../../test/support/packages.js";
import { machine } from "../host.js";
import { markdownTable, terminalTable } from "../report.js";
import { stopChildren, Undo } from "../undo.js";
import { background } from "./background.js";
import type { Bench, Part } from "./bench.js";
import { type Outcome, ratioOf } from "./contest.js";
import { kernel } from "./kernel.js";
import { degraded, sequential } from "./sequential.js";
import { journalCost, smallWrites } from "./small-writes.js";
import { cells, footnotes } from "./table.js";

const PARTS: Readonly<Record<string, Part>> = { kernel, sequential, smallWrites, journalCost, degraded, background };

const HELP = `Usage: npm run bench -- raid [options]

  --rounds N     of each contest; the kernel's has three times as many (5)
  --size MiB     of the LUs (512)
  --only A,B,…   of ${Object.keys(PARTS).join(", ")}
  --dir DIR      where the disks are kept (a temporary folder)
  --json FILE    everything measured, for programs
  --markdown     the table in Markdown
`;

const OPTIONS = {
  rounds: { type: "string", default: "5" },
  size: { type: "string", default: "512" },
  only: { type: "string" },
  dir: { type: "string" },
  json: { type: "string" },
  markdown: { type: "boolean", default: false },
  help: { type: "boolean", default: false },
} as const;

function options() {
  const args = process.argv.slice(2).filter((arg, index) => index > 0 || arg !== "raid");
  return parseArgs({ args, options: OPTIONS }).values;
}

type Options = ReturnType<typeof options>;

function count(text: string, name: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 1) throw new Error(`--${name} wants a positive whole number`);
  return value;
}

function chosen(values: Options): [string, Part][] {
  const names = values.only?.split(",") ?? Object.keys(PARTS);
  return names.map((name) => {
    const part = PARTS[name];
    if (part === undefined) throw new Error(`--only wants some of ${Object.keys(PARTS).join(", ")}, not ${name}`);
    return [name, part];
  });
}

/** As many I/O threads as the daemon has; Node reads their number once, at its start. */
async function again(): Promise<void> {
  const args = [...process.execArgv, fileURLToPath(import.meta.url), ...process.argv.slice(2)];
  const env = { ...process.env, UV_THREADPOOL_SIZE: String(LIMITS.ioThreads) };
  // A terminal's Ctrl-C reaches the child too, which undoes what it made.
  process.on("SIGINT", () => {});
  const child = spawn(process.execPath, args, { stdio: "inherit", env });
  process.on("SIGTERM", () => child.kill("SIGTERM"));
  const [status] = (await once(child, "exit")) as [number | null];
  process.exitCode = status ?? 1;
}

async function runParts(parts: readonly [string, Part][], values: Options, bench: Omit<Bench, "folder" | "undo">) {
  const outcomes: Outcome[] = [];
  for (const [name, part] of parts) {
    console.error(`bench: ${name}`);
    const undo = new Undo();
    try {
      const folder = mkdtempSync(path.join(values.dir ?? os.tmpdir(), "stripeward-bench-"));
      undo.add("remove the disks", () => rmSync(folder, { recursive: true, force: true }));
      outcomes.push(...(await part({ ...bench, folder, undo })));
    } catch (error) {
      bench.goOn();
      console.error(`bench: ${name} left out: ${(error as Error).message}`);
      process.exitCode = 1;
    } finally {
      await undo.all();
    }
  }
  return outcomes;
}

function print(values: Options, rounds: number, outcomes: readonly Outcome[]): void {
  const here = machine();
  const table = cells(outcomes);
  const lines = [
    values.markdown ? markdownTable(table) : terminalTable(table),
    "",
    `${here.date}, ${here.cpu}, ${here.cores} cores, ${here.memoryMiB} MiB, Linux ${here.kernel}, Node ${here.node}.`,
    `LUs of ${values.size} MiB; medians of ${rounds} rounds, turn by turn; the ratio is the median of the rounds' ratios.`,
    ...footnotes(outcomes),
  ];
  console.log(lines.join("\n"));
  if (values.json === undefined) return;
  const contests = outcomes.map((outcome) => ({ ...outcome, ratio: ratioOf(outcome) }));
  writeFileSync(values.json, `${JSON.stringify({ machine: here, rounds, contests }, null, 2)}\n`);
}

async function measure(values: Options): Promise<void> {
  const rounds = count(values.rounds, "rounds");
  const luBytes = count(values.size, "size") * MIB;
  const parts = chosen(values);
  packages("bench", "install");
  let interrupted = false;
  const interrupt = () => {
    interrupted = true;
    stopChildren();
  };
  process.on("SIGINT", interrupt);
  process.on("SIGTERM", interrupt);
  const goOn = () => {
    if (interrupted) throw new Error("interrupted; everything has been removed");
  };
  const outcomes = await runParts(parts, values, { rounds, luBytes, goOn });
  print(values, rounds, outcomes);
  if (outcomes.some(({ failure }) => failure !== undefined)) process.exitCode = 1;
}

export async function main(): Promise<void> {
  const values = options();
  if (values.help) process.stdout.write(HELP);
  else if (process.env.UV_THREADPOOL_SIZE === undefined) await again();
  else await measure(values);
}

// Started by itself, with its threads.
if (process.argv[1] === fileURLToPath(import.meta.url)) {
  main().catch((error: unknown) => {
    console.error(`bench: ${(error as Error).message}`);
    process.exitCode = 1;
  });
}
