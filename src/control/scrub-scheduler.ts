import type { CancelTimer } from "../lib/clock.js";
import { messageOf, operatingError } from "../lib/errors.js";
import { LIMITS } from "../limits.js";
import type { GroupDescription } from "../raid/contract.js";
import { DueTimes } from "./due-times.js";
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
  readonly #due: DueTimes;

  constructor(private readonly parts: CabinetParts) {
    this.#due = new DueTimes(parts.clock, (uuid, wallMs) => this.#tellFuture(uuid, wallMs));
  }

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
      for (const group of groups.open()) if (this.#isDue(group.described)) await this.#start(group);
      this.#due.forgetAllBut(new Set(groups.open().map(({ described }) => described.uuid)));
    });
  }

  #isDue({ uuid, state, tasks, scrub }: GroupDescription): boolean {
    // Asked also when none may begin: from then on time passes by the monotonic clock.
    const dueInMs = this.#due.dueInMs(uuid, scrub.startedMs, scrub.everySeconds * 1000);
    if (state !== "clean" || tasks.some(isUnderWay)) return false;
    if (scrub.state !== "idle") return scrub.state === "running";
    return scrub.everySeconds > 0 && dueInMs <= 0;
  }

  #tellFuture(uuid: string, wallMs: number): void {
    const name = this.parts.groups.get(uuid)?.describe().name ?? uuid;
    const what = `group ${name}: its last scrub began in the future, at ${new Date(wallMs).toISOString()}: the clock is, or was, wrong`;
    this.parts.events.add({ severity: "warning", kind: "time-in-future", what, detail: { group: name } });
  }

  async #start({ group, described: { name } }: DescribedGroup): Promise<void> {
    const { fileSystems, events } = this.parts;
    try {
      await startScrub(group, fileSystems, true);
      // From here on time passes by the monotonic clock, whatever becomes of the other one.
      this.#isDue(group.describe());
    } catch (error) {
      if (operatingError(error) === null) throw error;
      const what = `group ${name}: the scrub that is due cannot begin: ${messageOf(error)}`;
      events.add({ severity: "warning", kind: "scrub-not-started", what, detail: { group: name } });
    }
  }
}
