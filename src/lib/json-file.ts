import { renameSync, rmSync, writeFileSync } from "node:fs";
import { StorageError } from "./errors.js";

/**
 * Write a small file in the place of the one that is there: whoever reads it sees the old one or the new one, whole. Not flushed.
 * @throws StorageError as writeSmallFile
 */
export function replaceFile(file: string, text: string): void {
  try {
    writeSmallFile(`${file}.new`, text);
    renameSync(`${file}.new`, file);
  } catch (error) {
    // A part of it would take the room that somebody else needs.
    rmSync(`${file}.new`, { force: true });
    throw error;
  }
}

export function jsonText(value: unknown): string {
  return `${JSON.stringify(value, null, 2)}\n`;
}

/** As replaceFile, with JSON. */
export function replaceJson(file: string, value: unknown): void {
  replaceFile(file, jsonText(value));
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
