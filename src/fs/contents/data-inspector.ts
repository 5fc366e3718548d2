import { BLOCK_BYTES, type LuByte } from "../../lib/units.js";
import type { KnownChecksums } from "../../lu/checksum-inspector.js";
import type { PageStore } from "../../pagestore/contract.js";
import { BlockIndex, type BlockOwner, type BlockWatcher, bucketBlocksOf } from "./block-index.js";
import { ExtentWalk } from "./extent-walk.js";
import type { GroupTable } from "./group-table.js";
import { GROUP_BLOCKS } from "./limits.js";
import type { SpaceMap } from "./space-map.js";

/** Who knows what files are called. */
export interface FileLabels {
  /** `/dir/file (block 17)`. */
  labelOf(ino: number, block: number): Promise<string>;
}

export interface DataInspectorParts {
  readonly store: PageStore;
  readonly table: GroupTable;
  readonly space: SpaceMap;
  /** The list that table and space tell. */
  readonly blockWatchers: BlockWatcher[];
  readonly labels: FileLabels;
  /** Where there is room for a table of the blocks' owners: 4.3 bytes a block for files that lie in order, 24 at worst. */
  readonly folder: string;
  readonly onClose: () => void;
}

/**
 * What the extents say of the blocks of the data LU, in the order of their addresses, while the file system serves.
 *
 * There is no map from addresses to files, and a commit should not pay for one. So the first `prepare` goes once over all extent rows
 * (12 microseconds each: 50 s of work for a full TiB, in pieces of 1.5 ms) and sorts what they say by address into a file, a bucket
 * for each GiB; each `prepare` then reads its bucket. All of it together is linear in the number of blocks, and memory does not
 * depend on it: 4 MiB, and two buckets (BlockIndex).
 *
 * A block counts as owned from the moment at which a row maps it until it is free for another use, which is longer than the file
 * has it. A block that was freed stays as it is until the commit that freed it is durable, because after a crash it would be the file's
 * again, and until the reads have ended that began before; so until then its old checksum is the one that must match. A block that a
 * write-back is about to fill is nobody's until it is mapped. What waits in the cache or in the intent log is no matter here: its block
 * on the LU is still what the row says.
 */
export class DataInspector implements KnownChecksums {
  readonly #parts: DataInspectorParts;
  readonly #walk: ExtentWalk;
  #index: BlockIndex | null = null;
  #filling: Promise<void> | null = null;
  #lastOwner: BlockOwner | null = null;
  #ended = false;

  constructor(parts: DataInspectorParts) {
    this.#parts = parts;
    this.#walk = new ExtentWalk(parts.store.db, parts.table);
  }

  get sliceBytes(): number {
    return bucketBlocksOf(this.#parts.space.geometry.blockCount) * BLOCK_BYTES;
  }

  /** @throws StorageError EIO, and what the folder of the table answers. After the file system was closed nothing is known, and nothing fails. */
  async prepare(from: LuByte, to: LuByte): Promise<void> {
    if (this.#ended) return;
    const first = Math.floor(from / BLOCK_BYTES);
    const index = await this.#indexFrom(first);
    await index?.load(first, Math.ceil(to / BLOCK_BYTES));
  }

  checksumOf(block: number): number {
    return this.#index?.checksumOf(block) ?? -1;
  }

  writtenSince(block: number): boolean {
    return this.#index?.isFresh(block) === true;
  }

  async nameOf(block: number): Promise<string | null> {
    if (this.#ended) return null;
    const owner = this.#neighbour(block) ?? (await this.#find(block));
    if (owner === null) return null;
    const slot = this.#walk.slotOf(owner.ino, owner.group, block);
    if (slot < 0) return null;
    this.#lastOwner = owner;
    return await this.#parts.labels.labelOf(owner.ino, owner.group * GROUP_BLOCKS + slot);
  }

  close(): void {
    this.#drop();
    this.#parts.onClose();
  }

  /** The file system is being closed: nobody keeps the index true from here on. */
  end(): void {
    this.#ended = true;
    this.#drop();
  }

  #drop(): void {
    const index = this.#index;
    this.#index = null;
    this.#filling = null;
    if (index === null) return;
    const { blockWatchers } = this.#parts;
    blockWatchers.splice(blockWatchers.indexOf(index), 1);
    index.close();
  }

  async #indexFrom(block: number): Promise<BlockIndex | null> {
    if (this.#index !== null && block < this.#index.from) this.#drop();
    if (this.#index === null) {
      const { folder, space, blockWatchers } = this.#parts;
      const index = new BlockIndex(folder, space.geometry.blockCount, block);
      this.#index = index;
      blockWatchers.push(index);
      this.#filling = this.#fill(index);
    }
    await this.#filling;
    return this.#index;
  }

  async #fill(index: BlockIndex): Promise<void> {
    try {
      // What was freed before we began to watch is not wanted after a crash from here on. A store that has failed frees nothing any more.
      await this.#parts.store.durable().catch(() => {});
      await this.#walk.run((ino, group, map) => {
        for (let slot = 0; slot < GROUP_BLOCKS; slot++) {
          if (map.addresses[slot]! >= 0) index.note(ino, group, map.addresses[slot]!, map.crcs[slot]!);
        }
        return this.#index !== index;
      });
      index.filling = false;
    } catch (error) {
      if (this.#index === index) this.#drop();
      throw error;
    }
  }

  /** Bad blocks come in rows: the next one is often of the same file. */
  #neighbour(block: number): BlockOwner | null {
    if (this.#lastOwner === null) return null;
    const { ino, group } = this.#lastOwner;
    for (const near of [group, group + 1]) {
      if (this.#walk.slotOf(ino, near, block) >= 0) return { ino, group: near };
    }
    return null;
  }

  /** From the index; without one, or before its start, from all rows. */
  async #find(block: number): Promise<BlockOwner | null> {
    await this.#filling;
    if (this.#index !== null && block >= this.#index.from) return await this.#index.ownerOf(block);
    const found: { owner: BlockOwner | null } = { owner: null };
    await this.#walk.run((ino, group, map) => {
      if (!map.addresses.includes(block)) return false;
      found.owner = { ino, group };
      return true;
    });
    return found.owner;
  }
}
