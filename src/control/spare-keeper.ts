import type { CancelTimer } from "../lib/clock.js";
import { messageOf, operatingError } from "../lib/errors.js";
import type { DiskDescription, LabelledDisk } from "../raid/contract.js";
import { pad } from "./disk-shelf.js";
import type { DescribedGroup } from "./group-roster.js";
import type { CabinetParts, CareSettings } from "./parts.js";

/**
 * Puts a spare in the place of a member that is lost: at once when it failed, after a delay when it is only missing.
 *
 *     online, rebuilding   nothing
 *     failed               a spare
 *     missing, stale       a spare when it has been so for `spareDelaySeconds`
 *
 * One disk of a group is rebuilt at a time. A spare that a group refuses is not offered to it again; the next one is.
 */
export class SpareKeeper {
  /** When a member was first seen missing, on the monotonic clock, by its uuid. */
  readonly #missingSince = new Map<string, number>();
  /** By spare: the groups that refused it. */
  readonly #refusedBy = new WeakMap<LabelledDisk, Set<string>>();
  #cancel: CancelTimer | null = null;

  constructor(
    private readonly parts: CabinetParts,
    private readonly care: () => CareSettings,
  ) {}

  stop(): void {
    this.#cancel?.();
    this.#cancel = null;
  }

  /** Something may have changed. Takes the lock of changes by itself. */
  review(): Promise<void> {
    return this.parts.changes.runUnlessEnded(() => this.reviewLocked());
  }

  /** As `review`, for who holds the lock of changes. */
  async reviewLocked(): Promise<void> {
    this.stop();
    let waitMs = Number.POSITIVE_INFINITY;
    for (const group of this.parts.groups.open()) waitMs = Math.min(waitMs, await this.#reviewGroup(group));
    if (Number.isFinite(waitMs)) this.#cancel = this.parts.clock.after(waitMs, () => void this.review());
  }

  /** @returns milliseconds after which a member of this group has been missing long enough */
  async #reviewGroup(group: DescribedGroup): Promise<number> {
    const { disks } = group.described;
    for (const { uuid, state } of disks) if (!isAway(state)) this.#missingSince.delete(uuid);
    if (disks.some(({ state }) => state === "rebuilding")) return Number.POSITIVE_INFINITY;
    let waitMs = Number.POSITIVE_INFINITY;
    for (const member of disks) {
      const leftMs = this.#delayOf(member);
      if (leftMs > 0) waitMs = Math.min(waitMs, leftMs);
      else if (await this.#replace(group, member)) return Number.POSITIVE_INFINITY;
    }
    return waitMs;
  }

  #delayOf({ uuid, state }: DiskDescription): number {
    if (state === "failed") return 0;
    if (!isAway(state)) return Number.POSITIVE_INFINITY;
    const now = this.parts.clock.monotonicMs();
    const since = this.#missingSince.get(uuid) ?? now;
    this.#missingSince.set(uuid, since);
    return since + this.care().spareDelaySeconds * 1000 - now;
  }

  /** @returns whether the group is at work now */
  async #replace({ group, described }: DescribedGroup, member: DiskDescription): Promise<boolean> {
    const { shelf } = this.parts;
    for (const spare of sparesFor(described.disks, shelf.labelled())) {
      const refusedBy = this.#refusalsOf(spare);
      if (refusedBy.has(described.uuid)) continue;
      try {
        await shelf.handOver(spare, described.uuid, () => group.replaceDisk(member.number, spare));
        this.#report("info", "spare-taken", described.name, member, spare, "takes the place of");
        return true;
      } catch (error) {
        const failure = operatingError(error);
        if (failure === null) throw error;
        // Another disk is being rebuilt; the end of that work is an event.
        if (failure.code === "EBUSY") return true;
        refusedBy.add(described.uuid);
        this.#report("error", "spare-refused", described.name, member, spare, "cannot take the place of", failure);
      }
    }
    return false;
  }

  #refusalsOf(spare: LabelledDisk): Set<string> {
    const known = this.#refusedBy.get(spare) ?? new Set();
    this.#refusedBy.set(spare, known);
    return known;
  }

  #report(
    severity: "info" | "error",
    kind: string,
    group: string,
    member: DiskDescription,
    spare: LabelledDisk,
    what: string,
    error?: unknown,
  ): void {
    const sentence = `group ${group}: spare disk #${pad(spare.number)} ${what} disk #${pad(member.number)}`;
    this.parts.events.add({
      ...{ severity, kind, what: error === undefined ? sentence : `${sentence}: ${messageOf(error)}` },
      detail: { group, disk: member.number, spare: spare.number },
    });
  }
}

function isAway(state: DiskDescription["state"]): boolean {
  return state === "missing" || state === "stale";
}

/** Spares that are large enough, the smallest first. */
function sparesFor(members: readonly DiskDescription[], labelled: readonly LabelledDisk[]): LabelledDisk[] {
  const least = Math.min(...members.map(({ sizeBytes }) => sizeBytes));
  return bySize(labelled.filter(({ spare, device }) => spare === true && device.sizeBytes >= least));
}

export function bySize(disks: readonly LabelledDisk[]): LabelledDisk[] {
  return [...disks].sort((a, b) => a.device.sizeBytes - b.device.sizeBytes || a.number - b.number);
}
