import { messageOf } from "../lib/errors.js";
import type { LeaseView } from "./board.js";
import { standingOf } from "./lease-keeper.js";
import type { PairAgentParts, Tracked } from "./pair-parts.js";
import type { PairReport } from "./pair-report.js";
import type { PartnerWatch } from "./partner-watch.js";
import type { Lease } from "./record.js";

/** What the agent knows of itself when it looks at a group. */
export interface Outlook {
  /** So long ago this node began. */
  readonly upMs: number;
  /** So long ago a heartbeat of ours began that a majority of the disks took. */
  readonly unheardMs: number;
  /** UUIDs of the groups that somebody has asked this node to take. */
  readonly wants: ReadonlySet<string>;
}

/** Whether a group that this node does not serve is to be taken now, and why: the rules stand in docs/decisions/0024-who-may-write.md. */
export class TakeoverReasons {
  #killing = false;
  #fencing: Promise<void> | null = null;
  /** When the last fence command began that succeeded. */
  #fencedMs = Number.NEGATIVE_INFINITY;

  constructor(
    private readonly parts: PairAgentParts,
    private readonly watch: PartnerWatch,
    private readonly report: PairReport,
    private readonly outlook: () => Outlook,
  ) {}

  /** On one host: the locks say it. @returns null: not now */
  here(group: Tracked): string | null {
    const { host, node, settings, partner, without } = this.parts;
    const { home, seen } = group;
    const { uuid } = seen;
    const state = host.lockState(uuid);
    if (state === "held") {
      group.seenHeld = true;
      group.yieldedUntilMs = 0;
      if (without?.fencing === true && this.watch.silenceMs > settings.silentMs) return "not fenced";
      void this.#killIfHung();
      return null;
    }
    if (state === "unknown" || this.#nowMs() < group.yieldedUntilMs) return null;
    if (this.outlook().wants.has(uuid)) return "planned";
    if (group.seenHeld) return this.#partnerProcess() === null ? `${partner} is gone` : `${partner} let it go`;
    if (home === node) return "start";
    return this.#waited() ? `${home} did not come` : null;
  }

  /** On two hosts: the lease says it. @param view  null: too few disks can be asked. @returns null: not now */
  async elsewhere(group: Tracked, view: LeaseView | null): Promise<string | null> {
    const { node, settings, partner } = this.parts;
    // Whoever is not heard would lose it again at once.
    if (view === null || this.outlook().unheardMs > settings.silentMs) return null;
    const standing = standingOf(view, this.#letGoBy(group));
    if (standing === "theirs") group.yieldedUntilMs = 0;
    if (this.#nowMs() < group.yieldedUntilMs) return null;
    if (standing === "never") return group.home === node || this.#waited() ? "start" : null;
    if (standing === "ours") return "start";
    if (standing === "released" || view.other === null) return `${partner} let it go`;
    return await this.#whenSilent(group, view.other);
  }

  /** The epoch up to which the partner says that it has let this group go. */
  #letGoBy({ seen }: Tracked): number {
    const { heartbeat } = this.watch.view(this.#nowMs());
    return heartbeat?.letGo.find(({ group }) => group === seen.uuid)?.epoch ?? 0;
  }

  /** The other has it, or may have it. A node that was silent may have come back and taken it just now: silence counts from when it was first seen to have this lease. */
  async #whenSilent(group: Tracked, theirs: Lease): Promise<string | null> {
    const { settings, partner, fence, without } = this.parts;
    const nowMs = this.#nowMs();
    const sinceMs = seenSinceMs(group, theirs, nowMs);
    const silenceMs = Math.min(this.watch.silenceMs, nowMs - sinceMs);
    if (silenceMs < settings.silentMs) return null;
    if (without?.fencing === true || without?.lease === true) return `${partner} is silent`;
    if (fence.command !== null) {
      return (await this.#isFenced(group, sinceMs, fence.command)) ? `${partner} was fenced` : null;
    }
    const spentMs = settings.leaseMs + settings.silentMs;
    return silenceMs > spentMs ? `${partner} has been silent for longer than its lease lasts` : null;
  }

  #waited(): boolean {
    return this.outlook().upMs > this.parts.settings.graceMs;
  }

  /**
   * One command at a time, however long it takes and however many groups wait for it. Whoever wrote a lease that was seen before a command began is gone
   * when that has succeeded: it is not cut off again when it has come back meanwhile, which it may have for another group.
   */
  async #isFenced(group: Tracked, sinceMs: number, command: (node: string) => Promise<void>): Promise<boolean> {
    if (sinceMs > this.#fencedMs) {
      this.#fencing ??= this.#fence(command).finally(() => {
        this.#fencing = null;
      });
      try {
        await this.#fencing;
      } catch (error) {
        group.retry.failed(messageOf(error), this.#nowMs());
        this.report.complain(group, error);
      }
    }
    return sinceMs <= this.#fencedMs;
  }

  async #fence(command: (node: string) => Promise<void>): Promise<void> {
    const beganMs = this.#nowMs();
    await command(this.parts.partner);
    this.#fencedMs = beganMs;
  }

  /** The partner's process, when it is on this host: its state, or null when it is gone. */
  #partnerProcess(): string | null {
    const { heartbeat } = this.watch.view(this.#nowMs());
    return heartbeat === null ? null : this.parts.fence.processState(heartbeat.pid, heartbeat.processStart);
  }

  /** It holds the locks and says nothing: it is ended, and the locks with it. */
  async #killIfHung(): Promise<void> {
    const { settings, fence, partner, onEvent } = this.parts;
    const { heartbeat } = this.watch.view(this.#nowMs());
    const { silenceMs } = this.watch;
    if (heartbeat === null || this.#killing || silenceMs < settings.stoppedMs) return;
    const state = this.#partnerProcess();
    if (state === null) return;
    const stopped = state === "T" || state === "t";
    if (!stopped && silenceMs < settings.silentMs) return;
    this.#killing = true;
    try {
      const how = stopped ? "is stopped" : "hangs";
      const what = `${partner} ${how} (process ${heartbeat.pid}, silent for ${Math.round(silenceMs)} ms): it is ended`;
      onEvent({ severity: "error", kind: "partner-fenced", what, detail: { partner } });
      await fence.kill(heartbeat.pid, heartbeat.processStart);
    } catch (error) {
      const what = `${partner} hangs and could not be ended: ${messageOf(error)}`;
      onEvent({ severity: "error", kind: "fencing-failed", what, detail: { partner } });
    } finally {
      this.#killing = false;
    }
  }

  #nowMs(): number {
    return this.parts.clock.monotonicMs();
  }
}

function seenSinceMs(group: Tracked, { epoch, sequence }: Lease, nowMs: number): number {
  const { theirs } = group;
  if (theirs?.epoch === epoch && theirs.sequence === sequence) return theirs.sinceMs;
  group.theirs = { epoch, sequence, sinceMs: nowMs };
  return nowMs;
}
