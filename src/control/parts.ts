import type { Clock } from "../lib/clock.js";
import type { ChangeLock } from "./change-lock.js";
import type { DiskShelf } from "./disk-shelf.js";
import type { EventLog } from "./event-log.js";
import type { FileSystemKeeper } from "./file-system-keeper.js";
import type { GroupRoster } from "./group-roster.js";
import type { StorageLayers } from "./layers.js";

/** What the parts of a cabinet share. Made by cabinet.ts. */
export interface CabinetParts {
  readonly layers: StorageLayers;
  readonly clock: Clock;
  readonly events: EventLog;
  readonly shelf: DiskShelf;
  readonly groups: GroupRoster;
  readonly fileSystems: FileSystemKeeper;
  /** Held by every operation that changes something. */
  readonly changes: ChangeLock;
}

/** How long a cabinet waits before it helps itself. Changed by a reload. */
export interface CareSettings {
  /** A member that is missing, not failed, gets a spare after this many seconds: it may only be late. */
  readonly spareDelaySeconds: number;
  /** While a group lacks a member its disks are looked for this often; 0: never. */
  readonly diskScanSeconds: number;
}
