import { pause } from "../lib/clock.js";
import { isStorageError, messageOf, StorageError } from "../lib/errors.js";
import type { LeaseView } from "./board.js";
import type { LeaseKeeper } from "./lease-keeper.js";
import type { PairAgentParts, Tracked } from "./pair-parts.js";
import type { PairReport } from "./pair-report.js";
import type { PartnerWatch } from "./partner-watch.js";

/** So long a group that was given away is left for the partner to take. */
export const YIELD_MS = 10_000;
/** A disk that does not answer holds a takeover up for so long at most. */
const SURVEY_MS_MAX = 500;

/** Takes groups and lets them go, step by step: which, and when, is the agent's affair. */
export class Changeover {
  constructor(
    private readonly parts: PairAgentParts,
    private readonly groups: ReadonlyMap<string, Tracked>,
    private readonly leases: LeaseKeeper,
    private readonly watch: PartnerWatch,
    private readonly report: PairReport,
    private readonly survey: () => Promise<void>,
  ) {}

  /**
   * @param basis  the leases because of which it is taken; null: our locks are reason enough
   * @throws StorageError when it cannot be served here; it is free again then
   */
  async take(group: Tracked, reason: string, basis: LeaseView | null): Promise<void> {
    const { host, node } = this.parts;
    const beganMs = this.#nowMs();
    group.role = "taking";
    await this.#lookForMissing(group);
    const { home, seen } = group;
    const { uuid, name } = seen;
    if (!(await this.#lock(group))) return;
    const lockedMs = this.#nowMs();
    try {
      await this.leases.take(seen, reason, basis, (epoch) => {
        group.epoch = epoch;
      });
      const leasedMs = this.#nowMs();
      await host.open(uuid);
      const openedMs = this.#nowMs();
      group.role = "owned";
      group.seenHeld = false;
      await this.bring(home);
      const ms = steps({
        lock: lockedMs - beganMs,
        lease: leasedMs - lockedMs,
        open: openedMs - leasedMs,
        serve: this.#nowMs() - openedMs,
      });
      const what = `group ${name} is served by ${node} under epoch ${group.epoch} (${reason})`;
      this.report.tell(reason === "start" ? "info" : "warning", "group-taken", what, group, { reason, ms });
    } catch (error) {
      await this.#abandon(group, messageOf(error));
      throw error;
    }
  }

  /** The path to a member that was not there may have come back since the last look. */
  async #lookForMissing({ seen }: Tracked): Promise<void> {
    if (seen.paths.length >= seen.memberCount) return;
    await Promise.race([this.survey().catch(() => {}), pause(this.parts.clock, SURVEY_MS_MAX)]);
  }

  /** @returns false: somebody was quicker, and the next look says who */
  async #lock(group: Tracked): Promise<boolean> {
    try {
      await this.parts.host.lock(group.seen.uuid);
      return true;
    } catch (error) {
      group.role = "watched";
      if (isStorageError(error, "EBUSY")) return false;
      throw error;
    }
  }

  /** It could not be taken: the partner may try at once, when it sees more. */
  async #abandon(group: Tracked, reason: string): Promise<void> {
    const { uuid } = group.seen;
    const { epoch } = group;
    group.epoch = -1;
    await this.parts.host.close(uuid).catch(() => {});
    if (epoch >= 0) await this.#releaseLease(group, epoch, reason);
    group.role = "watched";
  }

  /** Serve at the address of a node. @throws StorageError ENODEV, or as the address says */
  async bring(home: string): Promise<void> {
    const { node, service, services, clock } = this.parts;
    const address = home === node ? service : this.watch.view(clock.monotonicMs()).heartbeat?.service;
    if (address === undefined || address === null) {
      throw new StorageError("ENODEV", `the service address of ${home} is not known: it has never been seen`);
    }
    await services.bring(home, address);
  }

  /** Take it down in order. The lease is written last: what it releases is not written any more. */
  async release(group: Tracked, reason: string): Promise<void> {
    const { host, services, node } = this.parts;
    const { home, seen } = group;
    const { uuid, name } = seen;
    const beganMs = this.#nowMs();
    if (!host.hasFailed(uuid)) await host.settle(uuid).catch((error: unknown) => this.report.complain(group, error));
    const settledMs = this.#nowMs();
    group.role = "releasing";
    group.yieldedUntilMs = Number.POSITIVE_INFINITY;
    if (!this.#servesAnother(home)) await services.withdraw(home);
    const withdrawnMs = this.#nowMs();
    await host.close(uuid).catch((error: unknown) => this.report.complain(group, error));
    const { epoch } = group;
    // Should it not have closed in order: what is still under way in it is refused from here on.
    group.epoch = -1;
    await this.#releaseLease(group, epoch, reason);
    group.role = "watched";
    group.seenHeld = false;
    group.yieldedUntilMs = this.#nowMs() + YIELD_MS;
    const ms = steps({
      settle: settledMs - beganMs,
      withdraw: withdrawnMs - settledMs,
      close: this.#nowMs() - withdrawnMs,
    });
    this.report.tell("info", "group-released", `group ${name} is let go by ${node} (${reason})`, group, { reason, ms });
  }

  /** A node that has lost the group's disks says it on the others, with its heartbeat: the partner need not wait for its end. */
  async #releaseLease(group: Tracked, epoch: number, reason: string): Promise<void> {
    try {
      await this.leases.release(group.seen, epoch, reason);
    } catch (error) {
      group.letGo = epoch;
      this.report.complain(group, error);
    }
  }

  #servesAnother(home: string): boolean {
    return [...this.groups.values()].some((other) => other.role === "owned" && other.home === home);
  }

  #nowMs(): number {
    return this.parts.clock.monotonicMs();
  }
}

/** How long each step took, in whole milliseconds. */
function steps(ms: Readonly<Record<string, number>>): Record<string, number> {
  return Object.fromEntries(Object.entries(ms).map(([step, value]) => [step, Math.round(value)]));
}
