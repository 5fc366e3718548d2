import { Command } from "commander";
import type { PairRow } from "../../control/types.js";
import { type CommonOptions, contextOf, withDaemonOptions } from "../context.js";
import { formatDuration } from "../duration.js";
import type { Output } from "../output.js";

export function nodeCommand(): Command {
  return new Command("node")
    .description("the two nodes of a pair: who serves what, and moving it")
    .addCommand(list())
    .addCommand(takeover())
    .addCommand(giveback());
}

function list(): Command {
  return withDaemonOptions(new Command("list"))
    .description("print both nodes, and who serves each group")
    .action(async (options: CommonOptions) => {
      const { api, out } = contextOf(options);
      const pair = await api.get<PairRow>("/v1/pair");
      out.result(pair, () => printPair(out, pair));
    });
}

function takeover(): Command {
  return withDaemonOptions(new Command("takeover"))
    .description("let one node serve everything: a planned takeover, without a crash")
    .argument("[node]", "which (default: the one that serves nothing now)")
    .addHelpText(
      "after",
      "\nClients see a pause of a fraction of a second; nothing is lost or done twice, and locks stay.",
    )
    .action(async (to: string | undefined, options: CommonOptions) => {
      const { api, out } = contextOf(options);
      const pair = await api.post<PairRow>("/v1/pair/takeover", to === undefined ? {} : { to });
      out.result(pair, () => printPair(out, pair));
    });
}

function giveback(): Command {
  return withDaemonOptions(new Command("giveback"))
    .description("let each node serve its own groups again")
    .action(async (options: CommonOptions) => {
      const { api, out } = contextOf(options);
      const pair = await api.post<PairRow>("/v1/pair/giveback", {});
      out.result(pair, () => printPair(out, pair));
    });
}

export function printPair(out: Output, pair: PairRow): void {
  out.table(
    ["NODE", "ROLE", "PROCESS", "VERSION", "SERVES", "ADDRESS", "HEARD", "CAN TAKE OVER"],
    pair.nodes.map(({ name, role, pid, version, serves, service, silentMs, trouble }) => [
      name,
      role.toUpperCase(),
      pid === null ? "–" : String(pid),
      version ?? "–",
      serves.join(" ") || "–",
      service === null ? "–" : `${service.host}:${service.port}`,
      heard(role, silentMs),
      role === "away" || trouble === null ? "–" : trouble.length === 0 ? "yes" : "NO",
    ]),
  );
  out.line();
  out.table(
    ["GROUP", "HOME", "SERVED BY", "EPOCH"],
    pair.groups.map(({ name, home, servedBy, epoch }) => [
      name,
      home,
      servedBy ?? "nobody",
      epoch === null ? "–" : String(epoch),
    ]),
  );
  for (const { name, trouble } of pair.groups)
    if (trouble !== null) out.line(`group ${name} could not be taken over: ${trouble}`);
}

function heard(role: string, silentMs: number | null): string {
  if (silentMs === null) return role === "away" ? "never" : "now";
  return silentMs < 1000 ? "now" : `${formatDuration(silentMs / 1000)} ago`;
}
