import os from "node:os";
import type { Config, PairConfig } from "../config/schema.js";
import type { BlockDevice } from "../device/device.js";
import type { DiskLanes } from "../device/disk-lane.js";
import { openFileDevice } from "../device/file-device.js";
import { Watchdog } from "../device/watchdog.js";
import { Board } from "../ha/board.js";
import { type GroupHost, PAIR_SETTINGS } from "../ha/contract.js";
import { PairAgent } from "../ha/pair-agent.js";
import { sharesNetwork, thisProcess } from "../ha/process-identity.js";
import type { ServiceAddress } from "../ha/record.js";
import { type Clock, wallMs } from "../lib/clock.js";
import { StorageError } from "../lib/errors.js";
import type { Logger } from "../lib/log.js";
import { AddressCommand } from "./address-command.js";
import { AddressGuards } from "./address-guards.js";
import { AddressWatch } from "./address-watch.js";
import { ClientReach, type ClientReachParts } from "./client-reach.js";
import type { DiskSharing } from "./disk-shelf.js";
import { DiskSight } from "./disk-sight.js";
import type { EventLog } from "./event-log.js";
import { FollowerKeeper } from "./follower-keeper.js";
import type { GroupHands } from "./group-hands.js";
import { LeaseWatchdog } from "./lease-watchdog.js";
import { PartnerRecords } from "./partner-records.js";
import { ProcessFence } from "./process-fence.js";
import { answersAt, ReachWatch } from "./reach-watch.js";
import { cachedText, Readiness } from "./readiness.js";
import type { ServiceAddresses } from "./service-addresses.js";
import type { SharedAdmin } from "./shared-admin.js";
import { version } from "./version.js";

/** However short a lease is: a process may be busy for that long. */
const GUARD_MS_MIN = 2000;

export interface PairParts {
  readonly config: Config;
  readonly pair: PairConfig;
  readonly clock: Clock;
  readonly log: Logger;
  readonly events: EventLog;
  readonly hands: GroupHands;
  readonly services: ServiceAddresses;
  readonly stopAtOnce: (reason: string) => void;
  readonly onHeard: () => void;
  readonly beforeTaking: () => Promise<void>;
  /** Layers over a disk that was opened for its reserved area. */
  readonly overReserved: (device: BlockDevice) => BlockDevice;
}

/** This node's part in its pair, over the real disks, processes and commands. */
export function makePairAgent(parts: PairParts): PairAgent {
  const { config, pair, clock, log, events, hands, services, stopAtOnce, onHeard, beforeTaking, overReserved } = parts;
  const identity = thisProcess();
  const direct = config.directIo;
  const board: Board = new Board({
    open: async (path) => overReserved(await openFileDevice(path, { mode: "read-write-unlocked", log, direct })),
    clock,
    log,
    // On one host both nodes see the same page cache.
    durable: () => agent.partner().heartbeat?.bootId !== identity.bootId,
  });
  const agent: PairAgent = new PairAgent({
    ...{ node: config.node, partner: pair.partner, identity, version: version(), clock, board, services },
    ...{ stopAtOnce, onHeard, beforeTaking },
    service: { host: config.nfs.host, port: config.nfs.port },
    host: direct
      ? hands
      : refusingCached(
          hands,
          () => agent,
          () => wallMs(clock) - os.uptime() * 1000,
        ),
    fence: new ProcessFence(pair.fenceCommand),
    settings: { ...PAIR_SETTINGS, heartbeatMs: pair.heartbeatMs, leaseMs: pair.leaseMs },
    onEvent: (event) => events.add(event),
  });
  return agent;
}

/** null: none is configured. @throws StorageError as Watchdog.find and LeaseWatchdog */
export function makeWatchdog(pair: PairConfig, agent: () => PairAgent | null, events: EventLog): LeaseWatchdog | null {
  if (pair.watchdogDevice === null) return null;
  return new LeaseWatchdog({
    watchdog: Watchdog.find(pair.watchdogDevice, pair.leaseMs / 1000),
    owns: () => (agent()?.groups() ?? []).some(({ epoch }) => epoch >= 0),
    onTrouble: (what) => events.add({ severity: "error", kind: "watchdog-trouble", what }),
  });
}

