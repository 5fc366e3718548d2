import { closeSync, openSync } from "node:fs";
import { flockSync } from "fs-ext";
import { errnoOf } from "./errno.js";

/** held: an exclusive lock is there. free: nobody holds one. unknown: the disk cannot be opened. */
export type LockState = "held" | "free" | "unknown";

/**
 * Asks whether a disk is locked, a few microseconds each time. The lock is taken for that moment (shared) when it can be: whoever tries to lock the disk
 * just then is refused, and tries again.
 */
export class LockProbe {
  #fd: number | null = null;

  constructor(readonly path: string) {}

  state(): LockState {
    try {
      this.#fd ??= openSync(this.path, "r");
      flockSync(this.#fd, "shnb");
      flockSync(this.#fd, "un");
      return "free";
    } catch (error) {
      const errno = errnoOf(error);
      if (errno === "EAGAIN" || errno === "EWOULDBLOCK") return "held";
      this.close();
      return "unknown";
    }
  }

  close(): void {
    if (this.#fd !== null) closeSync(this.#fd);
    this.#fd = null;
  }
}
