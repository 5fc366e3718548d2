import { Command, InvalidArgumentError, Option } from "commander";
import type { PartitionRow, SharedGroupRow } from "../../control/types.js";
import {
  type CommonOptions,
  contextOf,
  diskNumberArgument,
  diskNumbersArgument,
  withDaemonOptions,
} from "../context.js";
import { diskNumber, type Output, volume } from "../output.js";

export function sharedCommand(): Command {
  return new Command("shared")
    .description("the group on which the nodes keep what the partner needs to go on, and its backup")
    .addCommand(create())
    .addCommand(replace())
    .addCommand(show());
}

interface CreateOptions extends CommonOptions {
  readonly disks: readonly number[];
  readonly backup?: true;
  readonly nodes?: readonly string[];
}

function create(): Command {
  return withDaemonOptions(new Command("create"))
    .description("make the shared group, or its backup, of 1 to 4 disks that are not used yet; each holds a copy")
    .addOption(
      new Option("--disks <numbers>", "disk numbers: 6,7").argParser(diskNumbersArgument).makeOptionMandatory(),
    )
    .option("--backup", "the backup, on other disks than the shared group itself")
    .addOption(
      new Option("--nodes <names>", "which nodes may open it: chn1,chn5 (default: all)").argParser(nodesArgument),
    )
    .addHelpText(
      "after",
      "\nBoth nodes of a pair have these disks open at the same time. There is one shared group and one backup.",
    )
    .action(async ({ disks, backup, nodes, ...options }: CreateOptions) => {
      const { api, out } = contextOf(options);
      const group = await api.post<SharedGroupRow>("/v1/shared", { disks, backup: backup === true, nodes });
      out.result(group, () => printGroup(out, group));
    });
}

function replace(): Command {
  return withDaemonOptions(new Command("replace"))
    .description(
      "put an unused disk in the place of a member that is not online; it is brought up to date in the background",
    )
    .argument("<disk>", "the member's number", diskNumberArgument)
    .addOption(
      new Option("--with <disk>", "the number of the other disk").argParser(diskNumberArgument).makeOptionMandatory(),
    )
    .action(async (disk: number, { with: other, ...options }: CommonOptions & { readonly with: number }) => {
      const { api, out } = contextOf(options);
      const group = await api.post<SharedGroupRow>("/v1/shared/replace", { disk, with: other });
      out.result(group, () => printGroup(out, group));
    });
}

function show(): Command {
  return withDaemonOptions(new Command("show"))
    .description("print the shared group and its backup: their disks, and the partition of each node")
    .action(async (options: CommonOptions) => {
      const { api, out } = contextOf(options);
      const groups = await api.get<SharedGroupRow[]>("/v1/shared");
      out.result(groups, () => {
        if (groups.length === 0) out.line("there is no shared group: make one (shared create)");
        for (const [i, group] of groups.entries()) {
          if (i > 0) out.line();
          printGroup(out, group);
        }
      });
    });
}

function nodesArgument(text: string): string[] {
  const names = text.split(",");
  if (names.every((name) => /^chn[1-8]$/.test(name))) return names;
  throw new InvalidArgumentError("wants node names such as chn1,chn5");
}

function printGroup(out: Output, { name, nodes, members, partitions }: SharedGroupRow): void {
  out.line(`group ${name}, for ${nodes.length === 0 ? "all nodes" : nodes.join(" ")}`);
  out.table(
    ["DISK", "VOLUME", "STATE", "PATH"],
    members.map(({ number, sizeBytes, state, path }) => [
      diskNumber(number),
      volume(sizeBytes),
      state.toUpperCase(),
      path,
    ]),
  );
  for (const { number, reason } of members) if (reason !== null) out.line(`disk ${diskNumber(number)}: ${reason}`);
  out.table(
    ["PARTITION", "WRITER", "GENERATION", "EPOCH", "CURRENT", "BEHIND", "VOLUME"],
    partitions.map(partitionCells),
  );
}

function partitionCells({
  node,
  writer,
  closed,
  generation,
  epoch,
  current,
  behind,
  sizeBytes,
}: PartitionRow): string[] {
  const disks = (numbers: readonly number[]) => (numbers.length === 0 ? "–" : numbers.map(diskNumber).join(" "));
  return [
    ...[node, writer === "" ? "–" : `${writer}${closed ? " (closed)" : ""}`, String(generation), String(epoch)],
    ...[disks(current), disks(behind), volume(sizeBytes)],
  ];
}
