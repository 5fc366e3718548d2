import { Command, Option } from "commander";
import { isUnderWay } from "../../control/task-state.js";
import type { GroupRow } from "../../control/types.js";
import { plural } from "../../lib/plural.js";
import { type CommonOptions, contextOf, diskNumbersArgument, sizeArgument, withDaemonOptions } from "../context.js";
import { diskNumber, diskNumbers, type Output, volume } from "../output.js";
import { taskName } from "../progress.js";
import { describeScrub, growCommand, rebuildCommand, scrubCommand } from "./task.js";

export function groupCommand(): Command {
  return new Command("group")
    .description("groups of disks")
    .addCommand(list())
    .addCommand(create())
    .addCommand(assemble())
    .addCommand(scrubCommand())
    .addCommand(rebuildCommand())
    .addCommand(growCommand());
}

function list(): Command {
  return withDaemonOptions(new Command("list"))
    .description("print the groups with their state and free space")
    .action(async (options: CommonOptions) => {
      const { api, out } = contextOf(options);
      const groups = await api.get<GroupRow[]>("/v1/groups");
      out.result(groups, () => printGroups(out, groups));
    });
}

interface CreateOptions extends CommonOptions {
  readonly disks: readonly number[];
  readonly chunk?: number;
}

function create(): Command {
  return withDaemonOptions(new Command("create"))
    .description("make a group of disks that are not used yet")
    .argument("<name>", "letters, digits, - and _")
    .addOption(
      new Option("--disks <numbers>", "disk numbers: 1-5, or 1,2,5")
        .argParser(diskNumbersArgument)
        .makeOptionMandatory(),
    )
    .addOption(
      new Option("--chunk <size>", "bytes on one disk before the next is used (16K to 1M; default 64K)").argParser(
        sizeArgument,
      ),
    )
    .action(async (name: string, { disks, chunk, ...options }: CreateOptions) => {
      const { api, out } = contextOf(options);
      const group = await api.post<GroupRow>("/v1/groups", { name, disks, chunkBytes: chunk });
      out.result(group, () => printGroups(out, [group]));
    });
}

function assemble(): Command {
  return withDaemonOptions(new Command("assemble"))
    .description("try again to put a group together that is not served")
    .argument("<name>")
    .option("--force", "of two halves that were used apart, take the one that was written to more")
    .addHelpText(
      "after",
      "\nWith --force what was written to the other half since they parted is lost. Take its disks out to choose it instead.",
    )
    .action(async (name: string, { force, ...options }: CommonOptions & { force?: true }) => {
      const { api, out } = contextOf(options);
      const body = { force: force === true };
      const group = await api.post<GroupRow>(`/v1/groups/${encodeURIComponent(name)}/assemble`, body);
      out.result(group, () => printGroups(out, [group]));
    });
}

/** Raw space: an LU takes more of it than it offers, by its redundancy. */
export function printGroups(out: Output, groups: readonly GroupRow[]): void {
  out.table(
    ["GROUP", "STATE", "DISKS", "RAW VOLUME", "RAW FREE", "CHUNK"],
    groups.map((group) => [
      group.name,
      group.state.toUpperCase(),
      diskNumbers(group.disks),
      volume(group.rawBytes),
      volume(group.rawFreeBytes),
      volume(group.chunkBytes),
    ]),
  );
  for (const { name, missingDisks, scrub, lostBlocks, unreadable, tasks } of groups) {
    if (missingDisks.length > 0) out.line(`group ${name} lacks disk ${missingDisks.map(diskNumber).join(" ")}`);
    if (unreadable > 0)
      out.line(`group ${name}: ${plural(unreadable, "place")} cannot be read now; tried again and again`);
    for (const task of tasks) {
      if (isUnderWay(task) && task.reason !== undefined)
        out.line(`group ${name}: the ${taskName(task)} ${task.reason}`);
    }
    if (lostBlocks > 0) out.line(`group ${name}: ${plural(lostBlocks, "block")} lost; fs check --data names the files`);
    if (scrub.everySeconds > 0 || scrub.startedMs > 0) out.line(`group ${name}: ${describeScrub(scrub)}`);
  }
}
