import type { Config } from "../config/schema.js";
import type { PairAgent } from "../ha/pair-agent.js";
import type { GroupState } from "../raid/contract.js";
import type { Cabinet } from "./cabinet.js";
import type { LoopWatch } from "./loop-watch.js";
import { controlGroupLimit, memoryWarnings } from "./memory-promise.js";
import { pairRow, pairWarnings, roleOf, worstOf } from "./pair-rows.js";
import type { ClientsRow, ServiceRow, StatusReport } from "./types.js";

export interface StatusSources {
  readonly cabinet: Cabinet;
  readonly config: Config;
  readonly version: string;
  readonly service: ServiceRow;
  readonly clients: ClientsRow;
  readonly upSeconds: number;
  readonly loop: LoopWatch;
  /** null: it has no partner. */
  readonly pair: PairAgent | null;
  /** What is wrong with the network, or with its watch, a sentence each. */
  readonly network: readonly string[];
}

/** Everything about the node in one document. */
export function statusReport(sources: StatusSources): StatusReport {
  const { cabinet, config, version, service, clients, upSeconds, loop, pair, network } = sources;
  return {
    ...{ node: config.node, role: roleOf(pair), pid: process.pid, version, upSeconds: Math.round(upSeconds * 10) / 10 },
    residentBytes: process.memoryUsage.rss(),
    eventLoop: loop.delay(),
    state: worse(worstState(cabinet), worstOf(pair)),
    warnings: [
      ...network,
      ...cabinet.warnings(),
      ...memoryWarnings(config.memory, cabinet.fileSystems.rows().length, controlGroupLimit()),
      ...(pair === null ? [] : pairWarnings(pair)),
    ],
    pair: pair === null ? null : pairRow(pair),
    socket: config.management.socket,
    service,
    clients,
    disks: cabinet.disks(),
    groups: cabinet.groups(),
    lus: cabinet.lus(),
    fileSystems: cabinet.fileSystems.rows(),
    exports: cabinet.fileSystems.exports.rows(),
  };
}

function worse(one: GroupState, other: GroupState): GroupState {
  const states = [one, other];
  return states.includes("failed") ? "failed" : states.includes("degraded") ? "degraded" : "clean";
}

function worstState(cabinet: Cabinet): GroupState {
  const states = cabinet.groups().map(({ state }) => state);
  if (states.includes("failed") || cabinet.fileSystems.rows().some(({ state }) => state === "failed")) return "failed";
  const lacking = states.includes("degraded") || cabinet.shared.warnings().length > 0;
  return lacking ? "degraded" : "clean";
}
