import { assert } from "../../lib/assert.js";
import { RunList } from "./run-list.js";

/** A span of time between two commits, with the reads of the data LU that began in it. */
export class ReadEpoch {
  readCount = 0;
  freed: RunList | null = null;
  next: ReadEpoch | null = null;
}

/**
 * The second half of the quarantine. A block that a durable commit has freed may still be the target of a read that began before:
 * it becomes free only when every read of its epoch and of the epochs before has ended. So a read never needs to look again.
 */
export class ReadEpochs {
  #oldest = new ReadEpoch();
  #current = this.#oldest;
  readonly #release: (freed: RunList) => void;
  #waitingBlocks = 0;

  constructor(release: (freed: RunList) => void) {
    this.#release = release;
  }

  /** Blocks that only wait for reads to end. */
  get waitingBlocks(): number {
    return this.#waitingBlocks;
  }

  enter(): ReadEpoch {
    this.#current.readCount++;
    return this.#current;
  }

  /** One more read of an epoch that is held: it is protected by what protects the others. */
  enterAgain(epoch: ReadEpoch): void {
    assert(epoch.readCount > 0, "an epoch is entered again while it is held");
    epoch.readCount++;
  }

  leave(epoch: ReadEpoch): void {
    assert(epoch.readCount > 0, "a read leaves the epoch it entered");
    epoch.readCount--;
    if (epoch.readCount === 0) this.#advance();
  }

  /** These blocks are not mapped any more, durably. */
  retire(freed: RunList): void {
    if (freed.blockCount === 0) return;
    const next = new ReadEpoch();
    this.#current.freed = freed;
    this.#current.next = next;
    this.#current = next;
    this.#waitingBlocks += freed.blockCount;
    this.#advance();
  }

  #advance(): void {
    while (this.#oldest.next !== null && this.#oldest.readCount === 0) {
      const freed = this.#oldest.freed ?? new RunList();
      this.#oldest = this.#oldest.next;
      this.#waitingBlocks -= freed.blockCount;
      this.#release(freed);
    }
  }
}
