import type { Clock } from "../lib/clock.js";
import type { Board } from "./board.js";
import type { Fence, GroupHost, GroupRole, PairEvent, PairSettings, SeenGroup, ServiceHost } from "./contract.js";
import type { ProcessIdentity } from "./process-identity.js";
import type { ServiceAddress } from "./record.js";

export interface PairAgentParts {
  readonly node: string;
  readonly partner: string;
  readonly identity: ProcessIdentity;
  readonly version: string;
  /** Of this node. */
  readonly service: ServiceAddress;
  readonly clock: Clock;
  readonly board: Board;
  readonly host: GroupHost;
  readonly services: ServiceHost;
  readonly fence: Fence;
  readonly settings: PairSettings;
  readonly onEvent: (event: PairEvent) => void;
  /** This node has lost a group to another one, or its say in the matter: it must not write another byte. Ends the process; does not return to us. */
  readonly stopAtOnce: (reason: string) => void;
}

/** A group and what this node does with it. */
export interface Tracked {
  seen: SeenGroup;
  /** The node that serves it in normal work. */
  home: string;
  /** Being taken or let go. */
  busy: boolean;
  role: GroupRole;
  /** Under which it is owned; -1 when it is not. */
  epoch: number;
  leaseSequence: number;
  /** Another process has been seen holding its disks. */
  seenHeld: boolean;
  /** Given to the partner: not taken back before this, by our clock. */
  yieldedUntilMs: number;
  /** An attempt failed: not tried again before this. */
  retryAtMs: number;
  /** The last refusal that was reported. */
  complaint: string;
}

export interface GroupStanding {
  readonly uuid: string;
  readonly name: string;
  /** Of the members that were found. */
  readonly paths: readonly string[];
  /** Members that there are. */
  readonly memberCount: number;
  readonly home: string;
  readonly role: GroupRole;
  readonly epoch: number;
  /** Why it could not be taken; empty when it was, or nobody tried. */
  readonly complaint: string;
}

export function newTracked(seen: SeenGroup, home: string): Tracked {
  return {
    ...{ seen, home, busy: false, role: "watched", epoch: -1, leaseSequence: 0, seenHeld: false },
    ...{ yieldedUntilMs: 0, retryAtMs: 0, complaint: "" },
  };
}
