import { renameSync, writeFileSync } from "node:fs";

/** Write a small file of JSON in the place of the one that is there: whoever reads it sees the old one or the new one, whole. Not flushed. */
export function replaceJson(file: string, value: unknown): void {
  writeFileSync(`${file}.new`, `${JSON.stringify(value, null, 2)}\n`);
  renameSync(`${file}.new`, file);
}
