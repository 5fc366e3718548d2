import { namesCurrent, type PartitionHeader } from "./header.js";

/** What the headers that can be read say together. */
export interface Standing {
  /** The header to believe; null when no copy has a sound one. */
  readonly newest: PartitionHeader | null;
  /** Slots of the copies that have everything that was acknowledged, ascending; the first of them is read. */
  readonly current: readonly number[];
  /** Slots of two copies that were each written without the other since they parted; null when there are none. */
  readonly split: readonly [number, number] | null;
  /** The highest of all headers. */
  readonly sequence: number;
  readonly generation: number;
  readonly epoch: number;
}

/**
 * Decide from the headers which copies may be read. Slots without a readable header are null.
 *
 * The newest (epoch, then generation) counts. A copy with a lower generation missed writes, and so did one that the newest does not name. One
 * that lies behind although it is whole, because the power failed between the headers of two copies, is brought up to date as well: that
 * costs a copy and never a byte.
 */
export function standingOf(headers: readonly (PartitionHeader | null)[]): Standing {
  const sound = headers.filter((header) => header !== null);
  const newest = sound.reduce<PartitionHeader | null>(newerOf, null);
  const highest = (of: (header: PartitionHeader) => number) => sound.reduce((most, one) => Math.max(most, of(one)), 0);
  const rest = {
    sequence: highest(({ sequence }) => sequence),
    generation: highest(({ generation }) => generation),
    epoch: highest(({ epoch }) => epoch),
  };
  if (newest === null) return { newest, current: [], split: null, ...rest };
  const agreeing = sound.filter((header) => agrees(header, newest));
  const current = agreeing.map(({ copy }) => copy);
  return { newest, current, split: findSplit(agreeing, sound), ...rest };
}

function findSplit(current: readonly PartitionHeader[], sound: readonly PartitionHeader[]): Standing["split"] {
  for (const one of current) {
    const rival = sound.find((other) => excludeEachOther(one, other));
    if (rival !== undefined) return [one.copy, rival.copy];
  }
  return null;
}

function newerOf(a: PartitionHeader | null, b: PartitionHeader): PartitionHeader {
  if (a === null) return b;
  const order = b.epoch - a.epoch || b.generation - a.generation || b.sequence - a.sequence;
  return order > 0 ? b : a;
}

function agrees(header: PartitionHeader, newest: PartitionHeader): boolean {
  const same = header.epoch === newest.epoch && header.generation === newest.generation;
  return same && namesCurrent(newest, header.copy) && namesCurrent(header, header.copy);
}

/** A copy that is being brought up to date does not name itself: nobody went on with it. */
function excludeEachOther(a: PartitionHeader, b: PartitionHeader): boolean {
  return namesCurrent(a, a.copy) && !namesCurrent(a, b.copy) && namesCurrent(b, b.copy) && !namesCurrent(b, a.copy);
}
