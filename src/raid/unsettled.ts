/** Parity in records that stay in the journal after a replay: the next one puts it in place again. */
export interface JournaledParity {
  /** By block of the members: up to which record the newest parity of the column counts. */
  readonly upToSeq: ReadonlyMap<number, number>;
  /** There is a newer one, in record `seq`: whoever writes the stripe as a whole has to revoke that, too. */
  noted(memberBlock: number, seq: number): void;
}

/**
 * Regions in which copies and parity may disagree since an unclean stop. A part of a region that has been made consistent since (a band, or the two
 * copies of one) counts as settled at once, the rest when the region is done. Nothing becomes unsettled again in the same life, so whoever has found
 * a place settled needs not look twice.
 */
export class UnsettledRegions {
  readonly #rowsStart: number;
  readonly #regionBytes: number;
  /** By region: the parts of it that are settled. */
  readonly #regions = new Map<number, Set<number>>();
  /** null: there is none. */
  journaled: JournaledParity | null = null;

  /** @param rowsStart  byte on a member where rows begin @param regionBytes  of each member, as the write-intent bitmap has them */
  constructor(rowsStart: number, regionBytes: number) {
    this.#rowsStart = rowsStart;
    this.#regionBytes = regionBytes;
  }

  /** Once, before anything is read. */
  begin(regions: readonly number[]): void {
    for (const region of regions) this.#regions.set(region, new Set());
  }

  /** Whether there are any: asked by every read. */
  get any(): boolean {
    return this.#regions.size > 0;
  }

  has(region: number): boolean {
    return this.#regions.has(region);
  }

  #partsAt(position: number): Set<number> | undefined {
    return this.#regions.get(Math.floor((position - this.#rowsStart) / this.#regionBytes));
  }

  /**
   * @param position  byte on the members where the part begins; a multiple of a block
   * @param slot      RAID-1: the member that holds the first copy. RAID-5: 0
   */
  isSettled(position: number, slot: number): boolean {
    const parts = this.#partsAt(position);
    return parts === undefined || parts.has(position + slot);
  }

  /** Copies or parity agree there, and that is durable. @param position, slot  as above */
  settled(position: number, slot: number): void {
    this.#partsAt(position)?.add(position + slot);
  }

  /** All of a region is settled. */
  done(region: number): void {
    this.#regions.delete(region);
  }
}
