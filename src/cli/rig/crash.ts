import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Command, Option } from "commander";
import type { CrashReport } from "../../control/fault-bench.js";
import { LIMITS } from "../../limits.js";
import { ApiClient } from "../client.js";
import { countArgument, jsonOption } from "../context.js";
import { CliError } from "../errors.js";
import { Output } from "../output.js";
import { killDaemon, runningPid } from "./daemon.js";
import { seedOption } from "./fault.js";
import { dirOption } from "./options.js";
import { type RigNode, readRig, rigNodes, rigPaths } from "./record.js";
import { lockRig } from "./up.js";

interface CrashArguments {
  readonly dir: string;
  readonly node: number;
  readonly seed?: number;
  readonly mode: "drop" | "torn";
  readonly json?: true;
}

export function crashCommand(): Command {
  return new Command("crash")
    .description("cut the power of a running rig: the daemon ends at once, without any clean-up")
    .addOption(dirOption())
    .addOption(new Option("--node <number>", "whose").argParser(countArgument(1, 2)).default(1))
    .addOption(seedOption())
    .addOption(
      new Option("--mode <mode>", "what was not flushed is lost, or any sectors of it are written")
        .choices(["drop", "torn"])
        .default("torn"),
    )
    .addOption(jsonOption())
    .addHelpText(
      "after",
      `
Sectors are lost or torn only where disks have a volatile cache ("rig up --volatile-cache"). Without one, whatever the daemon had
written is on the disks, as after kill -9. "rig up" brings the rig up again.`,
    )
    .action(async (options: CrashArguments) => {
      const dir = path.resolve(options.dir);
      const seed = options.seed ?? Math.floor(Math.random() * 2 ** 32);
      const { report, volatileCache } = await rigCrash(dir, options.node, seed, options.mode);
      const keptSectors = sum(report, "keptSectors");
      const lostSectors = sum(report, "lostSectors");
      const out = new Output(options.json === true);
      const document = {
        dir,
        seed,
        mode: options.mode,
        volatileCache,
        keptSectors,
        lostSectors,
        disks: report?.disks ?? [],
      };
      out.result(document, () => {
        out.line(`The power of the rig in ${dir} has failed, seed ${seed}.`);
        if (volatileCache)
          out.line(`Of what was not flushed ${keptSectors} sectors are on the disks and ${lostSectors} are lost.`);
        else out.line("The disks had no volatile cache: nothing that was written is lost or torn.");
        out.line(`Bring it up again:  npx stripeward rig up --dir ${dir}`);
      });
    });
}

interface Crashed {
  /** null when the daemon was only killed. */
  readonly report: CrashReport | null;
  readonly volatileCache: boolean;
}

/** @throws CliError when the rig is not running */
async function rigCrash(dir: string, number: number, seed: number, mode: "drop" | "torn"): Promise<Crashed> {
  const record = readRig(dir);
  const paths = rigPaths(dir);
  const release = lockRig(paths);
  try {
    const node = rigNodes(dir, record)[number - 1];
    if (node === undefined) throw new CliError(`the rig in ${dir} has ${record.nodes} node`);
    const pid = runningPid(node);
    if (pid === undefined) {
      const what = record.nodes === 1 ? "" : `${node.name} of `;
      throw new CliError(`${what}the rig in ${dir} is not running`);
    }
    const report = await cutPower(node, seed, mode);
    // It is gone already, unless it has no fault injection or did not answer.
    await killDaemon(node, pid);
    return { report, volatileCache: report !== null && record.volatileCache };
  } finally {
    release();
  }
}

/** A daemon that hangs, or goes before its answer arrives, is crashed all the same. */
async function cutPower({ socket }: RigNode, seed: number, mode: string): Promise<CrashReport | null> {
  const answer = new ApiClient(socket).post<CrashReport>("/v1/crash", { seed, mode }).catch((error: unknown) => {
    if (error instanceof CliError || error instanceof SyntaxError) return null;
    throw error;
  });
  return Promise.race([answer, sleep(LIMITS.stopMs, null, { ref: false })]);
}

function sum(report: CrashReport | null, key: "keptSectors" | "lostSectors"): number {
  return (report?.disks ?? []).reduce((total, disk) => total + disk[key], 0);
}
