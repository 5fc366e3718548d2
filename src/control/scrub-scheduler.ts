import { type CancelTimer, wallMs } from "../lib/clock.js";
import { messageOf, operatingError } from "../lib/errors.js";
import { LIMITS } from "../limits.js";
import type { GroupDescription } from "../raid/contract.js";
import type { DescribedGroup } from "./group-roster.js";
import type { CabinetParts } from "./parts.js";
import { startScrub } from "./start-scrub.js";
import { isUnderWay } from "./task-state.js";

/**
 * Starts scrubs by itself: one that was running when the daemon stopped goes on, and a group with a schedule is scrubbed when it is due.
 * It waits while the group lacks a member or works at something else; a scrub that a person paused stays paused.
 */
export class ScrubScheduler {
  #cancel: CancelTimer | null = null;

  constructor(private readonly parts: CabinetParts) {}

  arm(): void {
    this.stop();
    this.#cancel = this.parts.clock.after(LIMITS.scrubScheduleMs, () => void this.#tick());
  }

  stop(): void {
    this.#cancel?.();
    this.#cancel = null;
  }

  async #tick(): Promise<void> {
    await this.review();
    if (!this.parts.changes.ended) this.arm();
  }

  /** Start what is due. Takes the lock of changes by itself. */
  async review(): Promise<void> {
    const { changes, groups } = this.parts;
    await changes.runUnlessEnded(async () => {
      for (const group of groups.open()) if (isDue(group.described, wallMs(this.parts.clock))) await this.#start(group);
    });
  }

  async #start({ group, described: { name } }: DescribedGroup): Promise<void> {
    const { fileSystems, events } = this.parts;
    try {
      await startScrub(group, fileSystems, true);
    } catch (error) {
      if (operatingError(error) === null) throw error;
      const what = `group ${name}: the scrub that is due cannot begin: ${messageOf(error)}`;
      events.add({ severity: "warning", kind: "scrub-not-started", what, detail: { group: name } });
    }
  }
}

function isDue({ state, tasks, scrub }: GroupDescription, nowMs: number): boolean {
  if (state !== "clean" || tasks.some(isUnderWay)) return false;
  if (scrub.state !== "idle") return scrub.state === "running";
  return scrub.everySeconds > 0 && nowMs >= scrub.startedMs + scrub.everySeconds * 1000;
}
