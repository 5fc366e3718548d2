import type { LockState } from "../device/lock-probe.js";
import type { ServiceAddress } from "./record.js";

/** A group as its labels show it, whoever serves it. */
export interface SeenGroup {
  readonly uuid: string;
  readonly name: string;
  /** The node that serves it in normal work; null: its label names none. */
  readonly home: string | null;
  /** Members that were found. */
  readonly paths: readonly string[];
  /** Members that there are. */
  readonly memberCount: number;
  /** Under which it was last written. */
  readonly epoch: number;
}

/** What a group is to this node. */
export type GroupRole = "owned" | "taking" | "releasing" | "watched";

/** The storage of a node, as far as ownership goes. Implemented by control/; by a model in the simulator. */
export interface GroupHost {
  /** Look at all disks, also at those that the partner holds. */
  survey(): Promise<{
    readonly groups: readonly SeenGroup[];
    readonly disks: readonly { path: string; group: string | null }[];
  }>;
  /** Lock the members of a group for us alone. @throws StorageError EBUSY when another process holds one */
  lock(group: string): Promise<void>;
  /** Put the locked group together and mount what is on it. @throws StorageError when it cannot be served */
  open(group: string): Promise<void>;
  /** Before a group is closed: write out what can be written while it still serves, so that closing is quick. */
  settle(group: string): Promise<void>;
  /** Take down what stands on it, write everything, let the disks go. */
  close(group: string): Promise<void>;
  /** It has lost more disks than it can, as this node sees it. */
  hasFailed(group: string): boolean;
  /** How a group is that is served here; null: it is not. Absent: nobody is told. */
  stateOf?(group: string): "clean" | "degraded" | "failed" | null;
  /** Why this node, and not the disks, keeps a group from being served as it should; null: nothing does. From memory: it is asked with each heartbeat. */
  hindrance(group: string): string | null;
  /** Whether another process has the group's disks. */
  lockState(group: string): LockState;
}

/** The addresses at which clients find the groups of a node. */
export interface ServiceHost {
  /** @throws StorageError when it cannot be had */
  bring(home: string, address: ServiceAddress): Promise<void>;
  /** Answer what is under way there, close its connections, listen no more. */
  withdraw(home: string): Promise<void>;
  /** As withdraw, but nothing is answered from this moment on: clients ask again, and whoever serves then answers. */
  hangUp(home: string): void;
}

/** Makes sure that the partner writes nothing more. */
export interface Fence {
  /** On this host: end its process, if it is still the one that was recorded. @throws StorageError when that cannot be done */
  kill(pid: number, processStart: number): Promise<void>;
  /** One letter as in proc(5); null: there is no such process. */
  processState(pid: number, processStart: number): string | null;
  /** On another host: have its power cut. null: no command is configured. @throws StorageError when it failed */
  readonly command: ((node: string) => Promise<void>) | null;
}

export interface PairEvent {
  readonly severity: "info" | "warning" | "error";
  readonly kind: string;
  readonly what: string;
  readonly detail?: Readonly<Record<string, unknown>>;
}

export interface PairSettings {
  readonly heartbeatMs: number;
  /** How often a lock that the partner holds is looked at. */
  readonly probeMs: number;
  /** A process that is stopped or gone, and silent this long, has failed. */
  readonly stoppedMs: number;
  /** As before, but the process seems well: it may only be very busy. */
  readonly silentMs: number;
  /** A node on another host that is silent this long has stopped itself. */
  readonly leaseMs: number;
  /** After its start a node waits so long for the home node of a group. */
  readonly graceMs: number;
}

export const PAIR_SETTINGS: PairSettings = {
  heartbeatMs: 200,
  probeMs: 20,
  stoppedMs: 1000,
  silentMs: 2000,
  leaseMs: 10_000,
  graceMs: 4000,
};
