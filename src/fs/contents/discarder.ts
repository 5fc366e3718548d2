import type Database from "better-sqlite3";
import type { Logger } from "../../lib/log.js";
import type { PageStore } from "../../pagestore/contract.js";
import type { Inode } from "../inode.js";
import type { GroupTable } from "./group-table.js";
import { DISCARD_GROUPS_PER_STEP, GROUP_BLOCKS } from "./limits.js";
import type { Truncation } from "./truncation.js";

export interface DiscarderParts {
  readonly db: Database.Database;
  readonly table: GroupTable;
  readonly truncation: Truncation;
  readonly store: PageStore;
  readonly log: Logger;
}

/**
 * Frees removed files: a small one at once, a large one in steps of one commit each. Table `orphan` names those that are not done; a
 * restart goes on with them.
 */
export class Discarder {
  readonly #parts: DiscarderParts;
  readonly #insert: Database.Statement<[number]>;
  readonly #delete: Database.Statement<[number]>;
  readonly #first: Database.Statement<[], number>;
  #running: Promise<void> | null = null;
  #closed = false;

  constructor(parts: DiscarderParts) {
    this.#parts = parts;
    this.#insert = parts.db.prepare("INSERT OR IGNORE INTO orphan VALUES (?)");
    this.#delete = parts.db.prepare("DELETE FROM orphan WHERE ino = ?");
    this.#first = parts.db.prepare<[], number>("SELECT ino FROM orphan ORDER BY ino LIMIT 1").pluck();
  }

  /** Resolves when nothing is left to free; null when that is so already. */
  get running(): Promise<void> | null {
    return this.#running;
  }

  discard(inode: Inode): void {
    const { table, truncation } = this.#parts;
    const large = inode.usedBlocks > DISCARD_GROUPS_PER_STEP * GROUP_BLOCKS;
    truncation.discard(table.stateOf(inode), large);
    if (!large) return;
    this.#insert.run(inode.ino);
    this.resume();
  }

  /** Go on with what is left, in the background. */
  resume(): void {
    if (this.#running !== null || this.#closed) return;
    this.#running = this.#run().finally(() => {
      this.#running = null;
    });
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#running;
  }

  async #run(): Promise<void> {
    const { truncation, store, log } = this.#parts;
    try {
      for (;;) {
        const ino = this.#first.get();
        if (ino === undefined || this.#closed) return;
        if (truncation.freeRows(ino, 0, DISCARD_GROUPS_PER_STEP) === 0) this.#delete.run(ino);
        await store.durable();
      }
    } catch (error) {
      // The store has failed, and says so to everybody; the rows are there for the next start.
      log.warn({ err: error }, "freeing removed files has stopped");
    }
  }
}
