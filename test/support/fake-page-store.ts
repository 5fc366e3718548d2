import Database from "better-sqlite3";
import { StorageError } from "../../src/lib/errors.js";
import { type CommitParticipant, NO_PARTICIPANT, type PageStore } from "../../src/pagestore/contract.js";

/**
 * The page store's contract over a database in memory, without an LU: for tests of what stands on it. What a crash would keep is
 * what the last commit left; `crash` hands back a store with just that.
 */
export class FakePageStore implements PageStore {
  readonly db: Database.Database;
  durableSeq = 0;
  /** What freePages says. */
  pagesFree = 1_000_000;
  /** Every later commit rejects. */
  failing = false;
  /** Commits that were made durable. */
  commits = 0;
  #participant: CommitParticipant = NO_PARTICIPANT;
  #pending: Promise<void> | null = null;
  #image: Buffer | null = null;

  constructor(image?: Buffer) {
    this.db = image === undefined ? new Database(":memory:") : new Database(image);
    this.db.exec("BEGIN");
  }

  join(participant: CommitParticipant): void {
    this.#participant = participant;
  }

  durable(): Promise<void> {
    this.#pending ??= Promise.resolve().then(() => this.#commit());
    return this.#pending;
  }

  sealCount = 0;

  emergencyPages(_share: number): number {
    return this.freePages();
  }

  promise(): void {}

  portion(): void {}

  hasScratchRoom(): boolean {
    return true;
  }

  freePages(): number {
    return this.pagesFree;
  }

  async checkpoint(): Promise<void> {
    await this.durable();
  }

  async close(): Promise<void> {
    await this.durable();
    this.#image = null;
  }

  /** The database as the last `durable` that ran with `keepImages` left it. */
  crash(): FakePageStore {
    return new FakePageStore(this.#image ?? Buffer.alloc(0));
  }

  /** Remember each commit, for `crash`: slow, a copy of the whole database. */
  keepImages = false;

  async #commit(): Promise<void> {
    if (this.failing) throw new StorageError("EIO", "the store has failed");
    await this.#participant.prepare();
    this.#pending = null;
    this.#participant.seal();
    this.sealCount++;
    this.db.exec("COMMIT");
    if (this.keepImages) this.#image = this.db.serialize();
    this.db.exec("BEGIN");
    await this.#participant.settle();
    this.durableSeq++;
    this.commits++;
    this.#participant.durable(this.durableSeq);
  }
}
