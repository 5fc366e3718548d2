import type { BlockDevice } from "../device/device.js";
import { BitSet } from "../lib/bit-set.js";
import { StorageError } from "../lib/errors.js";
import { BLOCK_BYTES } from "../lib/units.js";
import type { DiskLabel, LastLabel } from "./label.js";

/** Blocks that one page of a set has bits for: 4 KiB of memory, 128 MiB of a member. */
const PAGE_BLOCKS = 32 * 1024;

/** A set of blocks of a member. Memory only where there are any. */
class BlockSet {
  readonly #pages = new Map<number, BitSet>();

  has(block: number): boolean {
    return this.#pages.get(Math.floor(block / PAGE_BLOCKS))?.has(block % PAGE_BLOCKS) ?? false;
  }

  add(block: number): void {
    const number = Math.floor(block / PAGE_BLOCKS);
    const page = this.#pages.get(number) ?? new BitSet(PAGE_BLOCKS);
    this.#pages.set(number, page);
    page.add(block % PAGE_BLOCKS);
  }
}

/** Nobody has used the disk since: its label stands as it was left. */
export function isAsLeft(labels: readonly LastLabel[], label: DiskLabel): boolean {
  return labels.some(
    ({ generation, sequence }) => label.sequence === sequence && label.group?.generation === generation,
  );
}

/** Of bytes of the member, on the successor. */
export interface SuccessorWrite {
  readonly position: number;
  readonly byteCount: number;
}

export interface FormerOptions {
  readonly uuid: string;
  /** Of the old disk. */
  readonly number: number;
  /** As Member.lastLabels; one that was being written when it left counts, too. None: nothing is known of how it left, and no disk is believed. */
  readonly labels: () => readonly LastLabel[];
  /** null: it is not here; it may be lent later. */
  readonly device: BlockDevice | null;
  /** Regions that may have been written between its leaving and its successor's coming; after a restart, since it left. */
  readonly stale: ReadonlySet<number>;
  /** So many regions its successor had when this life began, but for stale ones. */
  readonly builtRegions: number;
  /** Bytes of the member where lost blocks stood when it left: fillers. */
  readonly fillers: ReadonlySet<number>;
  /** Bytes of the member where it is not to be believed at all. */
  readonly doubtful: ReadonlySet<number>;
  readonly rowsStart: number;
  readonly regionBytes: number;
}

/**
 * The disk that had a member's place before, as a source of what its successor lacks: whatever has not been written since it left is as good there as
 * anywhere (docs/decisions/0027-unreadable-is-not-lost.md). It is never written.
 */
export class Former {
  readonly uuid: string;
  readonly number: number;
  readonly labels: () => readonly LastLabel[];
  device: BlockDevice | null;
  readonly #options: FormerOptions;
  /** Written since on the successor, or being written. */
  readonly #outdated = new BlockSet();
  /** As good on the successor as they will ever be. */
  readonly #there = new BlockSet();
  readonly #writes = new Set<SuccessorWrite>();
  /** Whoever reads what is just being written. */
  readonly #waiting: (() => void)[] = [];

  constructor(options: FormerOptions) {
    this.#options = options;
    this.uuid = options.uuid;
    this.number = options.number;
    this.labels = options.labels;
    this.device = options.device;
  }

  /** It has everything that its successor has not. */
  get whole(): boolean {
    const { stale, doubtful } = this.#options;
    return this.device !== null && stale.size === 0 && doubtful.size === 0;
  }

  /** @param position  byte on the member; what lies before the rows is not looked at */
  begin(position: number, byteCount: number): SuccessorWrite {
    for (let at = position; at < position + byteCount; at += BLOCK_BYTES) this.#outdated.add(at / BLOCK_BYTES);
    const write = { position, byteCount };
    this.#writes.add(write);
    return write;
  }

  /** @param isThere  it is on the successor */
  end(write: SuccessorWrite, isThere: boolean): void {
    const { position, byteCount } = write;
    this.#writes.delete(write);
    if (isThere) {
      for (let at = position; at < position + byteCount; at += BLOCK_BYTES) this.#there.add(at / BLOCK_BYTES);
    }
    for (const resolve of this.#waiting.splice(0)) resolve();
  }

  /** What a block of the member should hold, from whichever of the two has it. @throws StorageError EIO when neither has */
  async readBlock(target: Buffer, position: number, successor: BlockDevice): Promise<void> {
    let device = this.#sourceOf(position, successor);
    // The successor has it in a moment.
    while (device === null && this.#isBeingWritten(position)) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
      device = this.#sourceOf(position, successor);
    }
    if (device === null)
      throw new StorageError("EIO", "the disk that was here before does not have this block", { position });
    await device.read(target, position);
  }

  /** What stood in a block that is lost or unread now, from the old disk alone. @throws StorageError EIO */
  async readOld(target: Buffer, position: number): Promise<void> {
    const { stale, builtRegions, fillers } = this.#options;
    const region = this.#regionOf(position);
    if (this.device === null || stale.has(region) || region < builtRegions || fillers.has(position))
      throw new StorageError("EIO", "the old disk does not have this block", { position });
    await this.device.read(target, position);
  }

  #isBeingWritten(position: number): boolean {
    for (const write of this.#writes) {
      if (position >= write.position && position < write.position + write.byteCount) return true;
    }
    return false;
  }

  #regionOf(position: number): number {
    return Math.floor((position - this.#options.rowsStart) / this.#options.regionBytes);
  }

  #sourceOf(position: number, successor: BlockDevice): BlockDevice | null {
    const { rowsStart, stale, builtRegions, doubtful } = this.#options;
    const block = position / BLOCK_BYTES;
    if (this.#there.has(block)) return successor;
    if (position < rowsStart || this.#outdated.has(block)) return null;
    const region = this.#regionOf(position);
    if (stale.has(region)) return null;
    if (region < builtRegions) return successor;
    return doubtful.has(position) ? null : this.device;
  }

  /** @returns its device, which is the caller's from here on */
  letGo(): BlockDevice | null {
    const { device } = this;
    this.device = null;
    return device;
  }
}
