import { Command } from "commander";
import type { NodeRecordsReport, RecordRow } from "../../control/types.js";
import { type CommonOptions, contextOf, withDaemonOptions } from "../context.js";
import type { Output } from "../output.js";

export function nodeCommand(): Command {
  return new Command("node").description("the nodes of the cabinet").addCommand(show());
}

function show(): Command {
  return withDaemonOptions(new Command("show"))
    .description("print what a node has written about itself on the shared group, a table for each kind of record")
    .argument("<name>", "chn1 to chn8")
    .action(async (name: string, options: CommonOptions) => {
      const { api, out } = contextOf(options);
      const report = await api.get<NodeRecordsReport>(`/v1/nodes/${encodeURIComponent(name)}/records`);
      out.result(report, () => printRecords(out, report));
    });
}

const TABLES = [
  ["client", "CLIENT INFORMATION"],
  ["user", "USER INFORMATION"],
  ["service", "SERVICE OPERATING INFORMATION"],
  ["daemon", "DAEMON OPERATING INFORMATION"],
] as const;

function printRecords(out: Output, report: NodeRecordsReport): void {
  const { node, group, epoch, sequence, unknown } = report;
  out.line(`node ${node}, as read from group ${group}: epoch ${epoch}, commit ${sequence}`);
  for (const [kind, title] of TABLES) {
    out.line();
    out.table([title, "VALUE", "CHANGED"], report[kind].map(cells));
  }
  if (unknown > 0) out.line(`records that a newer version has written and this one does not understand: ${unknown}`);
}

/** The key says what and whom; the rest is told as `name=value`. */
function cells({ key, value, updated }: RecordRow): string[] {
  const rest = Object.entries(value)
    .filter(([name, content]) => name !== "what" && !(typeof content === "string" && key.includes(content)))
    .map(([name, content]) => `${name}=${String(content)}`);
  return [key, rest.join(" "), updated];
}
