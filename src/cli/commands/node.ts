import { Command } from "commander";
import { type FurnishOrders, furnishNode } from "../../cluster/furnish.js";
import { type Invitation, installNode, TOKEN_VARIABLE, takeToken } from "../../cluster/installer.js";
import type { DrillRow } from "../../control/drill/drill-book.js";
import type { NodeRecordsReport, PairRow, RecordRow } from "../../control/types.js";
import { type CommonOptions, contextOf, withDaemonOptions } from "../context.js";
import { formatDuration } from "../duration.js";
import { UsageError } from "../errors.js";
import { Output } from "../output.js";
import { runDrill } from "../run-drill.js";

export function nodeCommand(): Command {
  return new Command("node")
    .description("the nodes: who serves what, moving it, and what they have written about themselves")
    .addCommand(list())
    .addCommand(show())
    .addCommand(takeover())
    .addCommand(giveback())
    .addCommand(drill())
    .addCommand(join())
    .addCommand(furnish(), { hidden: true });
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

type ForceOptions = CommonOptions & { readonly force?: true };

function forced(force: true | undefined): { readonly force?: true } {
  return force === true ? { force } : {};
}

function takeover(): Command {
  return withDaemonOptions(new Command("takeover"))
    .description("let one node serve everything: a planned takeover, without a crash")
    .argument("[node]", "which (default: the one that serves nothing now)")
    .option("--force", "although that node says why it could not take over (node list)")
    .addHelpText(
      "after",
      "\nClients see a pause of a fraction of a second; nothing is lost or done twice, and locks stay.",
    )
    .action(async (to: string | undefined, { force, ...options }: ForceOptions) => {
      const { api, out } = contextOf(options);
      const pair = await api.post<PairRow>("/v1/pair/takeover", {
        ...(to === undefined ? {} : { to }),
        ...forced(force),
      });
      out.result(pair, () => printPair(out, pair));
    });
}

function giveback(): Command {
  return withDaemonOptions(new Command("giveback"))
    .description("let each node serve its own groups again")
    .option("--force", "although a node says why it could not take over (node list)")
    .action(async ({ force, ...options }: ForceOptions) => {
      const { api, out } = contextOf(options);
      const pair = await api.post<PairRow>("/v1/pair/giveback", forced(force));
      out.result(pair, () => printPair(out, pair));
    });
}

function drill(): Command {
  return withDaemonOptions(new Command("drill"))
    .description("try it: a planned takeover and back under a client of its own, with the gaps that it saw")
    .option("--list", "the drills so far")
    .addHelpText(
      "after",
      "\nThe client creates, writes, renames and removes files named .stripeward-drill-… in the first export; where it may not, it only looks.",
    )
    .action(async ({ list: listed, ...options }: CommonOptions & { list?: true }) => {
      const { api, out } = contextOf(options);
      if (listed === true) {
        const rows = await api.get<DrillRow[]>("/v1/pair/drills");
        out.result(rows, () => printDrills(out, rows));
        return;
      }
      const row = await runDrill(api, (what) => {
        if (!out.json) out.line(what);
      });
      out.result(row, () => out.line(verdict(row)));
      if (row.wrong.length > 0) process.exitCode = 1;
    });
}

function verdict({ calls, wrong }: DrillRow): string {
  if (wrong.length === 0) return `${calls} calls, every one answered rightly.`;
  return `${calls} calls, ${wrong.length} of them answered wrongly: ${wrong[0]}`;
}

function printDrills(out: Output, rows: readonly DrillRow[]): void {
  if (rows.length === 0) {
    out.line("No drill yet.");
    return;
  }
  const ms = (value: number | null) => (value === null ? "–" : `${Math.round(value)} ms`);
  out.table(
    ["TIME", "FROM", "TO", "GAP", "GAP BACK", "CALLS", "WRONG"],
    rows.map(({ at, from, to, thereMs, backMs, calls, wrong }) => [
      at,
      from,
      to,
      ms(thereMs),
      ms(backMs),
      String(calls),
      String(wrong.length),
    ]),
  );
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
    ["GROUP", "HOME", "SERVED BY", "STATE", "EPOCH"],
    pair.groups.map(({ name, home, servedBy, state, epoch }) => [
      name,
      home,
      servedBy ?? "nobody",
      state === null ? "NOT SERVED" : state.toUpperCase(),
      epoch === null ? "–" : String(epoch),
    ]),
  );
  for (const { name, role, trouble } of pair.nodes)
    if (role !== "away") for (const one of trouble ?? []) out.line(`${name} could not take over: ${one}`);
  for (const { name, trouble } of pair.groups)
    if (trouble !== null) out.line(`group ${name} could not be taken over: ${trouble}`);
}

function heard(role: string, silentMs: number | null): string {
  if (silentMs === null) return role === "away" ? "never" : "now";
  return silentMs < 1000 ? "now" : `${formatDuration(silentMs / 1000)} ago`;
}

function join(): Command {
  return new Command("join")
    .description("install this node from a management terminal, as its cluster init says")
    .argument("<url>", "that the terminal printed, with the checksum at its end")
    .addHelpText(
      "after",
      `\nThe same as the command that it prints, for a machine that has stripeward already. Interrupted, it goes on.
The token that the terminal printed is taken from ${TOKEN_VARIABLE}: an argument could be read by others (ps).`,
    )
    .action(async (text: string) => {
      await installNode(invitationOf(text), (what) => new Output(false).line(what));
    });
}

function invitationOf(text: string): Invitation {
  const token = takeToken();
  try {
    const url = new URL(text);
    const node = /^\/install\/(chn[1-8])$/.exec(url.pathname)?.[1];
    const ordersSha256 = /^#([0-9a-f]{64})$/.exec(url.hash)?.[1];
    if (node !== undefined && ordersSha256 !== undefined) {
      if (token === "") throw new UsageError(`wants the token that the terminal printed in ${TOKEN_VARIABLE}`);
      return { origin: url.origin, node, ordersSha256, token };
    }
  } catch (error) {
    if (error instanceof UsageError) throw error;
    // Not even a URL.
  }
  throw new UsageError("wants the URL that the terminal printed: http://HOST:PORT/install/NODE#CHECKSUM");
}

/** For the installer: orders on standard input, a notice a line on standard output. */
function furnish(): Command {
  return withDaemonOptions(new Command("furnish")).action(async (options: CommonOptions) => {
    const { api, out } = contextOf(options);
    let orders = "";
    for await (const piece of process.stdin) orders += String(piece);
    await furnishNode(api, JSON.parse(orders) as FurnishOrders, (notice) => out.line(JSON.stringify(notice)));
  });
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
