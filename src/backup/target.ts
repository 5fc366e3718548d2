import { createReadStream, constants as fsConstants, write as writeFd } from "node:fs";
import { type FileHandle, open, stat } from "node:fs/promises";
import { setTimeout as pause } from "node:timers/promises";
import { promisify } from "node:util";
import { isStorageError, messageOf, StorageError } from "../lib/errors.js";
import { formatSize } from "../lib/size.js";
import { KIB, MIB } from "../lib/units.js";
import { type BackupHeader, BLOCK, MAGIC } from "./format.js";
import { type ScannedPart, StreamScanner } from "./scan.js";

/** Where a backup goes, or comes from: a path, or this for standard output and input. */
export const STANDARD_STREAM = "-";

const READ_BYTES = 512 * KIB;
/** So often what was written is made durable: a target that fails is found out while there is little to lose. */
const SYNC_BYTES = 64 * MIB;
/** A pipe that another process has made non-blocking is asked again after so many milliseconds. */
const FULL_PIPE_MS = 5;

const writeAt = promisify(writeFd);

/** What stands at a target before it is written. */
export type TargetState =
  | { readonly kind: "empty" }
  /** Nothing can be known about it: a pipe, a tape. */
  | { readonly kind: "stream" }
  | { readonly kind: "foreign" }
  | { readonly kind: "finished"; readonly header: BackupHeader }
  /** A backup that was broken off behind a group; `at`: where another part begins. */
  | { readonly kind: "unfinished"; readonly part: ScannedPart; readonly at: number };

/** @throws StorageError EIO when it cannot be looked at */
export async function inspectTarget(place: string): Promise<TargetState> {
  if (place === STANDARD_STREAM) return { kind: "stream" };
  const found = await stat(place).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return null;
    throw targetError(place, error, 0);
  });
  if (found === null || (found.isFile() && found.size === 0)) return { kind: "empty" };
  if (found.isDirectory()) throw new StorageError("EINVAL", `the target ${place} is a folder`);
  if (!found.isFile() && !found.isBlockDevice()) return { kind: "stream" };
  return await whatStandsThere(place);
}

async function whatStandsThere(place: string): Promise<TargetState> {
  const scanner = new StreamScanner(readTarget(place));
  try {
    await scanner.run();
  } catch (error) {
    if (!isStorageError(error)) throw error;
  }
  const part = scanner.parts.at(-1);
  if (part === undefined) return { kind: (await holdsNothing(place)) ? "empty" : "foreign" };
  if (part.end !== null) return { kind: "finished", header: part.header };
  return { kind: "unfinished", part, at: scanner.goodBytes };
}

/** Zeros, or less than the first block of a backup. */
async function holdsNothing(place: string): Promise<boolean> {
  const pieces: Buffer[] = [];
  for await (const piece of readTarget(place, 0, BLOCK.end)) pieces.push(Buffer.from(piece));
  const start = Buffer.concat(pieces);
  if (start.length < BLOCK.end && start.subarray(0, MAGIC.length).equals(MAGIC)) return true;
  return start.every((byte) => byte === 0);
}

/** The same bytes in pieces of whole blocks; the last may be short. A socket hands them out as it likes. */
export async function* wholeBlocks(source: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let rest: Buffer = Buffer.alloc(0);
  for await (const piece of source) {
    const all = rest.length === 0 ? piece : Buffer.concat([rest, piece]);
    const end = all.length - (all.length % BLOCK.end);
    if (end > 0) yield all.subarray(0, end);
    rest = all.subarray(end);
  }
  if (rest.length > 0) yield rest;
}

/** The bytes of a file or device, or of standard input. @throws StorageError ENOENT, EIO */
export async function* readTarget(place: string, from = 0, to = Number.POSITIVE_INFINITY): AsyncGenerator<Buffer> {
  const range = to === Number.POSITIVE_INFINITY ? { start: from } : { start: from, end: to - 1 };
  const source =
    place === STANDARD_STREAM ? process.stdin : createReadStream(place, { ...range, highWaterMark: READ_BYTES });
  try {
    for await (const piece of source) yield Buffer.isBuffer(piece) ? piece : Buffer.from(String(piece));
  } catch (error) {
    const missing = (error as NodeJS.ErrnoException).code === "ENOENT";
    throw new StorageError(missing ? "ENOENT" : "EIO", `${place} cannot be read: ${messageOf(error)}`, {}, error);
  }
}

