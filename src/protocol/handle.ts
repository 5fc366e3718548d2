import { createHmac } from "node:crypto";
import type { FileId } from "../fs/vfs.js";
import { assert } from "../lib/assert.js";
import { StorageError } from "../lib/errors.js";
import type { ExportEntry } from "./exports.js";
import { XdrError, type XdrReader } from "./xdr/reader.js";
import { putU32, putU64 } from "./xdr/writer.js";

/**
 * A file handle (opaque to clients, at most 64 bytes, RFC 1813 section 2.4), big-endian.
 *    0 u8 version (1)     1 [3] reserved, zero     4 u32 export id     8 u32 file system id
 *   12 u64 ino           20 u64 generation        28 [16] tag
 * tag: the first 16 bytes of HMAC-SHA256 over bytes 0 to 27 with the file system's handle key. A client cannot make a handle up, and
 * cannot carry one from one export to another. Handles are stable across restart and takeover: all of it is kept with the file system.
 */
export const HANDLE = {
  version: 0,
  reserved: 1,
  exportId: 4,
  fileSystemId: 8,
  ino: 12,
  generation: 20,
  tag: 28,
  end: 44,
} as const;
export const HANDLE_BYTES_MAX = 64;
const HANDLE_VERSION = 1;
const TAG_WORDS = 4;
const HIGH = 2 ** 32;

assert(HANDLE.tag + 4 * TAG_WORDS === HANDLE.end, "a tag fills its handle");
assert(HANDLE.end <= HANDLE_BYTES_MAX, "a handle fits in NFSv3");

export interface DecodedHandle extends FileId {
  readonly entry: ExportEntry;
}

/** What a tag is made with. */
export interface TagSource {
  /** Of the export. */
  readonly id: number;
  readonly fileSystem: { readonly id: number; readonly handleKey: Buffer };
}

/** What is known of exports that are not in service. */
export interface AbsentExports {
  /** The export of this id is not served now, and may be again. */
  isAwaited(exportId: number): boolean;
  /** A file system that is, or was, in service here. */
  knownFileSystem(id: number): TagSource["fileSystem"] | undefined;
}

/** 65,536 inodes, 40 bytes each: 2.6 MiB. */
const SLOTS = 2 ** 16;

/**
 * Tags of inodes seen lately, so that the HMAC (about 3 µs) is worked out once per inode and not per request. Direct-mapped on the inode
 * number, in typed arrays: bounded, nothing to collect, a hit costs a few loads.
 */
class TagCache {
  readonly #ino = new Float64Array(SLOTS).fill(-1);
  readonly #generation = new Float64Array(SLOTS);
  readonly #exportId = new Float64Array(SLOTS);
  readonly #fileSystemId = new Float64Array(SLOTS);
  readonly words = new Int32Array(SLOTS * TAG_WORDS);
  readonly #scratch = Buffer.alloc(HANDLE.tag);

  /** @returns the index in `words` of the inode's tag */
  find(entry: TagSource, ino: number, generation: number): number {
    const { id: exportId } = entry;
    const { id: fileSystemId } = entry.fileSystem;
    const slot = (ino ^ exportId) & (SLOTS - 1);
    const hit =
      this.#ino[slot] === ino &&
      this.#generation[slot] === generation &&
      this.#exportId[slot] === exportId &&
      this.#fileSystemId[slot] === fileSystemId;
    if (!hit) {
      this.#ino[slot] = ino;
      this.#generation[slot] = generation;
      this.#exportId[slot] = exportId;
      this.#fileSystemId[slot] = fileSystemId;
      this.#compute(entry, ino, generation, slot * TAG_WORDS);
    }
    return slot * TAG_WORDS;
  }

  #compute(entry: TagSource, ino: number, generation: number, at: number): void {
    putBody(this.#scratch, 0, entry, ino, generation);
    const tag = createHmac("sha256", entry.fileSystem.handleKey).update(this.#scratch).digest();
    for (let i = 0; i < TAG_WORDS; i++) this.words[at + i] = tag.readInt32BE(4 * i);
  }
}

/** Makes and checks file handles of all exports. */
export class HandleCodec {
  readonly #tags = new TagCache();

  constructor(
    private readonly findExport: (id: number) => ExportEntry | undefined,
    private readonly absent: AbsentExports = { isAwaited: () => false, knownFileSystem: () => undefined },
  ) {}

