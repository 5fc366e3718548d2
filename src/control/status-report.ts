import type { Config } from "../config/schema.js";
import type { PairAgent } from "../ha/pair-agent.js";
import { isStorageError } from "../lib/errors.js";
import type { Cabinet } from "./cabinet.js";
import type { LoopWatch } from "./loop-watch.js";
import { controlGroupLimit, memoryWarnings } from "./memory-promise.js";
import { pairRow, pairWarnings, roleOf, worstOf } from "./pair-rows.js";
import type { PartHealth } from "./part-health.js";
import type { ClientsRow, ServiceRow, StatusReport } from "./types.js";

export interface StatusSources {
  readonly cabinet: Cabinet;
  readonly config: Pick<Config, "node" | "management" | "memory">;
  readonly version: string;
  readonly service: ServiceRow;
  readonly clients: ClientsRow;
  readonly upSeconds: number;
  readonly loop: LoopWatch;
  /** null: it has no partner. */
  readonly pair: PairAgent | null;
  /** What is wrong with the network, or with its watch, a sentence each. */
  readonly network: readonly string[];
  readonly health: PartHealth;
}

/** Everything about the node in one document. What cannot tell its state is said so, and the others are shown all the same. */
export function statusReport(sources: StatusSources): StatusReport {
  const { cabinet, config, version, service, clients, upSeconds, loop, pair, network, health } = sources;
  const unknown: string[] = [];
  const told = <T>(what: string, rows: () => readonly T[]): readonly T[] => {
    try {
      return rows();
    } catch (error) {
      if (!isStorageError(error)) throw error;
      unknown.push(`${what} cannot be shown: ${error.message}`);
      return [];
    }
  };
  const groups = told("groups", () => cabinet.groups());
  const fileSystems = told("file systems", () => cabinet.fileSystems.rows());
  const lists = {
    disks: told("disks", () => cabinet.disks()),
    ...{ groups, lus: told("LUs", () => cabinet.lus()), fileSystems },
    exports: told("exports", () => cabinet.fileSystems.exports.rows()),
  };
  const warnings = [
    ...network,
    ...told("what is wrong", () => cabinet.warnings()),
    ...health.problems(),
    ...memoryWarnings(config.memory, fileSystems.length, controlGroupLimit()),
    ...told("the pair", () => (pair === null ? [] : pairWarnings(pair))),
    ...unknown,
  ];
  const failed =
    unknown.length > 0 || [...groups, ...fileSystems].some(({ state }) => state === "failed" || state === "read-only");
  const lacking =
    groups.some(({ state }) => state === "degraded") ||
    fileSystems.some(({ reason }) => reason !== null) ||
    cabinet.shared.warnings().length > 0 ||
    health.problems().length > 0;
  const ofPair = worstOf(pair);
  const state = failed || ofPair === "failed" ? "failed" : lacking || ofPair === "degraded" ? "degraded" : "clean";
  return {
    ...{ node: config.node, role: roleOf(pair), pid: process.pid, version, upSeconds: Math.round(upSeconds * 10) / 10 },
    residentBytes: process.memoryUsage.rss(),
    state,
    warnings,
    pair: pair === null ? null : pairRow(pair),
    socket: config.management.socket,
    service,
    clients,
    eventLoop: loop.delay(),
    ...lists,
  };
}
