import { Command, Option } from "commander";
import type { LuRow } from "../../control/types.js";
import { type CommonOptions, contextOf, levelArgument, sizeOrMaxArgument, withDaemonOptions } from "../context.js";
import { diskNumbers, type Output, volume } from "../output.js";

export function luCommand(): Command {
  return new Command("lu")
    .description("logical units on a group")
    .addCommand(list())
    .addCommand(create())
    .addCommand(resize())
    .addCommand(remove());
}

function list(): Command {
  return withDaemonOptions(new Command("list"))
    .description("print the LU table: number, physical disks, volume, RAID")
    .action(async (options: CommonOptions) => {
      const { api, out } = contextOf(options);
      const lus = await api.get<LuRow[]>("/v1/lus");
      out.result(lus, () => printLus(out, lus));
    });
}

interface CreateOptions extends CommonOptions {
  readonly group?: string;
  readonly size: number | "max";
  readonly raid: 1 | 5;
}

function create(): Command {
  return withDaemonOptions(new Command("create"))
    .description("make an LU without a file system on it (fs create makes its own)")
    .argument("<name>", "unique in the group")
    .addOption(
      new Option("--size <size>", "10G, or max for all that is free")
        .argParser(sizeOrMaxArgument)
        .makeOptionMandatory(),
    )
    .addOption(new Option("--raid <level>", "5 or 1").argParser(levelArgument).default(5))
    .option("--group <name>", "needed when there are several")
    .action(async (name: string, { group, size, raid, ...options }: CreateOptions) => {
      const { api, out } = contextOf(options);
      const lu = await api.post<LuRow>("/v1/lus", { name, group, level: raid, sizeBytes: size });
      out.result(lu, () => printLus(out, [lu]));
    });
}

interface ResizeOptions extends CommonOptions {
  readonly group?: string;
  readonly force?: true;
}

function resize(): Command {
  return withDaemonOptions(new Command("resize"))
    .description("make an LU larger, and the file system on it with it; or smaller, when nothing uses it")
    .argument("<lu>", "name or number")
    .argument("<size>", "the new size: 10G, or max for all that is free", sizeOrMaxArgument)
    .option("--group <name>", "needed when there are several")
    .option("--force", "smaller: give up what stands beyond the new end")
    .action(async (lu: string, sizeBytes: number | "max", { group, force, ...options }: ResizeOptions) => {
      const { api, out } = contextOf(options);
      const body = { group, sizeBytes, force: force === true };
      const row = await api.post<LuRow>(`/v1/lus/${encodeURIComponent(lu)}/resize`, body);
      out.result(row, () => printLus(out, [row]));
    });
}

function remove(): Command {
  return withDaemonOptions(new Command("delete"))
    .description("delete an LU and what is on it; refused while a file system uses it")
    .argument("<lu>", "name or number")
    .option("--group <name>", "needed when there are several")
    .action(async (lu: string, { group, ...options }: CommonOptions & { group?: string }) => {
      const { api, out } = contextOf(options);
      const deleted = await api.delete<LuRow>(`/v1/lus/${encodeURIComponent(lu)}`, { group });
      out.result(deleted, () => out.line(`LU #${deleted.number} (${deleted.name}) deleted`));
    });
}

/** The drawings' four columns, then its name and group. */
export function printLus(out: Output, lus: readonly LuRow[]): void {
  out.table(
    ["LU", "DISKS", "VOLUME", "RAID", "NAME", "GROUP"],
    lus.map((lu) => [
      `#${lu.number}`,
      diskNumbers(lu.disks),
      volume(lu.sizeBytes),
      String(lu.level),
      lu.name,
      lu.group,
    ]),
  );
}
