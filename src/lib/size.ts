import { StorageError } from "./errors.js";

const UNITS = ["", "K", "M", "G", "T", "P"];

/**
 * Parse a size as people write it: `4096`, `64K`, `1.5G`, `2TiB`. Powers of 1024.
 * @returns bytes, a whole number below 2^53
 * @throws StorageError EINVAL naming the text
 */
export function parseSize(text: string): number {
  const match = /^\s*(\d+(?:\.\d+)?)\s*([KMGTP]?)(?:i?B)?\s*$/i.exec(text);
  const unit = match === null ? -1 : UNITS.indexOf((match[2] ?? "").toUpperCase());
  const bytes = match === null ? Number.NaN : Math.round(Number(match[1]) * 1024 ** unit);
  if (!Number.isSafeInteger(bytes)) {
    throw new StorageError("EINVAL", `not a size: "${text}" (examples: 4096, 64K, 1.5G, 2T)`);
  }
  return bytes;
}

/** Bytes for people: the largest unit that leaves at least 1, at most one decimal (`1.5 GiB`). */
export function formatSize(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit++;
  }
  const digits = Number.isInteger(value) || value >= 100 ? value.toFixed(0) : value.toFixed(1);
  return unit === 0 ? `${digits} B` : `${digits} ${UNITS[unit]}iB`;
}

/** Two sizes that are compared: where they would read alike, though they differ, the bytes are told as well. */
export function formatSizes(a: number, b: number): readonly [string, string] {
  const [left, right] = [formatSize(a), formatSize(b)];
  return left === right && a !== b ? [`${left} (${a} bytes)`, `${right} (${b} bytes)`] : [left, right];
}
