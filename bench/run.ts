/**
 * `npm run bench`: this server and NFS-Ganesha, side by side in one run, under the same calls.
 *
 * Only one server runs at a time; the order changes from round to round. Both keep their disks as sparse files in one folder of
 * the same host file system. Before each server's turn the host writes everything out and drops its page cache (as root), so that
 * both start cold; within a turn, what was written may be cached, by the host or by the server.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import { parseSize } from "../src/lib/size.js";
import { packages } from "../test/support/packages.js";
import { Ganesha } from "./ganesha.js";
import { coldHost, machine } from "./host.js";
import { buildLoadGenerator, type Load, runLoad } from "./load.js";
import { OwnServer } from "./own.js";
import { cells, markdownTable, type Round, terminalTable } from "./report.js";
import { residentMemory, type Server } from "./server.js";
import { stopChildren, Undo } from "./undo.js";

const HELP = `Usage: npm run bench -- [options]
       npm run bench -- raid [options]     RAID against its peers (raid --help)
       npm run bench -- failover [options] what clients see of a takeover (failover --help)

  --rounds N          alternating rounds; the table shows medians (3)
  --size MiB          of the data file (512)
  --files N           in the directory (20000)
  --connections N     (4)
  --depth N           calls in flight on each connection (16)
  --disks N           (5)
  --disk-size SIZE    of each, sparse (4G)
  --only us|ganesha   one server
  --phases A,B,…      see bench/nfsbench.c
  --million           a million files on our own rig: rates and resident memory
  --dir DIR           where the disks are kept (a temporary folder)
  --json FILE         everything measured, for programs
  --markdown          the table in Markdown
`;

const OPTIONS = {
  rounds: { type: "string", default: "3" },
  size: { type: "string", default: "512" },
  files: { type: "string", default: "20000" },
  connections: { type: "string", default: "4" },
  depth: { type: "string", default: "16" },
  disks: { type: "string", default: "5" },
  "disk-size": { type: "string", default: "4G" },
  only: { type: "string" },
  phases: { type: "string" },
  million: { type: "boolean", default: false },
  dir: { type: "string" },
  json: { type: "string" },
  markdown: { type: "boolean", default: false },
  help: { type: "boolean", default: false },
} as const;

class UsageError extends Error {}

function options() {
  try {
    return parseArgs({ options: OPTIONS }).values;
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}

type Options = ReturnType<typeof options>;

function count(text: string, name: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 1) throw new UsageError(`--${name} wants a positive whole number`);
  return value;
}

function loadOf(values: Options): Load {
  return {
    connections: count(values.connections, "connections"),
    depth: count(values.depth, "depth"),
    mib: count(values.size, "size"),
    files: values.million ? 1_000_000 : count(values.files, "files"),
    ...(values.million ? { phases: ["create", "getattr", "lookup", "list"] } : {}),
    ...(values.phases === undefined ? {} : { phases: values.phases.split(",") }),
  };
}

function servers(values: Options, folder: string, undo: Undo): Server[] {
  const disks = count(values.disks, "disks");
  const bytes = parseSize(values["disk-size"]);
  const only = values.million ? "us" : values.only;
  if (only !== undefined && only !== "us" && only !== "ganesha") throw new UsageError("--only wants us or ganesha");
  const out: Server[] = [];
  if (only !== "ganesha") out.push(new OwnServer(folder, disks, bytes, undo));
  if (only !== "us" && peerPossible(only === "ganesha")) out.push(new Ganesha(folder, disks, bytes, undo));
  return out;
}

/** The peer needs root (loop devices, mount) and its packages; without it we still measure ourselves, and say so. */
function peerPossible(required: boolean): boolean {
  const { missing, complaint } = packages("bench", "check");
  const root = process.getuid?.() === 0;
  if (root && missing.length === 0) return true;
  const why = `${complaint}${root ? "" : "bench: NFS-Ganesha needs root (loop devices, mount).\n"}`;
  if (required) throw new Error(why);
  process.stderr.write(`${why}bench: only this server is measured.\n`);
  return false;
}

