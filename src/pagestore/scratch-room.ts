import fs from "node:fs";
import { KIB, MIB } from "../lib/units.js";
import type { ScratchFolder } from "./scratch-folder.js";

/** Set aside, and given to a commit that would find no other room: what was accepted before anybody knew fits, and what frees space always does. */
const BALLAST_BYTES_MAX = 4 * MIB;
const BALLAST_BYTES_MIN = 256 * KIB;
/** Of the free bytes at the start; a small tmpfs is not filled with it. */
const BALLAST_SHARE = 1 / 8;

/**
 * Room for a scratch copy. The folder belongs to others too and may fill up at any moment; SQLite then rolls the whole transaction back, which
 * nothing of ours could survive. So some room is held by a file without meaning, the ballast. While less than that is free the copy is
 * *tight*: commits borrow the ballast for a moment, nothing is accepted that makes the copy grow, and everything else goes on.
 */
export class ScratchRoom {
  readonly #file: string;
  readonly #folder: ScratchFolder;
  readonly #wantedBytes: number;
  /** Of the ballast, now. */
  #heldBytes = 0;
  #tight = false;

  /** @param file  of the ballast. @param copyBytesMax  of the whole copy: a small one needs little */
  constructor(file: string, folder: ScratchFolder, copyBytesMax: number) {
    this.#file = file;
    this.#folder = folder;
    const fair = Math.floor(folder.freeBytes() * BALLAST_SHARE);
    const wanted = Math.min(BALLAST_BYTES_MAX, Math.ceil(copyBytesMax / 8), fair);
    this.#wantedBytes = Math.max(BALLAST_BYTES_MIN, wanted);
    this.look();
  }

  /** As it was last seen. */
  get tight(): boolean {
    return this.#tight;
  }

  /** Whether something may be accepted that makes the copy grow. While it is tight the folder is looked at each time. */
  hasRoom(): boolean {
    return !this.#tight || !this.look();
  }

  /** Look at the folder, and hold the ballast whole where there is room for it. @returns whether the copy is tight */
  look(): boolean {
    let free = this.#folder.freeBytes();
    if (this.#heldBytes < this.#wantedBytes && free > 0) {
      const byteCount = Math.min(this.#wantedBytes, this.#heldBytes + free);
      this.#heldBytes = this.#folder.hold(this.#file, byteCount);
      free = this.#folder.freeBytes();
    }
    this.#tight = this.#heldBytes < this.#wantedBytes || free < this.#wantedBytes;
    return this.#tight;
  }

  /** A commit writes next. @returns whether the copy is tight: then the room of the ballast is free, until `look` */
  lend(): boolean {
    this.#tight = this.#heldBytes < this.#wantedBytes || this.#folder.freeBytes() < this.#wantedBytes;
    if (this.#tight) {
      this.#folder.drop(this.#file);
      this.#heldBytes = 0;
    }
    return this.#tight;
  }

  close(): void {
    this.#folder.drop(this.#file);
    fs.rmSync(this.#file, { force: true });
  }
}
