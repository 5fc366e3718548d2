import type { Clock } from "../lib/clock.js";
import type { Board } from "./board.js";
import type { Fence, GroupHost, GroupRole, PairEvent, PairSettings, SeenGroup, ServiceHost } from "./contract.js";
import { Lasting } from "./lasting.js";
import type { ProcessIdentity } from "./process-identity.js";
import type { ServiceAddress } from "./record.js";
import { Retry } from "./retry.js";

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
  /** The disks have been looked at for the first time, and nothing is taken yet. */
  readonly beforeTaking?: (() => Promise<void>) | undefined;
  /** A majority of the disks has taken a heartbeat in time. */
  readonly onHeard?: (() => void) | undefined;
  /** This node has lost a group to another one, or its say in the matter: it must not write another byte. Ends the process; does not return to us. */
  readonly stopAtOnce: (reason: string) => void;
  /** Parts that are switched off: for the simulator, which must notice. */
  readonly without?: WithoutSafety;
}

/**
 * fencing: a partner that is silent is taken for gone. lease: nobody waits for it to run out, nor does it run out here. haste: what an earlier heartbeat
 * still waits to hear is asked again.
 */
export interface WithoutSafety {
  readonly haste?: boolean;
  readonly fencing?: boolean;
  readonly lease?: boolean;
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
  /** The partner's lease as it was last read, and since when it has been that one. */
  theirs: { readonly epoch: number; readonly sequence: number; readonly sinceMs: number } | null;
  /** Another process has been seen holding its disks. */
  seenHeld: boolean;
  /** Given to the partner: not taken back before this, by our clock. */
  yieldedUntilMs: number;
  /** Up to this epoch it was let go, and the release could not be written on its disks; 0: there is no such thing. */
  letGo: number;
  /** This node lacks disks of it that the partner has. */
  readonly pathLost: Lasting;
  /** This node itself is in its way. */
  readonly hindered: Lasting;
  /** Somebody finds out whether it is to be taken. */
  looking: boolean;
  /** When it is tried again after an attempt that failed. */
  readonly retry: Retry;
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

/** This node keeps a group from being served for so long before a partner that could take it gets it: a moment passes by itself. */
const HINDERED_MS = 2_000;
/** Longer than two looks of the partner at its disks, and one of ours (control/readiness.ts). */
const PATH_LOST_MS = 15_000;

export function newTracked(seen: SeenGroup, home: string): Tracked {
  return {
    ...{ seen, home, busy: false, role: "watched", epoch: -1, theirs: null, seenHeld: false },
    ...{ pathLost: new Lasting(PATH_LOST_MS), hindered: new Lasting(HINDERED_MS) },
    ...{ letGo: 0, looking: false, yieldedUntilMs: 0, retry: new Retry(), complaint: "" },
  };
}
