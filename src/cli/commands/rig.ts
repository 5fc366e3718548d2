import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Command, Option } from "commander";
import type { StatusReport } from "../../control/types.js";
import { KIB } from "../../lib/units.js";
import { countArgument, jsonOption, levelArgument, sizeArgument } from "../context.js";
import { CliError, UsageError } from "../errors.js";
import { diskNumber, Output } from "../output.js";
import { crashCommand } from "../rig/crash.js";
import { faultCommand } from "../rig/fault.js";
import { dirOption } from "../rig/options.js";
import { readRig, rigNodes } from "../rig/record.js";
import { type RigReport, rigDown, rigReport, rigStatus, rigUp } from "../rig/up.js";
import { printStatus } from "./status.js";

export function rigCommand(): Command {
  return new Command("rig")
    .description("a whole cabinet out of files, to try and to test against")
    .addCommand(up())
    .addCommand(down())
    .addCommand(status())
    .addCommand(faultCommand())
    .addCommand(crashCommand());
}

interface UpArguments {
  readonly dir: string;
  readonly nodes?: 1 | 2;
  readonly disks?: number;
  readonly diskSize?: number;
  readonly raid?: 1 | 5;
  readonly loop?: true;
  readonly nfsPort?: number;
  readonly portmap?: boolean;
  readonly faults?: boolean;
  readonly volatileCache?: boolean;
  readonly foreground?: true;
  readonly json?: true;
}

function up(): Command {
  return new Command("up")
    .description("make a rig, or bring one up again with the data that was there")
    .addOption(dirOption())
    .addOption(
      new Option(
        "--nodes <count>",
        "daemons that look at the same disks: 2 is a pair, of which each takes over from the other (default: 1)",
      ).argParser(countArgument(1, 2)),
    )
    .addOption(new Option("--disks <count>", "disk files (default: 5)").argParser(countArgument(2, 64)))
    .addOption(new Option("--disk-size <size>", "of each, sparse (default: 1G)").argParser(sizeArgument))
    .addOption(new Option("--raid <level>", "of the file system's data: 5 or 1 (default: 5)").argParser(levelArgument))
    .option("--loop", "put loop devices over the files (root)")
    .addOption(
      new Option("--nfs-port <port>", "on 127.0.0.1 (default: a free one, remembered)").argParser(
        countArgument(1, 65535),
      ),
    )
    .option("--portmap", "answer on port 111 too, so that a kernel's client can lock (root; no rpcbind may run)")
    .option("--no-portmap", "leave port 111 alone (default)")
    .option("--volatile-cache", "give each disk a write cache that a crash tears (slower)")
    .option("--no-volatile-cache", "take it away again (default)")
    .option("--faults", "let disks be made to fail and lie (default)")
    .option("--no-faults", "nothing between the daemon and the disks, for benchmarks")
    .option("--foreground", "stay until Ctrl-C, then stop the rig")
    .addOption(jsonOption())
    .addHelpText("after", "\nWith a disk file moved away it comes up degraded and says so.")
    .action(async (options: UpArguments) => {
      if (options.faults === false && options.volatileCache === true)
        throw new UsageError("--volatile-cache is one of the faults that --no-faults leaves out");
      const dir = path.resolve(options.dir);
      const status = await rigUp({
        dir,
        nodes: options.nodes,
        diskCount: options.disks,
        diskBytes: wholeBlocks(options.diskSize),
        level: options.raid,
        loop: options.loop,
        nfsPort: options.nfsPort,
        portmap: options.portmap,
        faults: options.faults,
        volatileCache: options.volatileCache,
      });
      const out = new Output(options.json === true);
      const report = rigReport(dir, status);
      out.result(report, () => printUp(out, report, status.active, options.foreground === true));
      if (options.foreground === true) await stay(dir, out);
    });
}

