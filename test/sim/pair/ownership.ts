import { LAYOUT } from "../../../src/raid/layout.js";

/** A group in the hands of one process, under one epoch. */
export interface Holding {
  readonly node: string;
  /** Of the process. */
  readonly life: number;
  readonly epoch: number;
}

/** Who owns the group, as the disks see it: nothing of an earlier owner may take effect once a later one has its lease (I-6). */
export class Ownership {
  current: Holding | null = null;
  /** How often the group went to another process. */
  takeovers = 0;

  /** A process has its lease and is about to read what the one before left. */
  take(holding: Holding): void {
    const before = this.current;
    if (before !== null && holding.epoch <= before.epoch) {
      throw new Error(`${told(holding)} opens the group, and ${told(before)} had it already`);
    }
    if (before !== null) this.takeovers++;
    this.current = holding;
  }

  /** A write takes effect on a disk. @param holding  under which it was asked for; null: without the group */
  written(holding: Holding | null, disk: number, position: number): void {
    if (position >= LAYOUT.reserved && position < LAYOUT.bitmapSlot0) return;
    const where = `disk ${disk} at ${position}`;
    if (holding === null) throw new Error(`${where} is written by a process that does not have the group`);
    const { current } = this;
    if (current === null || current === holding) return;
    throw new Error(`${where}: a write of ${told(holding)} takes effect, and ${told(current)} has the group`);
  }
}

function told({ node, life, epoch }: Holding): string {
  return `${node} (life ${life}, epoch ${epoch})`;
}