/** A small run of the same calls, not counted: a server that has run for some seconds is compiled and has its buffers. */
const WARM_UP = { mib: 64, files: 2000 };

async function turn(server: Server, program: string, load: Load): Promise<Round> {
  await server.start();
  try {
    await runLoad(program, server.url, { connections: load.connections, depth: load.depth, ...WARM_UP });
    const phases = await runLoad(program, server.url, load);
    return { server: server.name, phases, memory: residentMemory(server.pid) };
  } finally {
    await server.stop();
  }
}

async function measure(
  list: readonly Server[],
  rounds: number,
  load: Load,
  goOn: () => void,
): Promise<{ rounds: Round[]; pageCache: string }> {
  const program = buildLoadGenerator();
  const done: Round[] = [];
  let pageCache = "";
  for (let round = 0; round < rounds; round++) {
    const order = round % 2 === 0 ? list : [...list].reverse();
    for (const server of order) {
      goOn();
      pageCache = coldHost();
      console.error(`bench: round ${round + 1} of ${rounds}, ${server.name}`);
      done.push(await turn(server, program, load));
    }
  }
  return { rounds: done, pageCache };
}

function print(values: Options, load: Load, list: readonly Server[], rounds: Round[], pageCache: string): void {
  const names = list.map(({ name }) => name);
  const here = machine();
  const table = cells(rounds, names);
  const lines = [
    values.markdown ? markdownTable(table) : terminalTable(table),
    "",
    `${here.date}, ${here.cpu}, ${here.cores} cores, ${here.memoryMiB} MiB, Linux ${here.kernel}, Node ${here.node}.`,
    `${load.connections} connections, ${load.depth} calls in flight each, ${load.mib} MiB, ${load.files} files; medians of ${rounds.length / list.length} rounds.`,
    ...list.map(({ name, description }) => `${name}: ${description}.`),
    `The load generator runs on the same cores. Each turn begins with an uncounted ${WARM_UP.mib} MiB, ${WARM_UP.files} files of the same calls. Host page cache: ${pageCache}.`,
  ];
  console.log(lines.join("\n"));
  if (values.json !== undefined) {
    const document = {
      machine: here,
      load,
      pageCache,
      servers: list.map(({ name, description }) => ({ name, description })),
      rounds,
    };
    writeFileSync(values.json, `${JSON.stringify(document, null, 2)}\n`);
  }
}

async function main(): Promise<void> {
  const values = options();
  if (values.help) {
    process.stdout.write(HELP);
    return;
  }
  const load = loadOf(values);
  const rounds = values.million ? 1 : count(values.rounds, "rounds");
  const undo = new Undo();
  let interrupted = false;
  const interrupt = () => {
    interrupted = true;
    stopChildren();
  };
  process.on("SIGINT", interrupt);
  process.on("SIGTERM", interrupt);
  try {
    packages("bench", "install");
    const folder = mkdtempSync(path.join(values.dir ?? os.tmpdir(), "stripeward-bench-"));
    undo.add("remove the disks", () => rmSync(folder, { recursive: true, force: true }));
    const list = servers(values, folder, undo);
    const measured = await measure(list, rounds, load, () => {
      if (interrupted) throw new Error("interrupted");
    });
    print(values, load, list, measured.rounds, measured.pageCache);
  } catch (error) {
    if (!interrupted) throw error;
    console.error("bench: interrupted; everything is being removed");
    process.exitCode = 130;
  } finally {
    await undo.all();
  }
}

async function chosen(what: string | undefined): Promise<void> {
  if (what === "raid") return (await import("./raid/main.js")).main();
  if (what !== "failover") return main();
  const { failover } = await import("./failover.js");
  process.exitCode = await failover(process.argv.slice(3));
}

// mkfs, losetup and the peer's daemons are there, whoever calls.
process.env.PATH = `${process.env.PATH}:/usr/sbin:/sbin`;
const started = chosen(process.argv[2]);
started.catch((error: unknown) => {
  console.error(`bench: ${(error as Error).message}`);
  if (error instanceof UsageError) process.stderr.write(HELP);
  process.exitCode = error instanceof UsageError ? 2 : 1;
});
