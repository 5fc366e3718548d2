import { existsSync, mkdirSync, statSync } from "node:fs";
import path from "node:path";
import { messageOf, StorageError } from "./errors.js";

/**
 * A folder and those above it, as `mkdir -p`. Node's own recursive mkdir goes round for ever where a file system takes no folders and says ENOENT (/proc, /sys).
 * @throws StorageError EACCES with the place and the reason
 */
export function makeFolder(folder: string, mode = 0o777): void {
  const missing: string[] = [];
  for (let at = path.resolve(folder); !existsSync(at); at = path.dirname(at)) missing.push(at);
  for (const place of missing.reverse()) makeOne(place, mode);
  if (!statSync(folder).isDirectory()) throw new StorageError("EACCES", `${folder} is not a folder`);
}

function makeOne(place: string, mode: number): void {
  try {
    mkdirSync(place, { mode });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "EEXIST") return;
    // What is above it is there: it is the file system that has no place for it.
    const why = code === "ENOENT" ? "this file system takes no folders there" : messageOf(error);
    throw new StorageError("EACCES", `the folder ${place} cannot be made: ${why}`, {}, error);
  }
}
