import { Command, Option } from "commander";
import { readTarget, STANDARD_STREAM } from "../../backup/target.js";
import type { BackupReport, BackupRow, FileSystemRow } from "../../control/types.js";
import { formatSize } from "../../lib/size.js";
import type { ApiClient } from "../client.js";
import { type CommonOptions, type Context, contextOf, withDaemonOptions } from "../context.js";
import { CliError, UsageError } from "../errors.js";
import { type Output, tell } from "../output.js";
import { newestFirst, requireChain, type VerifiedBackup, verifyBackup } from "../read-backup.js";
import { runBackup } from "../run-backup.js";

export function backupCommand(): Command {
  return new Command("backup")
    .description("backups of a file system or of the shared LU: to a file, a device or a stream")
    .addCommand(run())
    .addCommand(list())
    .addCommand(verify())
    .addCommand(restore());
}

interface SubjectOptions extends CommonOptions {
  readonly fs?: string;
  readonly shared?: true;
}

function withSubject(command: Command, what: string): Command {
  return withDaemonOptions(command)
    .addOption(new Option("--fs <name>", `${what} this file system`).conflicts("shared"))
    .addOption(new Option("--shared", `${what} what the nodes keep on the shared LU`));
}

/** @returns null for the shared LU */
function subjectOf({ fs, shared }: SubjectOptions): string | null {
  if (fs === undefined && shared !== true) throw new UsageError("say what: --fs NAME or --shared");
  return fs ?? null;
}

interface RunOptions extends SubjectOptions {
  readonly to: string;
  readonly full?: true;
  readonly overwrite?: true;
}

function run(): Command {
  return withSubject(new Command("run"), "back up")
    .description("make a backup while everything goes on; incremental when the daemon knows the one before")
    .addOption(new Option("--to <target>", "a file, a device, or - for standard output").makeOptionMandatory())
    .option("--full", "everything, whatever was backed up before")
    .option("--overwrite", "whatever the target holds")
    .addHelpText(
      "after",
      "\nThis command writes the target, with your rights. One that was broken off goes on when the same command is given again.",
    )
    .action(async ({ to, full, overwrite, ...options }: RunOptions) => {
      const { api, out } = contextOf(options);
      if (to === STANDARD_STREAM && out.json) throw new UsageError("--json would stand in the middle of the stream");
      const fileSystem = subjectOf(options);
      const made = await runBackup(api, { fileSystem, to, full: full === true, overwrite: overwrite === true });
      const kind = `${made.parent === null ? "full" : "incremental"} backup of ${nameOf(made)}`;
      const size = `${formatSize(made.bytes ?? 0)}, of it ${formatSize(made.dataBytes)} file data`;
      const text = `${kind}: ${size}${made.resumed ? "; it goes on from one that was broken off" : ""}`;
      if (to === STANDARD_STREAM) tell(text);
      else out.result(made, () => out.line(`${to}: ${text}`));
    });
}

function list(): Command {
  return withDaemonOptions(new Command("list"))
    .description("print the backups that this daemon knows, and when the next ones are due")
    .action(async (options: CommonOptions) => {
      const { api, out } = contextOf(options);
      const report = await api.get<BackupReport>("/v1/backups");
      out.result(report, () => printReport(out, report));
    });
}

function verify(): Command {
  return withDaemonOptions(new Command("verify"))
    .description("read backups to their end and prove them whole; several: that each adds to the one before")
    .argument("<from...>", "files or devices, the full one first; or - for standard input")
    .addHelpText("after", "\nNo daemon is needed; one that answers notes that they were verified.")
    .action(async (places: readonly string[], options: CommonOptions) => {
      const { api, out } = contextOf(options);
      const backups: VerifiedBackup[] = [];
      for (const place of places) backups.push(await verifyBackup(place));
      if (backups.length > 1) requireChain(backups);
      for (const { parts } of backups)
        await api.post<BackupRow>(`/v1/backups/${parts.at(-1)!.header.backup}/verified`, {}).catch(() => {});
      const rows = backups.map(verifiedRow);
      out.result(rows, () => printVerified(out, rows));
    });
}

function restore(): Command {
  return withSubject(new Command("restore"), "put it into")
    .description("put a backup into a new or an empty file system, or give lost records back to the shared LU")
    .argument("<from...>", "files or devices, the full one first, then those that add to it; or - for standard input")
    .option("--group <name>", "where a new file system is made, when there are several groups")
    .addHelpText(
      "after",
      "\nEverything is verified first. A file system that is not there is made, as large as the one in the backup was. When it is broken off, give the command again.",
    )
    .action(async (places: readonly string[], { group, ...options }: SubjectOptions & { readonly group?: string }) => {
      const context = contextOf(options);
      const fileSystem = subjectOf(options);
      if (places.length > 1 && places.includes(STANDARD_STREAM))
        throw new UsageError("from standard input comes one backup alone");
      if (fileSystem === null) await restoreShared(context, places);
      else await restoreFileSystem(context, fileSystem, places, group);
    });
}

