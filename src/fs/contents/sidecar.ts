import { assert } from "../../lib/assert.js";
import { crc32c } from "../../lib/crc32c.js";
import { StorageError } from "../../lib/errors.js";
import { BLOCK_BYTES, roundUp } from "../../lib/units.js";
import type { Touch } from "./commit-work.js";

/**
 * The sidecar of a log record: touches, then intents. Little-endian; offsets in bytes. docs/format/contents.md has the tables.
 *
 * Head (32 bytes), then touchCount touches of 32 bytes:
 *    0 u32 magic "SWIL"   4 u32 version   8 u32 touchCount   12 u32 intentCount   16 u32 crc of head (this field 0) and touches
 *   20 [12] reserved
 */
export const SIDECAR_HEAD = {
  magic: 0,
  version: 4,
  touchCount: 8,
  intentCount: 12,
  crc: 16,
  reserved: 20,
  end: 32,
} as const;
/** 0 u64 ino   8 u64 firstBlock   16 u64 blockCount (0: to the end)   24 u32 kind   28 u32 validBytes (kind cut) */
export const SIDECAR_TOUCH = { ino: 0, firstBlock: 8, blockCount: 16, kind: 24, validBytes: 28, end: 32 } as const;
/** 0 u64 ino   8 u64 block   16 u32 byteCount (1 to 4096)   20 u32 crc of bytes 0 to 20 and the data   24 data, padded to 8 */
export const SIDECAR_INTENT = { ino: 0, block: 8, byteCount: 16, crc: 20, end: 24 } as const;

export const SIDECAR_MAGIC = 0x4c495753;
export const SIDECAR_VERSION = 1;
const TOUCH_FORGET = 1;
const TOUCH_CUT = 2;
const ALIGNMENT = 8;

/** What one intent takes at most. */
export const INTENT_BYTES_MAX = SIDECAR_INTENT.end + BLOCK_BYTES;

/** Head and touches of a record. */
export function encodeTouches(touches: readonly Touch[], intentCount: number): Buffer {
  const bytes = Buffer.alloc(SIDECAR_HEAD.end + touches.length * SIDECAR_TOUCH.end);
  bytes.writeUInt32LE(SIDECAR_MAGIC, SIDECAR_HEAD.magic);
  bytes.writeUInt32LE(SIDECAR_VERSION, SIDECAR_HEAD.version);
  bytes.writeUInt32LE(touches.length, SIDECAR_HEAD.touchCount);
  bytes.writeUInt32LE(intentCount, SIDECAR_HEAD.intentCount);
  let at: number = SIDECAR_HEAD.end;
  for (const touch of touches) {
    putU64(bytes, touch.ino, at + SIDECAR_TOUCH.ino);
    putU64(bytes, touch.firstBlock, at + SIDECAR_TOUCH.firstBlock);
    putU64(bytes, Number.isFinite(touch.blockCount) ? touch.blockCount : 0, at + SIDECAR_TOUCH.blockCount);
    bytes.writeUInt32LE(touch.validBytes < 0 ? TOUCH_FORGET : TOUCH_CUT, at + SIDECAR_TOUCH.kind);
    bytes.writeUInt32LE(Math.max(0, touch.validBytes), at + SIDECAR_TOUCH.validBytes);
    at += SIDECAR_TOUCH.end;
  }
  bytes.writeUInt32LE(crc32c(bytes), SIDECAR_HEAD.crc);
  return bytes;
}

/**
 * Encode one intent at `at`; the data is copied.
 * @param block  index in the file
 * @param data   [byteCount bytes]; what follows in the block is zero
 * @returns offset behind it
 */
export function encodeIntent(target: Buffer, at: number, ino: number, block: number, data: Buffer): number {
  assert(data.length > 0 && data.length <= BLOCK_BYTES, "an intent holds some of one block");
  putU64(target, ino, at + SIDECAR_INTENT.ino);
  putU64(target, block, at + SIDECAR_INTENT.block);
  target.writeUInt32LE(data.length, at + SIDECAR_INTENT.byteCount);
  const start = at + SIDECAR_INTENT.end;
  data.copy(target, start);
  const end = roundUp(start + data.length, ALIGNMENT);
  target.fill(0, start + data.length, end);
  target.writeUInt32LE(intentCrc(target, at, data), at + SIDECAR_INTENT.crc);
  return end;
}