/** Writes a stream, from its start or behind what is there already. Every error is a sentence that names the target. */
export class TargetWriter {
  #at: number;
  #unsynced = 0;

  private constructor(
    private readonly place: string,
    private readonly file: FileHandle | null,
    private readonly seekable: boolean,
    from: number,
  ) {
    this.#at = from;
  }

  /** @param from  byte at which a part begins; what stands behind is given up */
  static async open(place: string, from = 0): Promise<TargetWriter> {
    if (place === STANDARD_STREAM) return new TargetWriter(place, null, false, 0);
    try {
      const file = await open(place, fsConstants.O_WRONLY | fsConstants.O_CREAT, 0o600);
      const found = await file.stat();
      if (found.isFile()) await file.truncate(from);
      return new TargetWriter(place, file, found.isFile() || found.isBlockDevice(), from);
    } catch (error) {
      throw targetError(place, error, 0);
    }
  }

  /** Of the stream, with what was there before. */
  get byteCount(): number {
    return this.#at;
  }

  /** @throws StorageError ENOSPC, EIO */
  async write(piece: Buffer): Promise<void> {
    for (let done = 0; done < piece.length; ) {
      const count = await this.#writeSome(piece.subarray(done));
      done += count;
      this.#at += count;
    }
    this.#unsynced += piece.length;
    if (this.#unsynced >= SYNC_BYTES) await this.#sync();
  }

  /** All of it is durable, and the target is still the one that its name says. @throws StorageError ENOSPC, EIO */
  async finish(): Promise<void> {
    await this.#endDevice();
    await this.#sync();
    await this.#requireThere();
  }

  async close(): Promise<void> {
    await this.file?.close().catch(() => {});
  }

  async #writeSome(bytes: Buffer): Promise<number> {
    try {
      if (this.file === null) return (await writeAt(1, bytes)).bytesWritten;
      const position = this.seekable ? this.#at : null;
      return (await this.file.write(bytes, 0, bytes.length, position)).bytesWritten;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EAGAIN") throw targetError(this.place, error, this.#at);
      await pause(FULL_PIPE_MS);
      return 0;
    }
  }

  async #sync(): Promise<void> {
    this.#unsynced = 0;
    if (this.file === null || !this.seekable) return;
    await this.file.datasync().catch((error: unknown) => {
      throw targetError(this.place, error, this.#at);
    });
  }

  /** What a longer backup has left on a device must not look like a part of this one. */
  async #endDevice(): Promise<void> {
    if (this.file === null || !(await this.file.stat()).isBlockDevice()) return;
    await this.file.write(Buffer.alloc(BLOCK.end), 0, BLOCK.end, this.#at).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== "ENOSPC") throw targetError(this.place, error, this.#at);
    });
  }

  async #requireThere(): Promise<void> {
    if (this.file === null || !this.seekable) return;
    const [named, written] = [await stat(this.place).catch(() => null), await this.file.stat()];
    if (named?.ino === written.ino && named.dev === written.dev) return;
    throw new StorageError("EIO", `the target ${this.place} disappeared while it was written`);
  }
}

/** Room is what is missing, or the target itself. */
const FULL: ReadonlySet<string | undefined> = new Set(["ENOSPC", "EDQUOT", "EFBIG"]);

function targetError(place: string, error: unknown, at: number): StorageError {
  const name = place === STANDARD_STREAM ? "standard output" : `the target ${place}`;
  const { code } = error as NodeJS.ErrnoException;
  if (FULL.has(code)) {
    return new StorageError("ENOSPC", `${name} is too small: it is full after ${formatSize(at)}`, {}, error);
  }
  if (code === "EPIPE") return new StorageError("EIO", `whoever read ${name} has gone`, {}, error);
  const denied = code === "EACCES" || code === "EPERM" || code === "EROFS";
  return new StorageError(denied ? "EACCES" : "EIO", `${name} cannot be written: ${messageOf(error)}`, {}, error);
}
