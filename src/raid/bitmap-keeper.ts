import type { CancelTimer } from "../lib/clock.js";
import { messageOf } from "../lib/errors.js";
import type { GroupCore } from "./core.js";
import type { LabelKeeper } from "./label-keeper.js";
import type { Membership } from "./membership.js";
import type { Roster } from "./roster.js";

/** How often write-intent bits are looked through for regions that nobody writes any more. */
const PERIOD_MS = 5000;

/** What the keeper asks of the group; group.ts. */
export interface BitmapSide {
  readonly core: GroupCore;
  readonly roster: Roster;
  readonly labels: LabelKeeper;
  readonly membership: Membership;
  /** Neither failed nor closed. */
  readonly alive: boolean;
}

/**
 * Clears write-intent bits lazily: of regions that nobody has written for a while, that are settled, and that no member lacks. And raises the generation
 * while the group is written, before it clears any: so what a disk lacks that was put back as it was some seconds ago is marked still, and one
 * of before is known by its label.
 */
export class BitmapKeeper {
  readonly #group: BitmapSide;
  #timer: CancelTimer | null = null;
  /** Writes to members, when the generation was raised last. */
  #stampedAt = 0;

  constructor(group: BitmapSide) {
    this.#group = group;
  }

  /** From the first write of this life on. */
  start(): void {
    const { core } = this.#group;
    if (!this.#group.alive) return;
    this.#timer = core.clock.after(PERIOD_MS, () => {
      this.#tend()
        .catch((error: unknown) => core.log.warn({ group: core.name, error: messageOf(error) }, "bitmap not cleared"))
        .finally(() => this.start());
    });
  }

  /** While a member is away the bits are kept: they tell what it missed. */
  async #tend(): Promise<void> {
    const { core, roster, labels, membership } = this.#group;
    const wholeTo = membership.wholeUpTo();
    const idle = core.bitmap.idleRegions().filter((region) => region < wholeTo && !core.unsettled.has(region));
    const writes = core.members.reduce((sum, { writeCount }) => sum + writeCount, 0);
    if (!this.#group.alive || (idle.length === 0 && writes === this.#stampedAt)) return;
    const lost = roster.lostCount;
    if (idle.length > 0) await Promise.all(core.members.map((member) => member.flush(false)));
    this.#stampedAt = writes;
    await labels.stamp();
    if (idle.length > 0 && roster.lostCount <= lost && membership.wholeUpTo() >= wholeTo) await core.bitmap.clear(idle);
  }

  /** At a clean stop, when everything is in place and flushed: what is left is what a member that is away missed, and what is not settled. */
  async clearAll(): Promise<void> {
    const { bitmap, unsettled } = this.#group.core;
    if (this.#group.roster.degraded) return;
    const settled = bitmap.marked().filter((region) => !unsettled.has(region));
    await bitmap.clear(settled, true);
  }

  close(): void {
    this.#timer?.();
    this.#timer = null;
  }
}
