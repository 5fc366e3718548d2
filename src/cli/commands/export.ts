import { Command, Option } from "commander";
import type { ExportRow, ListedExport, Squash } from "../../control/types.js";
import { type CommonOptions, contextOf, countArgument, withDaemonOptions } from "../context.js";
import type { Output } from "../output.js";

export function exportCommand(): Command {
  return new Command("export")
    .description("what clients may mount")
    .addCommand(list())
    .addCommand(add())
    .addCommand(remove());
}

function list(): Command {
  return withDaemonOptions(new Command("list"))
    .description("print the exports: path, clients, access")
    .action(async (options: CommonOptions) => {
      const { api, out } = contextOf(options);
      const rows = await api.get<ListedExport[]>("/v1/exports");
      out.result(rows, () => printExports(out, rows));
    });
}

interface AddOptions extends CommonOptions {
  readonly client: readonly string[];
  readonly readOnly?: true;
  readonly squash: Squash;
  readonly anonUid: number;
  readonly anonGid: number;
  readonly insecure?: true;
}

const idArgument = countArgument(0, 0xffffffff);

function add(): Command {
  return withDaemonOptions(new Command("add"))
    .description("let clients mount a file system, /NAME, and every directory in it")
    .argument("<path>")
    .requiredOption("--client <network...>", "who may: an address or a network such as 192.168.0.0/16")
    .option("--read-only", "refuse every change")
    .addOption(
      new Option("--squash <who>", "who becomes the anonymous user").choices(["root", "all", "none"]).default("root"),
    )
    .addOption(new Option("--anon-uid <id>", "the anonymous user").argParser(idArgument).default(65534))
    .addOption(new Option("--anon-gid <id>", "its group").argParser(idArgument).default(65534))
    .option("--insecure", "also accept requests from ports of 1024 and above")
    .addHelpText("after", "\nA rule for the same path and client is replaced.")
    .action(async (path: string, options: AddOptions) => {
      const { api, out } = contextOf(options);
      const added: ExportRow[] = [];
      for (const client of options.client) {
        added.push(await api.post<ExportRow>("/v1/exports", ruleOf(path, client, options)));
      }
      out.result(added, () => printExports(out, added));
    });
}

function ruleOf(path: string, client: string, options: AddOptions): ExportRow {
  return {
    path,
    client,
    readOnly: options.readOnly === true,
    squash: options.squash,
    anonymousUid: options.anonUid,
    anonymousGid: options.anonGid,
    privilegedPort: options.insecure !== true,
  };
}

function remove(): Command {
  return withDaemonOptions(new Command("remove"))
    .description("stop exporting a path; clients that have it mounted are refused from then on")
    .argument("<path>")
    .option("--client <network>", "only for these clients")
    .action(async (path: string, { client, ...options }: CommonOptions & { client?: string }) => {
      const { api, out } = contextOf(options);
      const removed = await api.delete<ExportRow[]>("/v1/exports", { path, client });
      out.result(removed, () =>
        out.line(`${removed.length} rule${removed.length === 1 ? "" : "s"} of ${path} removed`),
      );
    });
}

export function printExports(out: Output, rows: readonly (ExportRow & Partial<ListedExport>)[]): void {
  out.table(
    ["PATH", "CLIENTS", "ACCESS", "SQUASH", "PORTS", "STATE"],
    rows.map((row) => [
      row.path,
      row.client,
      row.readOnly ? "read-only" : "read-write",
      row.squash,
      row.privilegedPort ? "below 1024" : "any",
      row.state === "not-served" ? "NOT SERVED" : "served",
    ]),
  );
}