/**
 * A node that reads through its page cache takes nothing that another host may have written while this one was up. A heartbeat of another boot, from before
 * this host came up, may as well be of this host: then there is nothing old to read.
 * @param bootMs  when this host came up, by its wall clock
 */
export function refusingCached(
  host: GroupHost,
  agent: () => Pick<PairAgent, "partner" | "partnerName" | "self">,
  bootMs: () => number,
): GroupHost {
  return {
    survey: () => host.survey(),
    lock: async (group) => {
      const { partnerName, self } = agent();
      const { heartbeat, silentMs } = agent().partner();
      const isElsewhere = heartbeat !== null && heartbeat.bootId !== self.bootId;
      if (isElsewhere && (silentMs !== Number.POSITIVE_INFINITY || heartbeat.wallMs > bootMs()))
        throw new StorageError("EACCES", cachedText(partnerName));
      await host.lock(group);
    },
    open: (group) => host.open(group),
    settle: (group) => host.settle(group),
    close: (group) => host.close(group),
    hasFailed: (group) => host.hasFailed(group),
    stateOf: (group) => host.stateOf?.(group) ?? null,
    hindrance: (group) => host.hindrance(group),
    lockState: (group) => host.lockState(group),
  };
}

/** Reads along with the groups that the partner serves. */
export function makeFollower(
  config: Config,
  clock: Clock,
  log: Logger,
  lanes: DiskLanes,
  folder: string,
  agent: () => PairAgent | null,
  prepare: () => void,
): FollowerKeeper {
  const direct = config.directIo;
  return new FollowerKeeper({
    ...{ clock, log, folder, prepare },
    open: async (path) => lanes.over(await openFileDevice(path, { mode: "read-only", log, direct }), "data"),
    groups: () => {
      const followed = (agent()?.groups() ?? []).filter(({ role }) => role === "watched" || role === "taking");
      return new Map(followed.map(({ uuid, paths, role }) => [uuid, { paths, taking: role === "taking" }]));
    },
  });
}

export interface ReadinessSources {
  readonly config: Config;
  readonly pair: PairConfig;
  readonly clock: Clock;
  readonly events: EventLog;
  readonly command: AddressCommand | null;
  readonly addresses: AddressWatch;
  readonly reach: ReachWatch;
  readonly log: Logger;
  /** Folder of the copies of the metadata. */
  readonly scratch: string;
}

export function makeReadiness(agent: PairAgent, sources: ReadinessSources): Readiness {
  const { config, pair, clock, events, command, addresses, reach, log, scratch } = sources;
  // Past the page cache where there is one of our own: what was read before says nothing about a path.
  const sight = new DiskSight((path) => openFileDevice(path, { mode: "read-only", log, direct: config.directIo }));
  return new Readiness({
    ...{ pair: agent, config: pair, directIo: config.directIo, clock, events, command, scratch },
    unheard: () => agent.unheard(),
    sees: (path) => sight.sees(path),
    stuck: () => addresses.stuck,
    cutOff: () => reach.problems,
  });
}

export interface AddressSources {
  readonly config: Config;
  readonly pair: PairConfig;
  readonly clock: Clock;
  readonly events: EventLog;
  readonly services: ServiceAddresses;
  readonly command: AddressCommand | null;
}

/** The agent comes later, and asks it before it takes anything. */
export function watchAddresses(agent: () => PairAgent | null, sources: AddressSources): AddressWatch {
  const { config, clock, events, services, command } = sources;
  return new AddressWatch({
    clock,
    served: () => services.brought,
    known: () => knownAddresses(agent(), config),
    command:
      command === null
        ? null
        : {
            restore: (address) => services.restore(address),
            clear: (host) => services.clear(host),
            check: (host) => command.check(host),
          },
    onLost: (home, why) => agent()?.addressLost(home, why),
    onEvent: (event) => events.add(event),
  });
}

/** @param onChange  this node is cut off, or is not any more */
export function watchReach(agent: PairAgent, sources: AddressSources, onChange: () => void): ReachWatch {
  const { pair, clock, events, command } = sources;
  return new ReachWatch({
    ...{ clock, targets: pair.reach, connect: answersAt },
    ask: command === null ? null : (targets, onRound, onEnd) => command.reach(targets, onRound, onEnd),
    onStanding: (reach) => {
      agent.reach = reach;
    },
    onCut: (why) => agent.cutOff(why),
    onEvent: (event) => {
      events.add(event);
      onChange();
    },
  });
}

