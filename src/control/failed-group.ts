import { type Errno, StorageError } from "../lib/errors.js";
import type { LogicalUnit, LuDescription } from "../lu/lu.js";
import type { Group, GroupCounters, GroupDescription } from "../raid/contract.js";

const NO_COUNTERS: GroupCounters = {
  fullStripeWrites: 0,
  partialStripeWrites: 0,
  journalRecords: 0,
  degradedReads: 0,
  degradedStripes: 0,
  healedBlocks: 0,
  flushes: 0,
  bitmapWrites: 0,
};

/** Stands for a group that could not be assembled: it is shown with what the labels say, and every use of it is refused. */
export class FailedGroup implements Group {
  constructor(
    private readonly description: GroupDescription,
    readonly reason: string,
    /** What the attempt ended with. */
    readonly code: Errno,
  ) {}

  describe(): GroupDescription {
    return { ...this.description, state: "failed" };
  }

  counters(): GroupCounters {
    return NO_COUNTERS;
  }

  async createLu(): Promise<LuDescription> {
    throw this.#refusal();
  }

  checkLus(): void {
    throw this.#refusal();
  }

  async deleteLu(): Promise<void> {
    throw this.#refusal();
  }

  async resizeLu(): Promise<LuDescription> {
    throw this.#refusal();
  }

  async failDisk(): Promise<void> {
    throw this.#refusal();
  }

  async replaceDisk(): Promise<void> {
    throw this.#refusal();
  }

  checkReplacement(): void {
    throw this.#refusal();
  }

  async giveUp(): Promise<number> {
    throw this.#refusal();
  }

  async lendDisk(): Promise<void> {
    throw this.#refusal();
  }

  async returnDisk(): Promise<void> {
    throw this.#refusal();
  }

  async growDisk(): Promise<void> {
    throw this.#refusal();
  }

  async probe(): Promise<void> {}

  async scrub(): Promise<void> {
    throw this.#refusal();
  }

  async compareLu(): Promise<never> {
    throw this.#refusal();
  }

  async scheduleScrub(): Promise<void> {
    throw this.#refusal();
  }

  async pauseTask(): Promise<void> {
    throw this.#refusal();
  }

  async resumeTask(): Promise<void> {
    throw this.#refusal();
  }

  async cancelTask(): Promise<void> {
    throw this.#refusal();
  }

  openLu(): LogicalUnit {
    throw this.#refusal();
  }

  async stopTasks(): Promise<void> {}

  /** Its disks stay on the shelf. */
  async close(): Promise<void> {}

  #refusal(): StorageError {
    return new StorageError("EIO", `group ${this.description.name} has failed: ${this.reason}`);
  }
}
