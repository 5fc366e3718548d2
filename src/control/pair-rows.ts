import type { PairAgent } from "../ha/pair-agent.js";
import type { GroupState } from "../raid/contract.js";
import type { NodeRole, NodeRow, PairGroupRow, PairRow } from "./types.js";

/**
 * What the management API says of the pair.
 * @param epochs  by group, of those that this node does not serve
 */
export function pairRow(pair: PairAgent, epochs: ReadonlyMap<string, number> = new Map()): PairRow {
  return { nodes: [ownRow(pair), partnerRow(pair)], groups: groupRows(pair, epochs) };
}

export function roleOf(pair: PairAgent | null): NodeRole {
  return pair === null || pair.groups().some(({ role }) => role === "owned") ? "active" : "standby";
}

/** Of the groups of the pair the worst, wherever they are served: what nobody serves has failed. */
export function worstOf(pair: PairAgent | null): GroupState {
  const states = pair === null ? [] : groupRows(pair).map(({ state }) => state ?? "failed");
  return states.find((state) => state === "failed") ?? states.find((state) => state === "degraded") ?? "clean";
}

export function pairWarnings(pair: PairAgent): string[] {
  const { heartbeat, silentMs } = pair.partner();
  const found: string[] = [];
  if (heartbeat === null) found.push(`partner ${pair.partnerName} has never been seen on these disks`);
  else if (!pair.partnerIsAlive)
    found.push(`partner ${pair.partnerName} is away${since(silentMs)}: nobody would take over`);
  const { trouble: theirs } = heartbeat ?? { trouble: null };
  if (pair.partnerIsAlive)
    for (const one of theirs ?? []) found.push(`${pair.partnerName} could not take over now: ${one}`);
  for (const one of pair.trouble ?? []) found.push(`${pair.name} could not take over now: ${one}`);
  for (const { name, servedBy, state, trouble } of groupRows(pair)) {
    if (servedBy === null) found.push(`group ${name} is served by nobody now`);
    else if (servedBy !== pair.name && state !== "clean") found.push(`group ${name} is ${state} at ${servedBy}`);
    if (trouble !== null) found.push(`group ${name} could not be taken over: ${trouble}`);
  }
  return found;
}

function since(silentMs: number): string {
  return Number.isFinite(silentMs) ? ` since ${Math.round(silentMs / 1000)} s` : "";
}

function ownRow(pair: PairAgent): NodeRow {
  const { pid, version, service } = pair.self;
  const serves = pair.groups().filter(({ role }) => role === "owned");
  return {
    name: pair.name,
    role: roleOf(pair),
    pid,
    version,
    serves: serves.map(({ name }) => name),
    service,
    silentMs: 0,
    trouble: pair.trouble,
  };
}

function partnerRow(pair: PairAgent): NodeRow {
  const { heartbeat, silentMs } = pair.partner();
  const name = pair.partnerName;
  if (heartbeat === null)
    return { name, role: "away", pid: null, version: null, serves: [], service: null, silentMs: null, trouble: null };
  const { pid, version, service, owned, trouble: theirs } = heartbeat;
  const trouble = pair.partnerIsAlive ? theirs : null;
  const serves = pair.partnerIsAlive ? pair.groups().filter(({ uuid }) => owned.includes(uuid)) : [];
  const role = !pair.partnerIsAlive ? "away" : serves.length > 0 ? "active" : "standby";
  const silent = Number.isFinite(silentMs) ? Math.round(silentMs) : null;
  return { name, role, pid, version, serves: serves.map((group) => group.name), service, silentMs: silent, trouble };
}

function groupRows(pair: PairAgent, epochs: ReadonlyMap<string, number> = new Map()): PairGroupRow[] {
  const { heartbeat } = pair.partner();
  return pair.groups().map(({ uuid, name, home, role, epoch, complaint }) => {
    const theirs = pair.partnerIsAlive && heartbeat?.owned.includes(uuid) === true;
    const servedBy = role === "owned" ? pair.name : theirs ? pair.partnerName : null;
    const known = epoch < 0 ? (epochs.get(uuid) ?? null) : epoch;
    const ailing = heartbeat?.ailing.find(({ group }) => group === uuid)?.state ?? "clean";
    const state = role === "owned" ? pair.stateOf(uuid) : theirs ? ailing : null;
    return { name, home, servedBy, state, epoch: known, trouble: complaint === "" ? null : complaint };
  });
}