async function restoreFileSystem(
  { api, out }: Context,
  fileSystem: string,
  places: readonly string[],
  group: string | undefined,
): Promise<void> {
  const call = "/v1/backups/restore";
  const query = `?fileSystem=${encodeURIComponent(fileSystem)}`;
  const backups: VerifiedBackup[] = [];
  const fromStandardInput = places[0] === STANDARD_STREAM;
  const there = await isThere(api, fileSystem);
  // Refused before much is read.
  if (there) await api.post(`${call}/check${query}`, {});
  if (!fromStandardInput) {
    for (const place of places) backups.push(await verifyBackup(place));
    requireChain(backups);
  }
  const newest = backups.at(-1);
  if (!there && newest !== undefined) await makeLike(api, fileSystem, newest, group);
  const parts = fromStandardInput ? 1 : backups.reduce((sum, backup) => sum + backup.parts.length, 0);
  const source = fromStandardInput ? readTarget(STANDARD_STREAM) : newestFirst(backups);
  const answer = await api.upload<{ time: string }>(call, { fileSystem, parts }, source);
  out.result({ fileSystem, ...answer }, () => out.line(`file system ${fileSystem} is as it was at ${answer.time}`));
}

async function isThere(api: ApiClient, name: string): Promise<boolean> {
  return (await api.get<FileSystemRow[]>("/v1/file-systems")).some((row) => row.name === name);
}

/** A file system like the one in the backup. */
async function makeLike(api: ApiClient, name: string, { place, parts }: VerifiedBackup, group?: string): Promise<void> {
  const { kind, level, sizeBytes, metadataBytes } = parts.at(-1)!.header;
  if (kind !== "file-system") throw new CliError(`${place} is no backup of a file system`);
  const root = { mode: 0o755, uid: 0, gid: 0 };
  await api.post("/v1/file-systems", { name, group, level, sizeBytes, metadataBytes, root });
}

interface RestoredNode {
  readonly node: string;
  readonly outcome: "restored" | "kept";
  readonly records: number;
}

async function restoreShared({ api, out }: Context, places: readonly string[]): Promise<void> {
  if (places.length > 1) throw new UsageError("a backup of the shared LU is whole by itself: name one");
  if (places[0] !== STANDARD_STREAM) await verifyBackup(places[0]!);
  const answer = await api.upload<{ nodes: RestoredNode[] }>("/v1/backups/restore", {}, readTarget(places[0]!));
  out.result(answer, () => {
    for (const { node, outcome, records } of answer.nodes)
      out.line(`${node}: ${outcome === "kept" ? "has records of its own, which stay" : `${records} records restored`}`);
  });
}

function verifiedRow({ place, parts, dataBytes }: VerifiedBackup) {
  const { kind, name, time, parent, backup } = parts.at(-1)!.header;
  return { place, backup, kind, name, time, parent, parts: parts.length, bytes: parts.at(-1)!.to, dataBytes };
}

function printVerified(out: Output, rows: readonly ReturnType<typeof verifiedRow>[]): void {
  for (const row of rows) {
    const kind = row.parent === null ? "full" : "incremental";
    out.line(`${row.place}: whole; ${kind} backup of ${nameOf(row)} of ${row.time}, ${formatSize(row.bytes)}`);
  }
}

function nameOf({ kind, name }: Pick<BackupRow, "kind" | "name">): string {
  return kind === "shared" ? "the shared LU" : `file system ${name}`;
}

function printReport(out: Output, { backups, schedules }: BackupReport): void {
  out.table(
    ["OF", "TIME", "KIND", "VOLUME", "STATE", "VERIFIED", "TARGET"],
    backups.map((row) => [
      row.kind === "shared" ? "(shared LU)" : row.name,
      row.time,
      row.parent === null ? "full" : "incremental",
      row.bytes === null ? "–" : formatSize(row.bytes),
      row.state.toUpperCase(),
      row.verified ?? "–",
      row.target,
    ]),
  );
  for (const { fileSystem, to, next, failure } of schedules) {
    const what = fileSystem === null ? "the shared LU" : `file system ${fileSystem}`;
    const when = next === null ? "when this node serves it" : `at ${next}`;
    out.line(`${what} to ${to}: next ${when}${failure === null ? "" : `; the last attempt failed: ${failure}`}`);
  }
}
