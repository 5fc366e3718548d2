import path from "node:path";
import { Command } from "commander";
import type { DiskRow } from "../../control/types.js";
import { type CommonOptions, contextOf, withDaemonOptions } from "../context.js";
import { diskNumber, type Output, volume } from "../output.js";

export function diskCommand(): Command {
  return new Command("disk").description("physical disks").addCommand(list()).addCommand(add());
}

function list(): Command {
  return withDaemonOptions(new Command("list"))
    .description("print the physical-disk table: number, volume, RAID, using state")
    .action(async (options: CommonOptions) => {
      const { api, out } = contextOf(options);
      const disks = await api.get<DiskRow[]>("/v1/disks");
      out.result(disks, () => printDisks(out, disks));
    });
}

function add(): Command {
  return withDaemonOptions(new Command("add"))
    .description("label disks (files, loop or block devices) so that groups can be made of them")
    .argument("<path...>", "a regular file of its final size, or a block device")
    .option("--force", "overwrite what another system keeps there")
    .addHelpText(
      "after",
      "\nThe daemon must be allowed to open the path. It is remembered, also outside of the configuration.",
    )
    .action(async (paths: readonly string[], options: CommonOptions & { force?: true }) => {
      const { api, out } = contextOf(options);
      const added: DiskRow[] = [];
      for (const name of paths) {
        const body = { path: path.resolve(name), force: options.force === true };
        added.push(await api.post<DiskRow>("/v1/disks", body));
      }
      out.result(added, () => printDisks(out, added));
    });
}

const STATES: Readonly<Record<DiskRow["state"], string>> = {
  unlabelled: "NOT ADDED",
  unused: "NOT USED",
  spare: "SPARE",
  online: "USED",
  rebuilding: "REBUILDING",
  missing: "MISSING",
  stale: "STALE",
  failed: "FAILED",
};

/** The drawings' four columns, then where it is. */
export function printDisks(out: Output, disks: readonly DiskRow[]): void {
  out.table(
    ["DISK", "VOLUME", "RAID", "STATE", "GROUP", "PATH"],
    disks.map((disk) => [
      diskNumber(disk.number),
      volume(disk.sizeBytes),
      disk.levels.length === 0 ? "–" : disk.levels.join(","),
      STATES[disk.state],
      disk.group ?? "–",
      disk.path,
    ]),
  );
  for (const { number, reason, state } of disks) {
    if (reason !== null && state !== "unlabelled") out.line(`disk ${diskNumber(number)}: ${reason}`);
  }
}
