import { writeSync } from "node:fs";
import { printableJson } from "../lib/printable.js";

/** Writes all of some bytes. @throws what writing throws (ENOSPC, EPIPE, EAGAIN …) */
export type WriteBytes = (bytes: Buffer) => void;

/**
 * Where pino's lines go. A log is for people: what would play with a terminal is escaped, and a log that cannot be written (a full disk, a reader that went
 * away) costs its lines and not the daemon. How many were lost stands in the log as soon as it can be written again.
 */
export class LogLines {
  #lost = 0;

  constructor(private readonly writeBytes: WriteBytes = standardOutput) {}

  /** @param line  one JSON document with its line end */
  write(line: string): void {
    try {
      if (this.#lost > 0)
        this.writeBytes(
          Buffer.from(
            `{"level":40,"lost":${this.#lost},"msg":"lines of this log were lost: it could not be written"}\n`,
          ),
        );
      this.#lost = 0;
      this.writeBytes(Buffer.from(printableJson(line)));
    } catch {
      this.#lost++;
    }
  }
}

function standardOutput(bytes: Buffer): void {
  for (let done = 0; done < bytes.length; ) done += writeSync(1, bytes, done);
}
