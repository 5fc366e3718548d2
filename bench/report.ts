/** Medians over the rounds, ratios, and the table as text or Markdown. */
import Table from "cli-table3";
import type { Phase } from "./load.js";
import type { ResidentMemory } from "./server.js";

export interface Round {
  readonly server: string;
  readonly phases: readonly Phase[];
  readonly memory: ResidentMemory;
}

export interface Row {
  readonly name: string;
  readonly unit: string;
  /** By server, in the order of the report's columns. */
  readonly rates: readonly (number | undefined)[];
  readonly p99us: readonly (number | undefined)[];
  /** The first column divided by the second. */
  readonly ratio: number | undefined;
  /** What the ratio should reach. */
  readonly wanted: number | undefined;
}

const TITLES: Record<string, string> = {
  write: "write and commit, 256 KiB",
  read: "read, 256 KiB (cached)",
  randwrite: "random 4 KiB write, then commit",
  randread: "random 4 KiB read (cached)",
  syncwrite: "synchronous random 4 KiB write",
  create: "create",
  getattr: "getattr",
  lookup: "lookup",
  list: "list (readdirplus)",
  smallwrite: "synchronous 4 KiB file",
  remove: "remove",
};

/** At least the peer's figures; in the cached read, which for the peer is one copy out of the page cache, half. */
const WANTED: Record<string, number> = { read: 0.5 };

export function median(values: readonly number[]): number | undefined {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1
    ? sorted[middle]
    : sorted.length > 0
      ? (sorted[middle - 1]! + sorted[middle]!) / 2
      : undefined;
}

export function rows(rounds: readonly Round[], servers: readonly string[]): Row[] {
  const names = [...new Set(rounds.flatMap(({ phases }) => phases.map(({ name }) => name)))];
  return names.map((name) => {
    const ofServer = (server: string) =>
      rounds.filter((round) => round.server === server).flatMap(({ phases }) => phases.filter((p) => p.name === name));
    const rates = servers.map((server) => median(ofServer(server).map(({ rate }) => rate)));
    const p99us = servers.map((server) => median(ofServer(server).map((phase) => phase.p99us)));
    const unit = rounds.flatMap(({ phases }) => phases).find((phase) => phase.name === name)!.unit;
    const [first, second] = rates;
    const ratio = first !== undefined && second !== undefined ? first / second : undefined;
    return { name, unit, rates, p99us, ratio, wanted: ratio === undefined ? undefined : (WANTED[name] ?? 1) };
  });
}

const group = (value: number) => String(Math.round(value)).replace(/\B(?=(\d{3})+$)/g, ",");
const milliseconds = (us: number | undefined) => (us === undefined ? "" : (us / 1000).toFixed(us < 10_000 ? 2 : 0));
const rate = (value: number | undefined, unit: string) => (value === undefined ? "" : `${group(value)} ${unit}`);
const mebibytes = (bytes: number | undefined) => (bytes === undefined ? "" : `${group(bytes / 2 ** 20)} MiB`);

export function cells(rounds: readonly Round[], servers: readonly string[]): { head: string[]; body: string[][] } {
  const compared = servers.length === 2;
  const head = ["", ...servers, ...(compared ? ["ratio", "wanted"] : []), ...servers.map((name) => `${name}, p99 ms`)];
  const body = rows(rounds, servers).map((row) => [
    TITLES[row.name] ?? row.name,
    ...row.rates.map((value) => rate(value, row.unit)),
    ...(compared ? [row.ratio?.toFixed(2) ?? "", row.wanted?.toFixed(2) ?? ""] : []),
    ...row.p99us.map(milliseconds),
  ]);
  const most = (server: string) => {
    const own = rounds.filter((round) => round.server === server).map(({ memory }) => memory.peakBytes);
    return own.length === 0 ? undefined : Math.max(...own);
  };
  const empty = Array.from({ length: servers.length + (compared ? 2 : 0) }, () => "");
  body.push(["resident memory, most", ...servers.map((server) => mebibytes(most(server))), ...empty]);
  return { head, body };
}

export function terminalTable({ head, body }: { head: string[]; body: string[][] }): string {
  const aligned = head.map((_, column) => (column === 0 ? ("left" as const) : ("right" as const)));
  const table = new Table({ head, colAligns: aligned, style: { head: [], border: [] } });
  table.push(...body);
  return table.toString();
}

export function markdownTable({ head, body }: { head: string[]; body: string[][] }): string {
  const line = (row: readonly string[]) => `| ${row.join(" | ")} |`;
  const rule = head.map((_, column) => (column === 0 ? "---" : "--:"));
  return [line(head), line(rule), ...body.map(line)].join("\n");
}
