import { Command, Option } from "commander";
import type { CheckReport, FileRow, FileSystemRow, FilesPage } from "../../control/types.js";
import {
  type CommonOptions,
  type Context,
  contextOf,
  countArgument,
  levelArgument,
  octalArgument,
  sizeArgument,
  sizeOrMaxArgument,
  withDaemonOptions,
} from "../context.js";
import { CliError } from "../errors.js";
import { jsonText, type Output, volume } from "../output.js";

export function fsCommand(): Command {
  return new Command("fs")
    .description("file systems")
    .addCommand(list())
    .addCommand(create())
    .addCommand(check())
    .addCommand(files())
    .addCommand(remount());
}

function remount(): Command {
  return withDaemonOptions(new Command("remount"))
    .description("mount a file system anew that has stopped, or is served for reading only")
    .argument("<name>")
    .option("--read-only", "refuse every change from now on")
    .addHelpText("after", "\nClients wait meanwhile. What could not be written is tried by the first change.")
    .action(async (name: string, { readOnly, ...options }: CommonOptions & { readonly readOnly?: true }) => {
      const { api, out } = contextOf(options);
      const place = `/v1/file-systems/${encodeURIComponent(name)}/remount`;
      const row = await api.post<FileSystemRow>(place, { readOnly: readOnly === true });
      out.result(row, () => printFileSystems(out, [row]));
    });
}

function list(): Command {
  return withDaemonOptions(new Command("list"))
    .description("print the file systems with their state and free space")
    .action(async (options: CommonOptions) => {
      const { api, out } = contextOf(options);
      const rows = await api.get<FileSystemRow[]>("/v1/file-systems");
      out.result(rows, () => printFileSystems(out, rows));
    });
}

interface CreateOptions extends CommonOptions {
  readonly group?: string;
  readonly size: number | "max";
  readonly raid: 1 | 5;
  readonly metadataSize?: number;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
}

const idArgument = countArgument(0, 0xffffffff);

function create(): Command {
  return withDaemonOptions(new Command("create"))
    .description("make a file system NAME on two new LUs: NAME for data, NAME.meta (RAID-1) for metadata")
    .argument("<name>", "letters, digits, - and _; clients mount it as /NAME once it is exported")
    .addOption(new Option("--size <size>", "of the data LU: 10G, or max").argParser(sizeOrMaxArgument).default("max"))
    .addOption(new Option("--raid <level>", "of the data LU: 5 or 1").argParser(levelArgument).default(5))
    .addOption(
      new Option(
        "--metadata-size <size>",
        "of the metadata LU (default: 6 % of the raw space, 64M at least)",
      ).argParser(sizeArgument),
    )
    .option("--group <name>", "needed when there are several")
    .addOption(new Option("--mode <octal>", "of the root directory").argParser(octalArgument).default(0o755, "0755"))
    .addOption(new Option("--uid <id>", "owner of the root directory").argParser(idArgument).default(0))
    .addOption(new Option("--gid <id>", "group of the root directory").argParser(idArgument).default(0))
    .action(async (name: string, { group, size, raid, metadataSize, mode, uid, gid, ...options }: CreateOptions) => {
      const { api, out } = contextOf(options);
      const row = await api.post<FileSystemRow>("/v1/file-systems", {
        ...{ name, group, level: raid, sizeBytes: size, metadataBytes: metadataSize },
        root: { mode, uid, gid },
      });
      out.result(row, () => printFileSystems(out, [row]));
    });
}

function check(): Command {
  return withDaemonOptions(new Command("check"))
    .description("prove that a file system is consistent; it goes on serving meanwhile")
    .argument("<name>")
    .option("--data", "read every copy of data and metadata, and parity, and compare; what is proven bad is healed")
    .addHelpText(
      "after",
      "\nExit status 1 when it is not clean. There is nothing to mend by hand: report what it says.\n" +
        "With --data a place that was bad in one copy is named (LU, disk, byte) though it has been healed; the next check is clean.",
    )
    .action(async (name: string, options: CommonOptions & { readonly data?: true }) => {
      const { api, out } = contextOf(options);
      const place = `/v1/file-systems/${encodeURIComponent(name)}/check`;
      const report = await api.post<CheckReport>(place, { data: options.data === true });
      out.result(report, () => printCheck(out, report));
      if (!report.clean) throw new CliError(`file system ${name} is not clean: ${report.problems.length} problems`);
    });
}

function files(): Command {
  return withDaemonOptions(new Command("files"))
    .description("print every file: name, head address, volume, owner, update time")
    .argument("<name>")
    .addHelpText("after", "\nThe head address is where the file's first block lies on the data LU, in bytes.")
    .action(async (name: string, options: CommonOptions) => {
      const context = contextOf(options);
      if (context.out.json) await writeFilesJson(context, name);
      else await printFiles(context, name);
    });
}

async function* pagesOf({ api }: Context, name: string): AsyncGenerator<FilesPage> {
  let after: string | null = null;
  do {
    const query: { after?: string } = after === null ? {} : { after };
    const page: FilesPage = await api.get<FilesPage>(`/v1/file-systems/${encodeURIComponent(name)}/files`, query);
    yield page;
    after = page.next;
  } while (after !== null);
}

/** One document, written page by page: a million files never stand in memory at once. */
async function writeFilesJson(context: Context, name: string): Promise<void> {
  let separator = "[\n  ";
  for await (const { files } of pagesOf(context, name)) {
    for (const file of files) {
      context.out.raw(separator + jsonText(file));
      separator = ",\n  ";
    }
  }
  context.out.raw(separator === "[\n  " ? "[]\n" : "\n]\n");
}

const FILE_COLUMNS = ["FILE NAME", "HEAD ADDRESS", "VOLUME", "OWNER", "UPDATE TIME"];

async function printFiles(context: Context, name: string): Promise<void> {
  let head = FILE_COLUMNS;
  for await (const { files } of pagesOf(context, name)) {
    context.out.table(head, files.map(fileCells));
    head = FILE_COLUMNS.map(() => "");
  }
}

function fileCells(file: FileRow): string[] {
  return [
    file.name,
    file.headAddress === null ? "–" : `0x${file.headAddress.toString(16)}`,
    volume(file.sizeBytes),
    String(file.uid),
    file.updated,
  ];
}

function printCheck(out: Output, report: CheckReport): void {
  const counts = Object.entries(report.counts).map(([name, count]) => `${count} ${name}`);
  out.line(
    `${report.name}: ${report.clean ? "clean" : "NOT CLEAN"}${counts.length > 0 ? ` (${counts.join(", ")})` : ""}`,
  );
  for (const line of [...report.problems, ...(report.notes ?? [])]) out.line(`  ${line}`);
}

export function printFileSystems(out: Output, rows: readonly FileSystemRow[]): void {
  out.table(
    ["FILE SYSTEM", "STATE", "RAID", "VOLUME", "FREE", "FREE FILES", "GROUP"],
    rows.map((row) => [
      row.name,
      row.state.toUpperCase(),
      String(row.level),
      volume(row.totalBytes),
      volume(row.freeBytes),
      row.state !== "failed" ? String(row.freeFiles) : "–",
      row.group,
    ]),
  );
  for (const { name, reason } of rows) if (reason !== null) out.line(`file system ${name}: ${reason}`);
}