/** null: the configuration names whom to ask. */
export function watchClients(
  agent: PairAgent,
  { pair, clock, events }: AddressSources,
  heard: ClientReachParts["heard"],
): ClientReach | null {
  if (pair.reach.length > 0) return null;
  return new ClientReach({
    ...{ clock, heard, connect: answersAt },
    asked: () => (agent.partnerIsAlive && !isOnThisMachine(agent) ? (agent.partner().heartbeat?.silent ?? []) : []),
    onSilent: (addresses) => {
      agent.silent = addresses;
    },
    onStanding: (reach) => {
      agent.reach = reach;
    },
    onCut: (why) => agent.cutOff(why),
    onEvent: (event) => events.add(event),
  });
}

/** What nobody looks after, for people. On one machine there is no network between a node and its partner's clients. */
export function networkWarnings(agent: PairAgent, pair: PairConfig, reach: ReachWatch): string[] {
  const { heartbeat } = agent.partner();
  if (pair.reach.length > 0 || heartbeat === null || sharesNetwork(agent.self, heartbeat)) return reach.warnings;
  return [
    "pair.reach names no targets: a network that is cut while the carrier stays shows only in clients that fall silent (docs/FAILOVER.md)",
  ];
}

/** A partner on this very machine may serve at any of them: then all of them may be here. */
function knownAddresses(agent: PairAgent | null, { node, nfs }: Config): ReadonlyMap<string, ServiceAddress> {
  if (agent === null || isOnThisMachine(agent)) return new Map();
  const known = new Map([[node, nfs as ServiceAddress]]);
  const theirs = agent.partner().heartbeat?.service ?? null;
  return theirs === null ? known : known.set(agent.partnerName, theirs);
}

function isOnThisMachine(agent: PairAgent): boolean {
  const { heartbeat } = agent.partner();
  return heartbeat !== null && sharesNetwork(agent.self, heartbeat);
}

/** null: nobody moves addresses here. */
export function guardAddresses(agent: () => PairAgent | null, sources: AddressSources): AddressGuards | null {
  const { pair, clock, events, services, command } = sources;
  if (command === null) return null;
  const seconds = Math.ceil(Math.max(pair.leaseMs, GUARD_MS_MIN) / 1000);
  return new AddressGuards({
    clock,
    hosts: () => {
      const pairAgent = agent();
      return pairAgent !== null && isOnThisMachine(pairAgent) ? [] : services.wantedHosts();
    },
    start: (host) => command.guard(host, seconds),
    onUseless: () => {
      const what = `the address command ${command.path} guards no address: one stays on this machine when the daemon is killed or stopped`;
      events.add({ severity: "warning", kind: "address-unguarded", what });
    },
  });
}

/** Says on the shared LU that this node stands in for its partner, when it does. */
export function watchPartnerRecords(
  pair: PairAgent,
  { clock, events, shared }: { clock: Clock; events: EventLog; shared: SharedAdmin },
): PartnerRecords {
  const { name: node, partnerName: partner } = pair;
  return new PartnerRecords({
    ...{ node, partner, clock, events },
    standsIn: () => !pair.partnerIsAlive && pair.groups().some(({ role }) => role === "owned"),
    take: () => shared.openRecords({ node: partner, writer: node, take: true }),
  });
}

/**
 * What a node of a pair may take from the disks that both see. The agent comes later than the shelf that asks. A group that is being let go is not ours:
 * whoever looks at its disks just then would lock them again, for good.
 */
export function diskSharing(agent: () => Pick<PairAgent, "groups" | "partner"> | null): DiskSharing {
  return {
    isOurs: (group) =>
      agent()
        ?.groups()
        .some(({ uuid, role }) => uuid === group && (role === "owned" || role === "taking")) ?? false,
    isPartner: (pid) => agent()?.partner().heartbeat?.pid === pid,
  };
}

export function addressCommand(pair: PairConfig | null): AddressCommand | null {
  return pair?.addressCommand == null ? null : new AddressCommand(pair.addressCommand);
}
