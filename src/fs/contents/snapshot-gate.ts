import { assert } from "../../lib/assert.js";
import { StorageError } from "../../lib/errors.js";
import { BLOCK_BYTES } from "../../lib/units.js";
import type { PageStore } from "../../pagestore/contract.js";
import type { Committer } from "./committer.js";
import type { BlockMap } from "./extent-map.js";
import type { ReadEpoch, ReadEpochs } from "./read-epochs.js";
import type { Reader } from "./reader.js";
import type { WriteBack } from "./write-back.js";

/** Writing everything back may meet writes that came meanwhile; so often it is tried. */
const ATTEMPTS_MAX = 8;

export interface SnapshotGateParts {
  readonly store: PageStore & { copyAtSeal?(target: string): Promise<void> };
  readonly committer: Committer;
  readonly writeBack: WriteBack;
  readonly epochs: ReadEpochs;
  readonly reader: Reader;
}

/** What a commit left, for as long as it is held. */
export interface FrozenContents {
  /** Why it is no longer held; null while it is. */
  readonly lost: StorageError | null;
  /** Freed since, and held back (for this and other readers). */
  readonly heldBytes: number;
  /**
   * Stored blocks of a group, by the map that its metadata has.
   * @param slots   of the blocks wanted, rising: each is mapped
   * @param target  4096 bytes for each
   * @throws StorageError EIO (a block is bad in every copy), EBUSY (given up)
   */
  read(ino: number, group: number, map: BlockMap, slots: readonly number[], target: Buffer): Promise<void>;
  release(): void;
}

/** Someone waits for the next commit that may be frozen. */
interface Waiting {
  readonly target: string;
  readonly frozen: (frozen: Frozen, copied: Promise<void>) => void;
}

class Frozen implements FrozenContents {
  lost: StorageError | null = null;

  constructor(
    readonly epoch: ReadEpoch,
    readonly parts: SnapshotGateParts,
    readonly onReleased: (frozen: Frozen) => void,
  ) {}

  get heldBytes(): number {
    return this.parts.epochs.waitingBlocks * BLOCK_BYTES;
  }

  async read(ino: number, group: number, map: BlockMap, slots: readonly number[], target: Buffer): Promise<void> {
    if (this.lost !== null) throw this.lost;
    const { epochs, reader } = this.parts;
    // Its own: given up meanwhile, the blocks stay until this read has ended.
    epochs.enterAgain(this.epoch);
    try {
      await reader.readStored(ino, group, map, slots, target);
    } finally {
      epochs.leave(this.epoch);
    }
  }

  release(): void {
    this.end(new StorageError("EBUSY", "the snapshot was released"));
  }

  end(why: StorageError): void {
    if (this.lost !== null) return;
    this.lost = why;
    this.parts.epochs.leave(this.epoch);
    this.onReleased(this);
  }
}

/**
 * Makes and holds snapshots. A snapshot is one commit: a copy of the metadata as that commit left it, and a read epoch that is entered
 * as it is sealed, so that blocks freed by later commits stay as they are, like under a very long read.
 *
 * The extents must then say where every durable byte is. So before that commit small stable writes stop going into the log's records
 * (they are written to the data LU before they are answered), and what records hold is written home.
 */
export class SnapshotGate {
  readonly #parts: SnapshotGateParts;
  readonly #held = new Set<Frozen>();
  #waiting: Waiting | null = null;

  constructor(parts: SnapshotGateParts) {
    this.#parts = parts;
  }

  async freeze(target: string): Promise<FrozenContents> {
    const { committer, store } = this.#parts;
    if (store.copyAtSeal === undefined) throw new StorageError("ENOTSUP", "this page store makes no snapshots");
    if (this.#waiting !== null) throw new StorageError("EBUSY", "a snapshot is being made already");
    committer.holdIntents();
    let frozen: Frozen | null = null;
    try {
      const sealed = new Promise<{ frozen: Frozen; copied: Promise<void> }>((resolve) => {
        this.#waiting = { target, frozen: (one, copied) => resolve({ frozen: one, copied }) };
      });
      await this.#commitUntilSealed();
      const result = await sealed;
      frozen = result.frozen;
      await result.copied;
      return frozen;
    } catch (error) {
      frozen?.release();
      throw error;
    } finally {
      this.#waiting = null;
      committer.resumeIntents();
    }
  }

  /** A commit is being sealed, every row of the contents layer is written: it is the one when no record is needed for any byte. */
  sealed(): void {
    const waiting = this.#waiting;
    const { committer, epochs, store } = this.#parts;
    if (waiting === null || !committer.allStored) return;
    this.#waiting = null;
    assert(store.copyAtSeal !== undefined, "the store makes copies");
    const frozen = new Frozen(epochs.enter(), this.#parts, (one) => this.#held.delete(one));
    this.#held.add(frozen);
    const copied = store.copyAtSeal(waiting.target);
    copied.catch(() => {});
    waiting.frozen(frozen, copied);
  }

  /** Release all of them. @returns whether there were any */
  giveUp(why: string): boolean {
    const held = [...this.#held];
    for (const frozen of held) frozen.end(new StorageError("EBUSY", `the snapshot was given up: ${why}`));
    return held.length > 0;
  }

  /** What is dirty now is part of it, also what nobody has committed. */
  async #commitUntilSealed(): Promise<void> {
    const { writeBack, store } = this.#parts;
    for (let attempt = 0; this.#waiting !== null; attempt++) {
      if (attempt === ATTEMPTS_MAX) throw new StorageError("EBUSY", "the data that waits in memory cannot be written");
      await writeBack.writeBackAll();
      await store.durable();
    }
  }
}
