import fs from "node:fs";

/** The folder of the scratch copies, as far as its room goes. Played where a full folder is a fault that is simulated. */
export interface ScratchFolder {
  /** What may still be written there. */
  freeBytes(): number;
  /** Fill a file, so that so much room is taken. @returns how much is, where there was less */
  hold(file: string, byteCount: number): number;
  /** Give that room back. */
  drop(file: string): void;
  /** A commit, or folding it, has written so much. @throws the error of write(2) where it did not fit, as SQLite would have */
  wrote(byteCount: number): void;
  /** So much was cut off again. */
  released(byteCount: number): void;
}

export function realFolder(directory: string): ScratchFolder {
  return {
    freeBytes: () => {
      try {
        const { bavail, bsize } = fs.statfsSync(directory);
        return bavail * bsize;
      } catch {
        // It is gone, or unreadable: nothing can be written there.
        return 0;
      }
    },
    hold: fill,
    drop: cut,
    wrote: () => {},
    released: () => {},
  };
}

/** Zeros: a file that is only set to a length takes no room. */
function fill(file: string, byteCount: number): number {
  try {
    const fd = fs.openSync(file, "w", 0o600);
    try {
      return fs.writeSync(fd, Buffer.alloc(byteCount));
    } finally {
      fs.closeSync(fd);
    }
  } catch {
    cut(file);
    return 0;
  }
}

function cut(file: string): void {
  try {
    fs.truncateSync(file, 0);
  } catch {
    // It was never there.
  }
}
