import type { PageStore } from "../../pagestore/contract.js";
import type { GroupTable } from "./group-table.js";
import { DATABASE_PAGES_RESERVE } from "./limits.js";

/** A full row is 800 bytes; with half-filled pages after random splits two rows take one. */
const ROWS_PER_PAGE = 2;
/** Of the reserve. */
const OVERWRITE_SHARE = 1 / 2;
/** When this few are left they are counted each time. */
const FREE_PAGES_EXACT = 1024;

/** Whether the database can take the rows of more data. Asked before every write that adds blocks, so the page count is kept for a commit. */
export class DatabaseRoom {
  readonly #store: PageStore;
  readonly #table: GroupTable;
  #freePages = -1;

  constructor(store: PageStore, table: GroupTable) {
    this.#store = store;
    this.#table = table;
  }

  /**
   * Whether the rows of blocks that are there may be written anew: a fragmented map is larger than the one before, so that many of them need room, too. They may have of
   * the reserve what commits themselves do not need.
   */
  hasRoomToOverwrite(): boolean {
    return this.hasRoom() || this.#store.emergencyPages(OVERWRITE_SHARE) > this.#table.pendingRowCount / ROWS_PER_PAGE;
  }

  /** A commit was sealed: what was pending may be in the pages now. */
  refresh(): void {
    this.#freePages = -1;
  }

  hasRoom(): boolean {
    if (this.#freePages < FREE_PAGES_EXACT) this.#freePages = this.#store.freePages();
    return this.#freePages - this.#table.pendingRowCount / ROWS_PER_PAGE > DATABASE_PAGES_RESERVE;
  }
}
