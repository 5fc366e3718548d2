import { messageOf, StorageError } from "../lib/errors.js";
import { BLOCK_BYTES } from "../lib/units.js";
import type { GroupCore, RaidArray } from "./core.js";
import { placesOf, type RowMap } from "./geometry.js";
import type { LabelKeeper } from "./label-keeper.js";
import { type BlockOnMember, LostBlocks, type LostKind } from "./lost-blocks.js";
import type { LuTable } from "./lu-table.js";
import type { Member } from "./member.js";
import type { Membership } from "./membership.js";
import { Reexaminer } from "./reexaminer.js";
import type { ResyncWork } from "./resync-work.js";

/** A block of an LU that cannot be read, or be proven. */
export interface Loss {
  readonly lu: number;
  /** Byte of the LU. */
  readonly at: number;
  /** Who could not read its part, at `position`. */
  readonly member: Member;
  readonly position: number;
  readonly kind: LostKind;
}

/** What this asks of the group; group.ts. */
export interface LossesSide extends GroupCore {
  readonly labels: LabelKeeper;
  readonly lus: LuTable;
  readonly membership: Membership;
  array(number: number): RaidArray;
  rowMap(number: number): RowMap;
}

/**
 * What a group cannot read: blocks that are lost, blocks that take no part in redundancy meanwhile, and work that waits (I-2a). What is waited for is
 * given up only when a person says so; what is given up is looked for again and again.
 */
export class Losses {
  readonly lost: LostBlocks;
  /** The resync of this life, if there is one. */
  resync: ResyncWork | null = null;
  readonly #group: LossesSide;
  readonly #reexaminer: Reexaminer;

  constructor(group: LossesSide) {
    this.#group = group;
    this.lost = new LostBlocks((lu, block) => this.#placesOf(lu, block));
    this.#reexaminer = new Reexaminer(group);
  }

  /** There may be something to look for again. */
  arm(): void {
    this.#reexaminer.arm();
  }

  close(): void {
    this.#reexaminer.close();
  }

  /** Blocks whose content is lost. */
  get count(): number {
    return this.lost.size - this.lost.unreadCount;
  }

  /** Places that cannot be read now. */
  get unreadable(): number {
    return this.lost.unreadCount + this.#waitingCount;
  }

  /** Places that something waits for. */
  get #waitingCount(): number {
    const { membership, cache } = this.#group;
    return membership.waitingCount + cache.stuckCount + (this.resync?.waitingCount ?? 0);
  }

  /**
   * What is the matter with blocks of LUs (lost-blocks.ts): recorded on the labels before this resolves, all or none, also in a crash. What becomes of
   * one block of a column is computed without the others.
   * @throws StorageError EIO when the labels have no room for them
   */
  async lose(...blocks: readonly Loss[]): Promise<void> {
    const added = blocks.map(({ lu, at, kind }) => ({ lu, block: at / BLOCK_BYTES, kind }));
    const known = added.map(({ lu, block }) => this.lost.kindOf(lu, block));
    this.lost.add(added);
    await this.#group.labels.save();
    this.arm();
    for (const [i, { lu, at, member, position, kind }] of blocks.entries()) {
      if (known[i] !== null && known[i] !== "unread") continue;
      member.count("read", position, false);
      this.#group.emit(kind === "unread" ? "unread-block" : "lost-blocks", { lu, at, position }, member.label.number);
    }
  }

  /** These blocks, which were unread, agree with the parity again: durable on the labels when it resolves. */
  async readAgain(lu: number, blocks: readonly number[]): Promise<void> {
    for (const block of blocks) this.lost.readAgain(lu, block);
    await this.#group.labels.save();
  }

  /** New content for blocks that may have been lost. The labels say so before the next flush is acknowledged. */
  written(lu: number, at: number, byteCount: number): void {
    if (this.lost.size === 0 || !this.lost.restore(lu, at, byteCount)) return;
    this.#group.labels.save().catch((error: unknown) => {
      this.#group.log.error({ group: this.#group.name, error: messageOf(error) }, "labels could not be written");
    });
  }

  /** The LU is being spread over more members: no block of it can be set apart. */
  isMoving(lu: number): boolean {
    return this.#group.lus.find(lu).moving !== undefined;
  }

  /** See whether lost and unread blocks can be had again. */
  reexamine(): Promise<void> {
    return this.#reexaminer.now();
  }

  /** Where the copies of a block lie, or the block itself. */
  #placesOf(lu: number, block: number): readonly BlockOnMember[] {
    const { lus, shape } = this.#group;
    const label = lus.lus.find(({ number }) => number === lu);
    if (label === undefined || block * BLOCK_BYTES >= label.sizeBytes) return [];
    return placesOf(label, shape.chunkBytes, shape.parityRun, this.#group.rowMap(lu), block * BLOCK_BYTES);
  }

  /**
   * Whatever waits for a block that cannot be read now, and cannot be read when it is tried once more, is given up.
   * @returns blocks
   * @throws as Group.giveUp
   */
  async giveUp(): Promise<number> {
    const { membership, cache, name } = this.#group;
    this.#group.assertAlive();
    if (this.#waitingCount === 0) {
      throw new StorageError("ENOENT", `group "${name}" waits for nothing that could be given up`);
    }
    const before = this.count;
    await membership.giveUp();
    await cache.giveUp(() => this.resync?.retried() ?? Promise.resolve());
    return Math.max(0, this.count - before);
  }
}
