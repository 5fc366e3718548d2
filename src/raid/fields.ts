import { assert } from "../lib/assert.js";
import { crc32c } from "../lib/crc32c.js";
import type { Random } from "../lib/prng.js";

/** Reading and writing fields of on-disk structures: little-endian, numbers checked once against 2^53-1. */

export function putU64(block: Buffer, at: number, value: number): void {
  assert(Number.isSafeInteger(value) && value >= 0, "a 64-bit field is a whole number below 2^53");
  block.writeUInt32LE(value % 2 ** 32, at);
  block.writeUInt32LE(Math.floor(value / 2 ** 32), at + 4);
}

/** @returns NaN when the number is above 2^53-1, which no valid structure holds. */
export function getU64(block: Buffer, at: number): number {
  const value = block.readUInt32LE(at + 4) * 2 ** 32 + block.readUInt32LE(at);
  return Number.isSafeInteger(value) ? value : Number.NaN;
}

export function putText(block: Buffer, at: number, byteCount: number, text: string): void {
  const bytes = Buffer.from(text, "utf8");
  assert(bytes.length < byteCount, "a text fits its field with a zero at the end");
  block.fill(0, at, at + byteCount);
  bytes.copy(block, at);
}

/** @returns null when it is not terminated, has bytes after its end, or is not UTF-8. */
export function getText(block: Buffer, at: number, byteCount: number): string | null {
  const field = block.subarray(at, at + byteCount);
  const end = field.indexOf(0);
  if (end < 0 || !isZero(field, end, byteCount)) return null;
  const text = field.toString("utf8", 0, end);
  return Buffer.byteLength(text, "utf8") === end && !text.includes("\ufffd") ? text : null;
}

/** Cut to at most `bytesMax` bytes of UTF-8, keeping the end (the telling part of a path). */
export function tailOfText(text: string, bytesMax: number): string {
  let tail = text;
  while (Buffer.byteLength(tail, "utf8") > bytesMax) tail = Array.from(tail).slice(1).join("");
  return tail;
}

export const NO_UUID = "00000000-0000-0000-0000-000000000000";

export function putUuid(block: Buffer, at: number, uuid: string): void {
  const hex = uuid.replaceAll("-", "");
  assert(/^[0-9a-f]{32}$/.test(hex), "a UUID is 32 hexadecimal digits");
  block.write(hex, at, 16, "hex");
}

export function getUuid(block: Buffer, at: number): string {
  const hex = block.toString("hex", at, at + 16);
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}

/** A random UUID (RFC 9562 version 4) from the given randomness. */
export function newUuid(random: Random): string {
  const bytes = Buffer.alloc(16);
  random.fill(bytes);
  bytes[6] = (bytes[6]! & 0x0f) | 0x40;
  bytes[8] = (bytes[8]! & 0x3f) | 0x80;
  return getUuid(bytes, 0);
}

const ZEROES = Buffer.alloc(4096);

/** Compared in pieces by the machine: a label alone has 60 KiB that must be zero. */
export function isZero(block: Buffer, from: number, to: number): boolean {
  for (let at = from; at < to; at += ZEROES.length) {
    const end = Math.min(at + ZEROES.length, to);
    if (block.compare(ZEROES, 0, end - at, at, end) !== 0) return false;
  }
  return true;
}

const FOUR_ZEROES = Buffer.alloc(4);

/** CRC-32C of a structure with its own checksum field (u32 at `at`) taken as zero. */
export function checksumWithout(block: Buffer, at: number): number {
  const head = crc32c(block.subarray(0, at));
  return crc32c(block.subarray(at + 4), crc32c(FOUR_ZEROES, head));
}

export function sealChecksum(block: Buffer, at: number): void {
  block.writeUInt32LE(checksumWithout(block, at), at);
}

export function checksumHolds(block: Buffer, at: number): boolean {
  return block.readUInt32LE(at) === checksumWithout(block, at);
}
