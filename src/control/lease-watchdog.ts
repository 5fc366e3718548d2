import type { Watchdog } from "../device/watchdog.js";
import { messageOf } from "../lib/errors.js";

export interface LeaseWatchdogParts {
  readonly watchdog: Pick<Watchdog, "live" | "disarm">;
  /** This node has a group, or may have one. */
  readonly owns: () => boolean;
  readonly onTrouble: (what: string) => void;
}

/**
 * While this node has groups, the machine's watchdog gets a sign of life each time that a majority of the disks has taken a heartbeat, and only then. A
 * process that is stopped, or cut off from the disks, for as long as its lease lasts takes the whole machine with it, and whatever it had under way.
 */
export class LeaseWatchdog {
  #troubled = false;

  /** An earlier process may have left it armed; and whether it can be opened shows now. @throws StorageError EACCES, EBUSY, EIO */
  constructor(private readonly parts: LeaseWatchdogParts) {
    parts.watchdog.live();
    parts.watchdog.disarm();
  }

  heard(): void {
    const { watchdog, owns, onTrouble } = this.parts;
    try {
      if (owns()) watchdog.live();
      else watchdog.disarm();
      this.#troubled = false;
    } catch (error) {
      if (!this.#troubled) onTrouble(`the watchdog gets no sign of life: ${messageOf(error)}`);
      this.#troubled = true;
    }
  }

  /** In order, or at once: this process writes nothing more. */
  end(): void {
    try {
      this.parts.watchdog.disarm();
    } catch (error) {
      this.parts.onTrouble(`the watchdog could not be disarmed: ${messageOf(error)}`);
    }
  }
}
