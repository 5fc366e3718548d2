import { renameSync, writeFileSync } from "node:fs";
import { StorageError } from "./errors.js";

/**
 * Write a small file of JSON in the place of the one that is there: whoever reads it sees the old one or the new one, whole. Not flushed.
 * @throws StorageError as writeSmallFile
 */
export function replaceJson(file: string, value: unknown): void {
  writeSmallFile(`${file}.new`, `${JSON.stringify(value, null, 2)}\n`);
  renameSync(`${file}.new`, file);
}

/** @throws StorageError ENOSPC, EACCES or EIO that names the file: what the kernel says of a write names none */
export function writeSmallFile(file: string, text: string): void {
  try {
    writeFileSync(file, text);
  } catch (error) {
    throw namingError(file, error);
  }
}

function namingError(file: string, error: unknown): StorageError {
  const { code } = error as NodeJS.ErrnoException;
  if (code === "ENOSPC" || code === "EDQUOT") {
    return new StorageError("ENOSPC", `no space left for ${file}: make room on its file system`, { file }, error);
  }
  const why = error instanceof Error ? error.message : String(error);
  const errno = code === "EACCES" || code === "EPERM" || code === "EROFS" ? "EACCES" : "EIO";
  return new StorageError(errno, `${file} cannot be written: ${why}`, { file }, error);
}
