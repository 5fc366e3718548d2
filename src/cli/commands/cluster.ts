import { spawn } from "node:child_process";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { Command, Option } from "commander";
import { makeBundle } from "../../cluster/bundle.js";
import { initCluster } from "../../cluster/init.js";
import type { PrintedInvitation } from "../../cluster/install-server.js";
import { TOKEN_VARIABLE } from "../../cluster/installer.js";
import { EXAMPLE_PLAN, loadPlan } from "../../cluster/plan.js";
import { type ClusterRecord, RecordBook, type StepRow } from "../../cluster/record.js";
import { SystemRandom } from "../../control/system-random.js";
import { SILENT } from "../../lib/log.js";
import { jsonOption } from "../context.js";
import { CliError } from "../errors.js";
import { Output, tell } from "../output.js";

/** Folder of package.json, from dist/src/cli/commands. */
const ROOT = fileURLToPath(new URL("../../../..", import.meta.url));
const CLI = fileURLToPath(new URL("../main.js", import.meta.url));

export function clusterCommand(): Command {
  return new Command("cluster")
    .description("set a pair of nodes up from a management terminal, as one recorded sequence")
    .addCommand(init())
    .addCommand(show())
    .addCommand(plan());
}

function recordOption(): Option {
  return new Option("--dir <dir>", "folder of the record and the release bundle").default("cluster");
}

function init(): Command {
  return new Command("init")
    .description("initialise the shared LU and its backup, define paths, install both nodes over the network")
    .requiredOption("--plan <file>", "what is to be brought about (YAML; see cluster plan)")
    .addOption(recordOption())
    .addOption(jsonOption())
    .addHelpText("after", "\nInterrupted anywhere, the same command goes on with the first step that is not done.")
    .action(async ({ plan: file, dir, json }: { plan: string; dir: string; json?: true }) => {
      const out = new Output(json === true);
      const wanted = loadPlan(file);
      const folder = path.resolve(dir);
      // With --json what goes on is told beside the document.
      const say = (what: string) => (out.json ? tell(what) : out.line(what));
      const record = await initCluster({
        ...{ plan: wanted, folder, say, runLocal },
        disks: { log: SILENT, random: new SystemRandom(), directIo: wanted.directIo },
        bundle: (place) => makeBundle(ROOT, place),
      });
      out.result(record, () =>
        out.line("The set-up is complete: cluster show tells who did what, node list who serves."),
      );
    });
}

/** The installer of a node on this machine, a process of its own that is ended with this one. */
function runLocal({ url, token }: PrintedInvitation): Promise<string | null> {
  const env = { ...process.env, [TOKEN_VARIABLE]: token };
  const child = spawn(process.execPath, [CLI, "node", "join", url], { stdio: ["ignore", "ignore", "pipe"], env });
  const stop = () => void child.kill("SIGTERM");
  process.once("exit", stop);
  let complaint = "";
  child.stderr.on("data", (piece) => {
    complaint += String(piece);
  });
  return new Promise((resolve) => {
    child.once("error", (error) => resolve(error.message));
    child.once("close", (status) => {
      process.off("exit", stop);
      const words =
        complaint
          .trim()
          .split("\n")
          .at(-1)
          ?.replace(/^stripeward: /, "") ?? "";
      resolve(status === 0 ? null : words || `the installer ended with status ${status}`);
    });
  });
}

function show(): Command {
  return new Command("show")
    .description("print the sequence: who did what, when, and what is still to be done")
    .addOption(recordOption())
    .addOption(jsonOption())
    .action(({ dir, json }: { dir: string; json?: true }) => {
      const out = new Output(json === true);
      const record = RecordBook.read(path.resolve(dir));
      if (record === null) throw new CliError(`no set-up has begun in ${path.resolve(dir)} (cluster init)`);
      out.result(record, () => printRecord(out, record));
    });
}

function printRecord(out: Output, { steps }: ClusterRecord): void {
  out.table(["STEP", "WHAT", "STATE", "BY", "BEGUN", "ENDED", "OUTCOME"], steps.map(stepCells));
  const next = steps.find(({ state }) => state !== "done");
  out.line(next === undefined ? "The set-up is complete." : `Next: ${next.what}.`);
}

function stepCells({ what, state, by, begun, ended, outcome }: StepRow, index: number): string[] {
  return [String(index + 1), what, state.toUpperCase(), by ?? "–", begun ?? "–", ended ?? "–", outcome ?? "–"];
}

function plan(): Command {
  return new Command("plan")
    .description("print a plan to begin with, with a comment on each part")
    .addOption(jsonOption())
    .action(({ json }: { json?: true }) => {
      const out = new Output(json === true);
      out.result({ plan: EXAMPLE_PLAN }, () => out.raw(EXAMPLE_PLAN));
    });
}
