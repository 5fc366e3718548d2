import { StorageError } from "../lib/errors.js";
import { BLOCK_BYTES } from "../lib/units.js";
import { LOST_BLOCKS_MAX, MEMBERS_MAX } from "./limits.js";

/**
 * What is the matter with a block of an LU (docs/format/label.md).
 * lost: nothing has its content any more; what stands on its member counts in the parity as it stands there, or is the same in both copies.
 * unread: RAID-5. Its member could not be read there, and was not written either; the parity of its column counts it as zeros. To read it is
 * to ask its member again, and nothing else proves it.
 * derived: RAID-5. Given up while another block of its column was unread: what stands there is the XOR of all that could be read, so that it can
 * be computed when the unread one turns up.
 * first, second: RAID-1. Given up while this copy could not be read, which was not written; the other copy is only a filler.
 */
export const LOST_KINDS = ["lost", "unread", "derived", "first", "second"] as const;
export type LostKind = (typeof LOST_KINDS)[number];

/** A block of an LU whose content is lost, or only where it cannot be read now. */
export interface LostBlock {
  readonly lu: number;
  /** 4096 bytes each, from the start of the LU. */
  readonly block: number;
  /** Absent: lost. */
  readonly kind?: LostKind;
}

/** A block on a member. */
export interface BlockOnMember {
  readonly slot: number;
  /** Byte on the member. */
  readonly position: number;
}

/** @returns where the block, or each copy of it, is; empty when the LU is not there any more */
export type LocateBlock = (lu: number, block: number) => readonly BlockOnMember[];

/**
 * Blocks that redundancy cannot prove. To read one is EIO (I-3), but for one that is only unread, which its member may tell. They are taken back
 * when they are written, or when a source turns up (reexamine.ts). Kept on the labels.
 */
export class LostBlocks {
  readonly #byLu = new Map<number, Map<number, LostKind>>();
  readonly #locate: LocateBlock;
  /** Blocks on members that take no part in redundancy: those of unread blocks, and both copies of one given up. By `keyOf`. */
  readonly #apart = new Set<number>();
  #size = 0;
  #unread = 0;

  constructor(locate: LocateBlock = () => []) {
    this.#locate = locate;
  }

  /** What the labels say. */
  load(blocks: readonly LostBlock[]): void {
    for (const { lu, block, kind } of blocks) this.#put(lu, block, kind ?? "lost");
  }

  get size(): number {
    return this.#size;
  }

  /** Those that are only unread. */
  get unreadCount(): number {
    return this.#unread;
  }

  /** Where each of them is, or each of its copies. */
  places(): (BlockOnMember & { readonly kind: LostKind })[] {
    return this.list().flatMap(({ lu, block, kind = "lost" }) =>
      this.#locate(lu, block).map((place) => ({ ...place, kind })),
    );
  }

  /** Blocks that take no part in redundancy. */
  get anyApart(): boolean {
    return this.#apart.size > 0;
  }

  get full(): boolean {
    return this.#size >= LOST_BLOCKS_MAX;
  }

  list(): LostBlock[] {
    return [...this.#byLu].flatMap(([lu, blocks]) =>
      [...blocks].map(([block, kind]) => (kind === "lost" ? { lu, block } : { lu, block, kind })),
    );
  }

  kindOf(lu: number, block: number): LostKind | null {
    return this.#byLu.get(lu)?.get(block) ?? null;
  }

  #put(lu: number, block: number, kind: LostKind): void {
    this.#drop(lu, block);
    const blocks = this.#byLu.get(lu) ?? new Map<number, LostKind>();
    this.#byLu.set(lu, blocks);
    blocks.set(block, kind);
    this.#size++;
    if (kind === "unread") this.#unread++;
    if (isApart(kind)) for (const place of this.#locate(lu, block)) this.#apart.add(keyOf(place));
  }

  #drop(lu: number, block: number): boolean {
    const blocks = this.#byLu.get(lu);
    const kind = blocks?.get(block);
    if (blocks === undefined || kind === undefined) return false;
    blocks.delete(block);
    if (blocks.size === 0) this.#byLu.delete(lu);
    this.#size--;
    if (kind === "unread") this.#unread--;
    if (isApart(kind)) for (const place of this.#locate(lu, block)) this.#apart.delete(keyOf(place));
    return true;
  }

  /** @throws StorageError EIO when the labels have no room for all of them: then it is as it was */
  add(blocks: readonly Required<LostBlock>[]): void {
    const more = blocks.filter(({ lu, block }) => this.kindOf(lu, block) === null);
    if (this.#size + more.length > LOST_BLOCKS_MAX) {
      const text = `the labels have room for ${LOST_BLOCKS_MAX} blocks that are lost or unread: what else cannot be read is waited for`;
      throw new StorageError("EIO", text, { count: this.#size });
    }
    for (const { lu, block, kind } of blocks) this.#put(lu, block, kind);
  }

  /** Is a block of [at, at+byteCount) lost? One that is only unread is not. */
  touches(lu: number, at: number, byteCount: number): boolean {
    const blocks = this.#byLu.get(lu);
    if (blocks === undefined) return false;
    const first = at / BLOCK_BYTES;
    const end = (at + byteCount) / BLOCK_BYTES;
    for (const [block, kind] of blocks) if (block >= first && block < end && kind !== "unread") return true;
    return false;
  }

  /** Does a block of [position, position+byteCount) on any member take no part in redundancy? */
  apartWithin(position: number, byteCount: number): boolean {
    for (const key of this.#apart) {
      const at = Math.floor(key / MEMBERS_MAX) * BLOCK_BYTES;
      if (at >= position && at < position + byteCount) return true;
    }
    return false;
  }

  isApart(slot: number, position: number): boolean {
    return this.#apart.size > 0 && this.#apart.has(keyOf({ slot, position }));
  }

  /** They have new content. Those that are only unread stay: the parity does not count it yet. @returns whether one of them was lost */
  restore(lu: number, at: number, byteCount: number): boolean {
    const blocks = this.#byLu.get(lu);
    if (blocks === undefined) return false;
    let found = false;
    for (let block = at / BLOCK_BYTES; block < (at + byteCount) / BLOCK_BYTES; block++) {
      if (blocks.has(block) && blocks.get(block) !== "unread") found = this.#drop(lu, block) || found;
    }
    return found;
  }

  /** Its member and the parity agree again. @returns whether it was unread */
  readAgain(lu: number, block: number): boolean {
    return this.kindOf(lu, block) === "unread" && this.#drop(lu, block);
  }

  /** The LU is deleted, or ends there now; its rows are as they were still. */
  forget(lu: number, fromBlock = 0): void {
    for (const block of [...(this.#byLu.get(lu)?.keys() ?? [])]) if (block >= fromBlock) this.#drop(lu, block);
  }
}

function isApart(kind: LostKind): boolean {
  return kind === "unread" || kind === "first" || kind === "second";
}

/** Within 2^53: a member has fewer than 2^48 blocks. */
function keyOf({ slot, position }: BlockOnMember): number {
  return (position / BLOCK_BYTES) * MEMBERS_MAX + slot;
}
