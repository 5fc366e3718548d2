import fs from "node:fs";
import { BLOCK_BYTES } from "../lib/units.js";
import { type LoadedPage, runsOf } from "./images.js";

/**
 * Put pages into a file of pages, those that are neighbours in one call. Synchronous, as SQLite's own writes to that file: a page costs some microseconds, where
 * a trip through the thread pool for each would take longer than everything else in a takeover.
 * @param pages  sorted by number
 * @throws the error of pwritev(2), ENOSPC before all
 */
export function writePages(fd: number, pages: readonly LoadedPage[]): void {
  for (const run of runsOf(pages)) {
    const contents = run.map(({ content }) => content);
    writeRun(fd, contents, (run[0]!.page - 1) * BLOCK_BYTES);
  }
}

function writeRun(fd: number, buffers: readonly Buffer[], position: number): void {
  const byteCount = buffers.length * BLOCK_BYTES;
  let done = fs.writevSync(fd, buffers, position);
  // Short only where the file system is nearly full: what is left says so, or goes in.
  while (done < byteCount) {
    const buffer = buffers[Math.floor(done / BLOCK_BYTES)]!;
    done += fs.writeSync(fd, buffer, done % BLOCK_BYTES, BLOCK_BYTES - (done % BLOCK_BYTES), position + done);
  }
}
