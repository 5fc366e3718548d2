import { assert, must } from "../lib/assert.js";
import type { MemberIndex } from "../lib/units.js";
import type { LabelLu } from "./label.js";
import type { GroupShape } from "./layout.js";
import { rowsStart } from "./layout.js";

/** A run of adjacent rows. */
export interface RowRun {
  readonly first: number;
  readonly count: number;
}

/**
 * Maps the member space of one LU (its rows put together, bytes from 0) to bytes on a member. The same on every member.
 * Runs are few (one, unless LUs came and went), so a search from the last hit is as good as any.
 */
export class RowMap {
  byteCount = 0;
  readonly #starts: number[] = [];
  readonly #ends: number[] = [];
  readonly #shifts: number[] = [];

  constructor(shape: GroupShape, runs: readonly RowRun[]) {
    this.replace(shape, runs);
  }

  /** The LU has other rows at its end now; those that it keeps are where they were. Seen at once by everybody who holds the map. */
  replace(shape: GroupShape, runs: readonly RowRun[]): void {
    for (const list of [this.#starts, this.#ends, this.#shifts]) list.length = 0;
    let at = 0;
    for (const run of runs) {
      this.#starts.push(at);
      this.#shifts.push(rowsStart(shape) + run.first * shape.rowBytes - at);
      at += run.count * shape.rowBytes;
      this.#ends.push(at);
    }
    this.byteCount = at;
  }

  /** @param inLu byte in the LU's member space @returns byte on the member */
  memberByte(inLu: number): number {
    return inLu + must(this.#shifts[this.#runOf(inLu)], "a run has a shift");
  }

  #runOf(inLu: number): number {
    assert(inLu >= 0 && inLu < this.byteCount, "the byte is inside the LU's rows");
    for (let i = 0; ; i++) if (inLu < this.#ends[i]!) return i;
  }

  /** Where the LU's rows touch [from, to) of the member, as ranges of the LU's member space. */
  overlaps(from: number, to: number): Array<{ from: number; to: number }> {
    const found: Array<{ from: number; to: number }> = [];
    for (let i = 0; i < this.#starts.length; i++) {
      const low = Math.max(this.#starts[i]!, from - this.#shifts[i]!);
      const high = Math.min(this.#ends[i]!, to - this.#shifts[i]!);
      if (low < high) found.push({ from: low, to: high });
    }
    return found;
  }
}

/**
 * RAID-5, left-symmetric (mdadm(8) --layout=left-symmetric, md's default) over runs of stripes: parity moves to the member before with every
 * `parityRun` stripes, and with 1 as md's. Stripe s is chunk row s. The stripes of a run lie next to each other on every member.
 */
export class Raid5Geometry {
  readonly dataMembers: number;
  readonly stripeBytes: number;

  constructor(
    readonly members: number,
    readonly chunkBytes: number,
    readonly parityRun: number,
    readonly rows: RowMap,
  ) {
    assert(members >= 3, "RAID-5 needs three members");
    assert(Number.isInteger(parityRun) && parityRun >= 1, "a run has whole stripes");
    this.dataMembers = members - 1;
    this.stripeBytes = this.dataMembers * chunkBytes;
  }

  get stripeCount(): number {
    return this.rows.byteCount / this.chunkBytes;
  }

  get capacityBytes(): number {
    return this.stripeCount * this.stripeBytes;
  }

  parityMember(stripe: number): MemberIndex {
    return (this.members - 1 - (Math.floor(stripe / this.parityRun) % this.members)) as MemberIndex;
  }

  /** The member that holds data chunk `index` (0 to dataMembers-1) of a stripe. */
  dataMember(stripe: number, index: number): MemberIndex {
    return ((this.parityMember(stripe) + 1 + index) % this.members) as MemberIndex;
  }

  /** Which data chunk of a stripe a member holds; -1: its parity. */
  dataChunk(stripe: number, member: number): number {
    return ((member - this.parityMember(stripe) + this.members) % this.members) - 1;
  }

  /** Byte on every member where the stripe's chunks begin. */
  memberByte(stripe: number): number {
    return this.rows.memberByte(stripe * this.chunkBytes);
  }
}

/** Where the two copies of a chunk lie. */
export interface CopyPlace {
  member: MemberIndex;
  /** Byte in the LU's member space where the chunk begins. */
  inLu: number;
}

/**
 * RAID-1, two copies. Two members: a plain mirror. More: chained (as md raid10, layout offset=2): a stripe of n chunks takes two chunk
 * rows; chunk c lies on member c mod n in the first and on member (c+1) mod n in the second. Rows are whole pairs of chunk
 * rows (layout.ts), so nothing is left over, and a row of n members holds n/2 rows of data, for odd n too.
 */
export class Raid1Geometry {
  constructor(
    readonly members: number,
    readonly chunkBytes: number,
    readonly rows: RowMap,
  ) {
    assert(members >= 2, "RAID-1 needs two members");
  }

  get chunkCount(): number {
    const chunkRows = this.rows.byteCount / this.chunkBytes;
    return this.members === 2 ? chunkRows : (chunkRows / 2) * this.members;
  }

  get capacityBytes(): number {
    return this.chunkCount * this.chunkBytes;
  }

  /** @param copy 0 or 1 @param out overwritten */
  locate(chunk: number, copy: number, out: CopyPlace): void {
    assert(chunk >= 0 && chunk < this.chunkCount, "the chunk is inside the LU");
    const stripe = Math.floor(chunk / this.members);
    if (this.members === 2) {
      out.member = copy as MemberIndex;
      out.inLu = chunk * this.chunkBytes;
      return;
    }
    out.member = ((chunk + copy) % this.members) as MemberIndex;
    out.inLu = (2 * stripe + copy) * this.chunkBytes;
  }

  place(chunk: number, copy: number): CopyPlace {
    const out = { member: 0 as MemberIndex, inLu: 0 };
    this.locate(chunk, copy, out);
    return out;
  }

  /** What a member holds in the chunk row that begins at `inLu`: the inverse of `locate`. */
  chunkAt(member: number, inLu: number): { chunk: number; copy: number } {
    const row = inLu / this.chunkBytes;
    if (this.members === 2) return { chunk: row, copy: member };
    const copy = row % 2;
    const inStripe = (member - copy + this.members) % this.members;
    return { chunk: Math.floor(row / 2) * this.members + inStripe, copy };
  }

  /** The chunks whose first copy begins in [from, to) of the LU's member space; both multiples of a pair of chunk rows. */
  chunksIn(from: number, to: number): { first: number; end: number } {
    const perPair = this.members === 2 ? 2 : this.members;
    const pairBytes = 2 * this.chunkBytes;
    return { first: Math.floor(from / pairBytes) * perPair, end: Math.ceil(to / pairBytes) * perPair };
  }
}

/** Where the block of an LU at byte `at` is on the members: one place of RAID-5, two of RAID-1. While it is being spread anew: none is known. */
export function placesOf(
  { level, width, moving }: Pick<LabelLu, "level" | "width" | "moving">,
  chunkBytes: number,
  parityRun: number,
  rows: RowMap,
  at: number,
): { slot: number; position: number }[] {
  const inChunk = at % chunkBytes;
  if (level === 1) {
    const geometry = new Raid1Geometry(width, chunkBytes, rows);
    return [0, 1].map((copy) => {
      const { member, inLu } = geometry.place(Math.floor(at / chunkBytes), copy);
      return { slot: member, position: rows.memberByte(inLu) + inChunk };
    });
  }
  if (moving !== undefined) return [];
  const geometry = new Raid5Geometry(width, chunkBytes, parityRun, rows);
  const stripe = Math.floor(at / geometry.stripeBytes);
  const chunk = Math.floor((at % geometry.stripeBytes) / chunkBytes);
  return [{ slot: geometry.dataMember(stripe, chunk), position: geometry.memberByte(stripe) + inChunk }];
}
