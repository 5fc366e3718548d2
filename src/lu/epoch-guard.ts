import { StorageError } from "../lib/errors.js";

/**
 * Who may write (I-6): a group is opened under one epoch; when the node learns of a higher one, it has lost the group for good.
 * Asked before each journal write, label write and flush; it never asks anybody itself: `ha/` changes what `current` returns.
 */
export class EpochGuard {
  readonly epoch: number;
  readonly #current: () => number;

  constructor(current: () => number) {
    this.#current = current;
    this.epoch = current();
  }

  /** @throws StorageError ESTALE */
  readonly check = (): void => {
    const now = this.#current();
    if (now === this.epoch) return;
    throw new StorageError("ESTALE", "this node no longer owns the group", { opened: this.epoch, now });
  };
}
