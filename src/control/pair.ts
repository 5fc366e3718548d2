import os from "node:os";
import type { Config, PairConfig } from "../config/schema.js";
import { openFileDevice } from "../device/file-device.js";
import { Watchdog } from "../device/watchdog.js";
import { Board } from "../ha/board.js";
import { type GroupHost, PAIR_SETTINGS } from "../ha/contract.js";
import { PairAgent } from "../ha/pair-agent.js";
import { thisProcess } from "../ha/process-identity.js";
import type { ServiceAddress } from "../ha/record.js";
import { type Clock, wallMs } from "../lib/clock.js";
import { StorageError } from "../lib/errors.js";
import type { Logger } from "../lib/log.js";
import { AddressWatch } from "./address-watch.js";
import type { DiskSharing } from "./disk-shelf.js";
import type { EventLog } from "./event-log.js";
import { FollowerKeeper } from "./follower-keeper.js";
import type { GroupHands } from "./group-hands.js";
import { LeaseWatchdog } from "./lease-watchdog.js";
import { PartnerRecords } from "./partner-records.js";
import { ProcessFence } from "./process-fence.js";
import { cachedText, Readiness } from "./readiness.js";
import { runCommand } from "./run-command.js";
import type { ServiceAddresses } from "./service-addresses.js";
import type { SharedAdmin } from "./shared-admin.js";
import { version } from "./version.js";

const HOOK_MS_MAX = 10_000;

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
}

/** This node's part in its pair, over the real disks, processes and commands. */
export function makePairAgent(parts: PairParts): PairAgent {
  const { config, pair, clock, log, events, hands, services, stopAtOnce, onHeard } = parts;
  const identity = thisProcess();
  const direct = config.directIo;
  const board: Board = new Board({
    open: (path) => openFileDevice(path, { mode: "read-write-unlocked", log, direct }),
    log,
    // On one host both nodes see the same page cache.
    durable: () => agent.partner().heartbeat?.bootId !== identity.bootId,
  });
  const agent: PairAgent = new PairAgent({
    ...{ node: config.node, partner: pair.partner, identity, version: version(), clock, board, services },
    ...{ stopAtOnce, onHeard },
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
    lockState: (group) => host.lockState(group),
  };
}

/** Reads along with the groups that the partner serves. */
export function makeFollower(
  config: Config,
  clock: Clock,
  log: Logger,
  folder: string,
  agent: () => PairAgent | null,
  prepare: () => void,
): FollowerKeeper {
  const direct = config.directIo;
  return new FollowerKeeper({
    ...{ clock, log, folder, prepare },
    open: (path) => openFileDevice(path, { mode: "read-only", log, direct }),
    groups: () => {
      const followed = (agent()?.groups() ?? []).filter(({ role }) => role === "watched" || role === "taking");
      return new Map(followed.map(({ uuid, paths, role }) => [uuid, { paths, taking: role === "taking" }]));
    },
  });
}

export function makeReadiness(
  pair: PairAgent,
  config: PairConfig,
  directIo: boolean,
  clock: Clock,
  events: EventLog,
): Readiness {
  return new Readiness({ pair, config, directIo, clock, events, unheard: () => pair.unheard() });
}

export function watchAddresses(
  pair: PairAgent,
  clock: Clock,
  services: ServiceAddresses,
  hook: AddressHook | null,
): AddressWatch {
  const watch = new AddressWatch({
    clock,
    served: () => services.brought,
    restore: hook === null ? null : (address) => hook("add", address),
    onLost: (home, why) => pair.addressLost(home, why),
  });
  watch.start();
  return watch;
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

/** `COMMAND add|remove ADDRESS`: makes the address this machine's (and tells the network), or gives it up. */
export type AddressHook = (action: "add" | "remove", address: ServiceAddress) => Promise<void>;

export function addressHook(command: string | null): AddressHook | null {
  if (command === null) return null;
  return (action, { host }) => {
    const what = `the address command failed to ${action} ${host}`;
    return runCommand(command, [action, host], { timeMsMax: HOOK_MS_MAX, what });
  };
}