/** What a sidecar says, in the order in which it must be applied. */
export interface SidecarReader {
  touch(touch: Touch): void;
  /** `data` is borrowed. */
  intent(ino: number, block: number, data: Buffer): void;
}

/** @throws StorageError EIO when the bytes are no sidecar: the record's own checksum held, so somebody wrote it wrong */
export function decodeSidecar(bytes: Buffer, reader: SidecarReader): void {
  const head = decodeHead(bytes);
  let at: number = SIDECAR_HEAD.end;
  for (let i = 0; i < head.touchCount; i++, at += SIDECAR_TOUCH.end) reader.touch(decodeTouch(bytes, at));
  for (let i = 0; i < head.intentCount; i++) at = decodeIntent(bytes, at, reader);
}

function decodeHead(bytes: Buffer): { touchCount: number; intentCount: number } {
  if (bytes.length < SIDECAR_HEAD.end) throw damaged("too short for a head", 0);
  if (bytes.readUInt32LE(SIDECAR_HEAD.magic) !== SIDECAR_MAGIC) throw damaged("no magic", 0);
  if (bytes.readUInt32LE(SIDECAR_HEAD.version) !== SIDECAR_VERSION) throw damaged("unknown version", 0);
  const touchCount = bytes.readUInt32LE(SIDECAR_HEAD.touchCount);
  const end = SIDECAR_HEAD.end + touchCount * SIDECAR_TOUCH.end;
  if (bytes.length < end) throw damaged("too short for its touches", 0);
  const head = Buffer.from(bytes.subarray(0, end));
  head.writeUInt32LE(0, SIDECAR_HEAD.crc);
  if (crc32c(head) !== bytes.readUInt32LE(SIDECAR_HEAD.crc)) throw damaged("checksum of the touches", 0);
  return { touchCount, intentCount: bytes.readUInt32LE(SIDECAR_HEAD.intentCount) };
}

function decodeTouch(bytes: Buffer, at: number): Touch {
  const kind = bytes.readUInt32LE(at + SIDECAR_TOUCH.kind);
  const blockCount = getU64(bytes, at + SIDECAR_TOUCH.blockCount);
  if (kind !== TOUCH_FORGET && kind !== TOUCH_CUT) throw damaged("unknown touch", at);
  return {
    ino: getU64(bytes, at + SIDECAR_TOUCH.ino),
    firstBlock: getU64(bytes, at + SIDECAR_TOUCH.firstBlock),
    blockCount: blockCount === 0 ? Number.POSITIVE_INFINITY : blockCount,
    validBytes: kind === TOUCH_FORGET ? -1 : bytes.readUInt32LE(at + SIDECAR_TOUCH.validBytes),
  };
}

function decodeIntent(bytes: Buffer, at: number, reader: SidecarReader): number {
  const start = at + SIDECAR_INTENT.end;
  if (bytes.length < start) throw damaged("too short for an intent", at);
  const byteCount = bytes.readUInt32LE(at + SIDECAR_INTENT.byteCount);
  if (byteCount === 0 || byteCount > BLOCK_BYTES || bytes.length < start + byteCount) throw damaged("intent", at);
  const data = bytes.subarray(start, start + byteCount);
  if (intentCrc(bytes, at, data) !== bytes.readUInt32LE(at + SIDECAR_INTENT.crc)) {
    throw damaged("checksum of an intent", at);
  }
  reader.intent(getU64(bytes, at + SIDECAR_INTENT.ino), getU64(bytes, at + SIDECAR_INTENT.block), data);
  return roundUp(start + byteCount, ALIGNMENT);
}

function intentCrc(bytes: Buffer, at: number, data: Buffer): number {
  return crc32c(data, crc32c(bytes.subarray(at, at + SIDECAR_INTENT.crc)));
}

function damaged(what: string, at: number): StorageError {
  return new StorageError("EIO", "a log record's sidecar is damaged", { what, at });
}

/** u64 of a whole number below 2^53, without BigInt. */
function putU64(bytes: Buffer, value: number, at: number): void {
  const high = Math.floor(value / 2 ** 32);
  bytes.writeUInt32LE(value - high * 2 ** 32, at);
  bytes.writeUInt32LE(high, at + 4);
}

function getU64(bytes: Buffer, at: number): number {
  const value = bytes.readUInt32LE(at + 4) * 2 ** 32 + bytes.readUInt32LE(at);
  if (!Number.isSafeInteger(value)) throw damaged("number too large", at);
  return value;
}