  /** Store nfs_fh3 with its length. The caller has reserved 4 + HANDLE.end bytes. @returns the offset behind it */
  put(target: Buffer, at: number, entry: ExportEntry, id: FileId): number {
    putU32(target, at, HANDLE.end);
    const start = at + 4;
    putBody(target, start, entry, id.ino, id.generation);
    const tag = this.#tags.find(entry, id.ino, id.generation);
    const { words } = this.#tags;
    for (let i = 0; i < TAG_WORDS; i++) putU32(target, start + HANDLE.tag + 4 * i, words[tag + i] ?? 0);
    return start + HANDLE.end;
  }

  /** A handle alone, for tests and tools. */
  encode(entry: ExportEntry, id: FileId): Buffer {
    const target = Buffer.alloc(4 + HANDLE.end);
    this.put(target, 0, entry, id);
    return target.subarray(4);
  }

  /**
   * Decode and check nfs_fh3.
   * @throws XdrError when it is longer than 64 bytes or truncated
   * @throws StorageError EBADHANDLE when it was not made here, for this export; the inode may still be gone (ESTALE from the file system).
   * Of an export that is not in service: EBUSY while it may be again, else ESTALE; where its file system was never here nothing of it can be proven
   */
  read(reader: XdrReader): DecodedHandle {
    const byteCount = reader.u32();
    if (byteCount > HANDLE_BYTES_MAX) throw new XdrError("file handle too long", reader.at - 4);
    const at = reader.take((byteCount + 3) & ~3);
    const { buffer } = reader;
    if (byteCount !== HANDLE.end || word(buffer, at) !== HANDLE_VERSION << 24) throw badHandle("shape");
    const exportId = word(buffer, at + HANDLE.exportId) >>> 0;
    const fileSystemId = word(buffer, at + HANDLE.fileSystemId) >>> 0;
    const ino = hyper(buffer, at + HANDLE.ino);
    const generation = hyper(buffer, at + HANDLE.generation);
    if (ino > Number.MAX_SAFE_INTEGER || generation > Number.MAX_SAFE_INTEGER) throw badHandle("range");
    const entry = this.findExport(exportId);
    if (entry === undefined || entry.fileSystem.id !== fileSystemId) {
      const fileSystem = this.absent.knownFileSystem(fileSystemId);
      const source = fileSystem && { id: exportId, fileSystem };
      if (source !== undefined && !this.#tagMatches(buffer, at, source, ino, generation)) throw badHandle("tag");
      throw this.#absent(exportId, entry !== undefined);
    }
    if (!this.#tagMatches(buffer, at, entry, ino, generation)) throw badHandle("tag");
    return { entry, ino, generation };
  }

  /** @param exported  another file system stands in its place */
  #absent(exportId: number, exported: boolean): StorageError {
    if (!exported && this.absent.isAwaited(exportId))
      return new StorageError("EBUSY", "the file system is not served now", { exportId });
    return new StorageError("ESTALE", "not exported any more", { exportId });
  }

  /** All words are compared, whatever the first says: the time tells nothing about the tag. */
  #tagMatches(buffer: Buffer, at: number, entry: TagSource, ino: number, generation: number): boolean {
    const tag = this.#tags.find(entry, ino, generation);
    const { words } = this.#tags;
    let difference = 0;
    for (let i = 0; i < TAG_WORDS; i++) difference |= word(buffer, at + HANDLE.tag + 4 * i) ^ (words[tag + i] ?? 0);
    return difference === 0;
  }
}

function putBody(target: Buffer, at: number, entry: TagSource, ino: number, generation: number): void {
  putU32(target, at + HANDLE.version, HANDLE_VERSION << 24);
  putU32(target, at + HANDLE.exportId, entry.id);
  putU32(target, at + HANDLE.fileSystemId, entry.fileSystem.id);
  putU64(target, at + HANDLE.ino, ino);
  putU64(target, at + HANDLE.generation, generation);
}

/** i32 */
function word(b: Buffer, at: number): number {
  return (b[at]! << 24) | (b[at + 1]! << 16) | (b[at + 2]! << 8) | b[at + 3]!;
}

function hyper(b: Buffer, at: number): number {
  return (word(b, at) >>> 0) * HIGH + (word(b, at + 4) >>> 0);
}

function badHandle(what: string): StorageError {
  return new StorageError("EBADHANDLE", "file handle was not made here", { what });
}
