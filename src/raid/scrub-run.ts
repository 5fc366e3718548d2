import { isStorageError, StorageError } from "../lib/errors.js";
import { allSettledOrThrow } from "../lib/mutex.js";
import { BLOCK_BYTES, roundDown } from "../lib/units.js";
import type { BlockInspector } from "./contract.js";
import type { Member } from "./member.js";

/**
 * checksum: the owner of a block knows better. parity, copy: redundancy disagrees. unreadable: the disk refuses. label: an end of a
 * disk without a sound label.
 */
export type FaultKind = "checksum" | "parity" | "copy" | "unreadable" | "label";

/** A place that a scrub found wrong, and what became of it. */
export interface ScrubFault {
  readonly member: Member;
  /** Byte on the member. */
  readonly position: number;
  /** Byte of the LU; of parity, that of the first data block it stands for. null: in no LU. */
  readonly at: number | null;
  readonly what: FaultKind;
  /** For people. */
  readonly done: string;
  readonly healed: boolean;
  /** It is sure that this member held what nobody wrote there; otherwise it may have been another. */
  readonly proven: boolean;
  /** A block of the LU that nothing can prove any more. */
  readonly lost: boolean;
}

/** One step of a scrub, as an array sees it. */
export interface ScrubRun {
  readonly inspector: BlockInspector | null;
  readonly heal: boolean;
  readonly memory: ScrubMemory;
  /** Called while the rows are locked: takes note, and does nothing else. */
  report(fault: ScrubFault): void;
}

/** Slices that one step takes: the next one is read while one is compared, and clients' writes wait for the step at most. */
const SLICES_PER_STEP = 4;

/** The same range of an LU's member space on all its members, in memory. */
export class Slice {
  /** Byte of the member space. */
  from = 0;
  byteCount = 0;
  /** Per member: bytes in the slice where blocks begin that could not be read; they are zero in `parts`. */
  readonly unreadable: ReadonlyArray<Set<number>>;

  constructor(readonly parts: readonly Buffer[]) {
    this.unreadable = parts.map(() => new Set<number>());
  }

  /** @throws StorageError when a member is not online (any more) */
  async read(members: readonly Member[], position: number, from: number, byteCount: number): Promise<this> {
    this.from = from;
    this.byteCount = byteCount;
    await allSettledOrThrow(
      this.parts.map((part, slot) => this.#readMember(members[slot]!, part.subarray(0, byteCount), position)),
    );
    return this;
  }

  async #readMember(member: Member, target: Buffer, position: number): Promise<void> {
    const unreadable = this.unreadable[member.slot]!;
    unreadable.clear();
    if (await tryRead(member, target, position)) return;
    for (let at = 0; at < target.length; at += BLOCK_BYTES) {
      const block = target.subarray(at, at + BLOCK_BYTES);
      if (await tryRead(member, block, position + at)) continue;
      block.fill(0);
      unreadable.add(at);
    }
  }
}

/** @returns false when this place cannot be read @throws StorageError when the member is not online (any more) */
export async function tryRead(member: Member, target: Buffer, position: number): Promise<boolean> {
  try {
    await member.readv([target], position);
    return true;
  } catch (error) {
    if (!isStorageError(error) || !member.online) throw error;
    return false;
  }
}

/**
 * The workspace, cut for an LU of so many members: two slices, one read while the other is compared, and a spare part of at least two
 * bands. When chunks are too large for that, one slice.
 */
export class ScrubMemory {
  /** Whole pairs of chunk rows. */
  readonly sliceBytes: number;
  readonly spare: Buffer;
  readonly #slices: readonly Slice[];

  /** @throws StorageError ENOSPC when not even one slice fits (a group that grew since it was assembled) */
  constructor(memory: Buffer, width: number, chunkBytes: number) {
    const ahead = roundDown(memory.length / (2 * width + 1), 2 * chunkBytes);
    this.sliceBytes = ahead > 0 ? ahead : roundDown(memory.length / (width + 1), 2 * chunkBytes);
    if (this.sliceBytes === 0) throw new StorageError("ENOSPC", "no memory for a scrub until the group is opened anew");
    const part = (i: number): Buffer => memory.subarray(i * this.sliceBytes, (i + 1) * this.sliceBytes);
    this.spare = part(0);
    this.#slices = Array.from({ length: ahead > 0 ? 2 : 1 }, (_, turn) => {
      return new Slice(Array.from({ length: width }, (__, slot) => part(1 + turn * width + slot)));
    });
  }

  get stepBytes(): number {
    return SLICES_PER_STEP * this.sliceBytes;
  }

  /**
   * Visit [from, to) of the member space in slices.
   * @param position  byte on every member where `from` lies; the range lies in one piece there
   * @throws StorageError as Slice.read
   */
  async each(
    members: readonly Member[],
    position: number,
    from: number,
    to: number,
    visit: (slice: Slice) => Promise<void>,
  ): Promise<void> {
    const read = (at: number, turn: number): Promise<Slice> => {
      const slice = this.#slices[turn % this.#slices.length]!;
      return slice.read(members, position + at - from, at, Math.min(this.sliceBytes, to - at));
    };
    let ahead: Promise<Slice> | null = null;
    for (let at = from, turn = 0; at < to; at += this.sliceBytes, turn++) {
      const slice: Slice = await (ahead ?? read(at, turn));
      ahead = this.#slices.length > 1 && at + this.sliceBytes < to ? read(at + this.sliceBytes, turn + 1) : null;
      // Its error is thrown in its turn; until then nobody waits for it.
      ahead?.catch(() => {});
      try {
        await visit(slice);
      } catch (error) {
        await ahead?.catch(() => {});
        throw error;
      }
    }
  }
}
