import path from "node:path";
import { Command, InvalidArgumentError, Option } from "commander";
import type { FaultRow, InjectedFault } from "../../control/fault-bench.js";
import { formatSize } from "../../lib/size.js";
import { ApiClient } from "../client.js";
import { countArgument, jsonOption, sizeArgument } from "../context.js";
import { UsageError } from "../errors.js";
import { diskNumber, Output } from "../output.js";
import { rigSocket } from "./choose.js";
import { dirOption } from "./options.js";

/** In the order of the help. */
const KINDS: Readonly<Record<FaultRow["kind"], string>> = {
  gone: "pulled out: every request fails, and the disk is not found until the fault is cleared",
  eio: "requests fail (--at, --bytes: those that touch the range; --on: only reads, only writes)",
  slow: "every request takes --delay milliseconds longer, and holds a thread meanwhile",
  bitrot: "--hits bits (1) flip on the disk at once, for good; by default somewhere in use",
  torn: "writes are acknowledged after only their first sectors were written",
  lost: "writes are acknowledged and not done",
  misdirected: "writes are acknowledged and done up to 1 MiB beside their place",
};

const HELP = `
Kinds:
${Object.entries(KINDS)
  .map(([kind, what]) => `  ${kind.padEnd(12)} ${what}`)
  .join("\n")}

The daemon holds the faults: a restart forgets them. What they did to the disks stays.`;

interface FaultArguments {
  readonly dir: string;
  readonly node?: string;
  readonly disk?: number;
  readonly kind?: FaultRow["kind"];
  readonly at?: number;
  readonly bytes?: number;
  readonly delay?: number;
  readonly hits?: number;
  readonly on?: "read" | "write";
  readonly seed?: number;
  readonly clear?: true;
  readonly list?: true;
  readonly json?: true;
}

export function faultCommand(): Command {
  return new Command("fault")
    .description("make a disk of a running rig fail or lie")
    .addOption(dirOption())
    .addOption(new Option("--node <name>", "of two: for which the disk fails (default: the one that serves)"))
    .addOption(new Option("--disk <number>", "1, #001, …").argParser(oneDisk))
    .addOption(new Option("--kind <kind>", "what is wrong, see below").choices(Object.keys(KINDS)))
    .addOption(new Option("--at <byte>", "where on the disk (default: anywhere)").argParser(sizeArgument))
    .addOption(
      new Option("--bytes <count>", "how far from there (default: bitrot 1, else to the end)").argParser(sizeArgument),
    )
    .addOption(new Option("--delay <ms>", "of slow").argParser(countArgument(1, 600_000)))
    .addOption(
      new Option("--hits <count>", "end by itself after so many (default: stay)").argParser(countArgument(1, 1e6)),
    )
    .addOption(new Option("--on <request>", "of eio").choices(["read", "write"]))
    .addOption(seedOption())
    .addOption(new Option("--clear", "take faults back: all, of a disk, of a kind").conflicts("list"))
    .option("--list", "what is set")
    .addOption(jsonOption())
    .addHelpText("after", HELP)
    .action(async (options: FaultArguments) => {
      const api = new ApiClient(rigSocket(path.resolve(options.dir), options.node));
      const out = new Output(options.json === true);
      if (options.list === true) await list(api, out);
      else if (options.clear === true) await clear(api, out, options);
      else await inject(api, out, options);
    });
}

export function seedOption(): Option {
  return new Option("--seed <number>", "repeat what chance decided (default: another one each time)").argParser(
    countArgument(0, Number.MAX_SAFE_INTEGER),
  );
}

function oneDisk(text: string): number {
  const match = /^#?(\d{1,3})$/.exec(text);
  if (match === null || Number(match[1]) === 0)
    throw new InvalidArgumentError("wants one disk number, such as 2 or #002");
  return Number(match[1]);
}

async function list(api: ApiClient, out: Output): Promise<void> {
  const rows = await api.get<FaultRow[]>("/v1/faults");
  out.result(rows, () => {
    if (rows.length === 0) out.line("No fault is set.");
    else out.table(["DISK", "KIND", "WHERE", "HITS LEFT", "PATH"], rows.map(cells));
  });
}

async function clear(api: ApiClient, out: Output, { disk, kind }: FaultArguments): Promise<void> {
  const rows = await api.delete<FaultRow[]>("/v1/faults", { disk, kind });
  out.result(rows, () => {
    if (rows.length === 0) out.line("No such fault was set.");
    for (const row of rows) out.line(`Cleared: ${row.kind} of disk ${diskNumber(row.disk)}.`);
  });
}

async function inject(api: ApiClient, out: Output, options: FaultArguments): Promise<void> {
  const { disk, kind, at, bytes, delay, hits, on, seed } = options;
  if (disk === undefined || kind === undefined) throw new UsageError("wants --disk and --kind, or --list, or --clear");
  if (kind === "slow" && delay === undefined) throw new UsageError("--kind slow wants --delay MS");
  const request = { disk, kind, position: at, byteCount: bytes, delayMs: delay, hits, on, seed };
  const injected = await api.post<InjectedFault>("/v1/faults", request);
  out.result(injected, () => {
    for (const { position, bit } of injected.rotten) {
      out.line(`Disk ${diskNumber(disk)}: bit ${bit} of byte ${position} is flipped (${injected.path}).`);
    }
    if (kind !== "bitrot") out.line(`Disk ${diskNumber(disk)}: ${kind} (${injected.path}).`);
    else if (injected.rotten.length === 0)
      out.line(`Disk ${diskNumber(disk)}: nothing is written on it that could rot.`);
  });
}

function cells({ disk, kind, position, byteCount, delayMs, on, hitsLeft, path }: FaultRow): string[] {
  const what = [kind, on === null ? "" : `on ${on}`, delayMs === null ? "" : `${delayMs} ms`].filter(
    (word) => word !== "",
  );
  const length = byteCount === null ? "to the end" : formatSize(byteCount);
  const where = position === null && byteCount === null ? "everywhere" : `byte ${position ?? 0}, ${length}`;
  return [diskNumber(disk), what.join(" "), where, hitsLeft === null ? "–" : String(hitsLeft), path];
}
