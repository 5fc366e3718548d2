import path from "node:path";
import { Command, Option } from "commander";
import type { DiskRow } from "../../control/types.js";
import { plural } from "../../lib/plural.js";
import {
  type CommonOptions,
  contextOf,
  diskNumberArgument,
  diskOrPathArgument,
  withDaemonOptions,
} from "../context.js";
import { diskNumber, type Output, volume } from "../output.js";

export function diskCommand(): Command {
  return new Command("disk")
    .description("physical disks")
    .addCommand(list())
    .addCommand(add())
    .addCommand(setSpare("spare", true, "have an unused disk taken by itself when a member of a group is lost"))
    .addCommand(setSpare("unspare", false, "make a spare a plain unused disk again"))
    .addCommand(fail())
    .addCommand(replace())
    .addCommand(remove());
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
    .option("--spare", "to be taken by itself when a member of a group is lost")
    .option("--force", "overwrite what another system, or another group, keeps there")
    .addHelpText(
      "after",
      "\nThe daemon must be allowed to open the path. It is remembered, also outside of the configuration.\n" +
        "A disk of a group that is not here is taken in as it is; with its last disk the group is served again.\n" +
        "Of a pair one node adds a disk; on the other one the same command makes its path known (--node, --socket).",
    )
    .action(async (paths: readonly string[], options: CommonOptions & { force?: true; spare?: true }) => {
      const { api, out } = contextOf(options);
      const added: DiskRow[] = [];
      for (const name of paths) {
        const body = { path: path.resolve(name), spare: options.spare === true, force: options.force === true };
        added.push(await api.post<DiskRow>("/v1/disks", body));
      }
      out.result(added, () => printDisks(out, added));
    });
}

function setSpare(name: string, spare: boolean, what: string): Command {
  return withDaemonOptions(new Command(name))
    .description(what)
    .argument("<disk>", "its number", diskNumberArgument)
    .action(async (disk: number, options: CommonOptions) => {
      const { api, out } = contextOf(options);
      const row = await api.post<DiskRow>(`/v1/disks/${disk}/spare`, { spare });
      out.result(row, () => printDisks(out, [row]));
    });
}

function fail(): Command {
  return withDaemonOptions(new Command("fail"))
    .description("stop using a member of a group; refused when the group would not bear that")
    .argument("<disk>", "its number", diskNumberArgument)
    .addHelpText("after", "\nA spare, when there is one, takes its place at once.")
    .action(async (disk: number, options: CommonOptions) => {
      const { api, out } = contextOf(options);
      const row = await api.post<DiskRow>(`/v1/disks/${disk}/fail`, {});
      out.result(row, () => printDisks(out, [row]));
    });
}

interface ReplaceOptions extends CommonOptions {
  readonly with?: number | string;
  readonly force?: true;
}

function replace(): Command {
  return withDaemonOptions(new Command("replace"))
    .description("put another disk in the place of a member; it is rebuilt in the background")
    .argument("<disk>", "the member's number", diskNumberArgument)
    .addOption(
      new Option(
        "--with <disk>",
        "a number, or a path that is added first (default: a spare, else an unused disk)",
      ).argParser(diskOrPathArgument),
    )
    .option("--force", "with a path: overwrite what another system, or another group, keeps there")
    .addHelpText(
      "after",
      "\nA member in use is a source until the other disk has everything; only then it is let go. One that failed, or was failed\n" +
        "by hand, is a source too, where nothing was written since. How far it is: group rebuild, or status.",
    )
    .action(async (disk: number, { force, with: other, ...options }: ReplaceOptions) => {
      const { api, out } = contextOf(options);
      const body = { with: other, force: force === true };
      const row = await api.post<DiskRow>(`/v1/disks/${disk}/replace`, body);
      out.result(row, () => printDisks(out, [row]));
    });
}

function remove(): Command {
  return withDaemonOptions(new Command("remove"))
    .description("take the label off a disk that no group needs, so that it can be taken out or used elsewhere")
    .argument("<disk>", "its number", diskNumberArgument)
    .option("--force", "also a disk of a group that is not assembled here: its data is given up")
    .action(async (disk: number, { force, ...options }: CommonOptions & { force?: true }) => {
      const { api, out } = contextOf(options);
      const row = await api.delete<DiskRow>(`/v1/disks/${disk}`, { force: force === true ? "true" : "false" });
      out.result(row, () => out.line(`disk ${diskNumber(row.number)} removed: ${row.path}`));
    });
}

const STATES: Readonly<Record<DiskRow["state"], string>> = {
  unlabelled: "NOT ADDED",
  partner: "PARTNER'S",
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
  for (const disk of disks) for (const note of notesOf(disk)) out.line(`disk ${diskNumber(disk.number)}: ${note}`);
}

/** What a person should know and no column says. */
function notesOf({ reason, state, errors, slow }: DiskRow): string[] {
  const notes = reason === null || state === "unlabelled" ? [] : [reason];
  const told = [
    [errors.read, plural(errors.read, "read error")],
    [errors.write, plural(errors.write, "write error")],
    [errors.checksum, plural(errors.checksum, "wrong checksum")],
    [errors.repaired, `${plural(errors.repaired, "block")} repaired`],
  ].flatMap(([count, what]) => (count === 0 ? [] : [what]));
  if (told.length > 0) notes.push(told.join(", "));
  if (slow && state === "online") notes.push("slow: read only when there is no other way");
  return notes;
}