function wholeBlocks(bytes: number | undefined): number | undefined {
  if (bytes === undefined || bytes % (4 * KIB) === 0) return bytes;
  throw new UsageError("--disk-size wants a multiple of 4K");
}

function printUp(out: Output, report: RigReport, status: StatusReport, foreground: boolean): void {
  const inGroups = new Set(report.groups.flatMap(({ disks }) => disks));
  const extra = status.disks.some(({ group }) => group === "shared") ? ", a shared LU and its backup" : "";
  const what = `${inGroups.size} disks${extra}, state ${status.state}, process ${status.pid}`;
  out.line(`The rig in ${report.dir} is up: ${what}.`);
  for (const warning of status.warnings) out.line(`warning: ${warning}`);
  for (const { number, path, state } of status.disks) {
    if (state !== "online") out.line(`  disk ${diskNumber(number)} is ${state}: ${path}`);
  }
  for (const entry of report.exports) printMounting(out, entry, report.service);
  out.line();
  out.line(`Look at it:   npx stripeward status --dir ${report.dir}`);
  out.line(foreground ? "Stop it:      Ctrl-C" : `Stop it:      npx stripeward rig down --dir ${report.dir}`);
}

/** A kernel mount needs root; libnfs needs nothing. A rig leaves port 111 alone, where lock managers ask, hence nolock. */
function printMounting(
  out: Output,
  entry: { path: string; url: string },
  { host, nfsPort }: RigReport["service"],
): void {
  const options = `vers=3,proto=tcp,nolock,port=${nfsPort},mountport=${nfsPort},mountproto=tcp`;
  out.line();
  out.line(`Mount ${entry.path}:  sudo mount -t nfs -o ${options} ${host}:${entry.path} /mnt`);
  out.line(`Without root: nfs-ls '${entry.url}'`);
  out.line(`              nfs-cp FILE '${entry.url.replace("?", "/FILE?")}'`);
}

/** Until Ctrl-C; then everything is stopped. When the daemon goes by itself, that is an error. */
async function stay(dir: string, out: Output): Promise<void> {
  let asked = false;
  const ask = () => {
    asked = true;
  };
  process.on("SIGINT", ask);
  process.on("SIGTERM", ask);
  const record = readRig(dir);
  while (!asked && (await rigStatus(dir, record).catch(() => null)) !== null) await sleep(200);
  const outcome = await rigDown(dir);
  if (!asked) throw new CliError(`the daemon has ended by itself; see ${rigNodes(dir, record)[0]?.log}`);
  if (!out.json) out.line(outcome === "killed" ? "The rig had to be killed." : "The rig is stopped; its data stays.");
}

function down(): Command {
  return new Command("down")
    .description("stop a rig; its data stays")
    .addOption(dirOption())
    .addOption(jsonOption())
    .action(async ({ dir, json }: { dir: string; json?: true }) => {
      const resolved = path.resolve(dir);
      const outcome = await rigDown(resolved);
      const out = new Output(json === true);
      const sentences = {
        absent: `The rig in ${resolved} was not running.`,
        stopped: `The rig in ${resolved} is stopped; its data stays.`,
        killed: `The rig in ${resolved} did not stop in time and was killed; its data stays.`,
      };
      out.result({ dir: resolved, outcome }, () => out.line(sentences[outcome]));
    });
}

function status(): Command {
  return new Command("status")
    .description("print whether a rig is up and what it has")
    .addOption(dirOption())
    .addOption(jsonOption())
    .action(async ({ dir, json }: { dir: string; json?: true }) => {
      const resolved = path.resolve(dir);
      const record = readRig(resolved);
      const out = new Output(json === true);
      const report = await rigStatus(resolved, record);
      if (report === null) {
        out.result({ dir: resolved, running: false }, () => out.line(`The rig in ${resolved} is down.`));
        return;
      }
      out.result({ running: true, ...rigReport(resolved, report) }, () => {
        for (const one of report.nodes) printStatus(out, one);
      });
    });
}
