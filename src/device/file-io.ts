import fs from "node:fs";
import type { StorageError } from "../lib/errors.js";
import type { Logger } from "../lib/log.js";
import { SharedFlush } from "../lib/shared-flush.js";
import { BLOCK_BYTES } from "../lib/units.js";
import { Bounce, looksAligned } from "./bounce.js";
import type { BlockDevice } from "./device.js";
import { errnoOf, transferError } from "./errno.js";
import { checkRange, checkWritable, closedError, InFlight, totalBytes } from "./range.js";
import { readSome, type TransferSome, transferAll, writeSome } from "./transfer.js";

/** An open file; see file-device.ts for how it comes about. */
export interface OpenFile {
  readonly name: string;
  readonly sizeBytes: number;
  /** Carries the lock. */
  readonly fd: number;
  /** The same file with O_DSYNC, or null when read-only. */
  readonly syncFd: number | null;
  /** Both descriptors are O_DIRECT. */
  readonly direct: boolean;
  readonly log: Logger;
  /** A transfer of direct I/O had to be copied, because of where its buffer lies. */
  readonly onBounce?: (() => void) | undefined;
}

/** A regular file, loop device or block device. I/O runs in libuv's thread pool; nothing here blocks the event loop. */
export class FileDevice implements BlockDevice {
  readonly name: string;
  readonly sizeBytes: number;
  readonly readOnly: boolean;
  readonly alignmentBytes: number;
  readonly #file: OpenFile;
  readonly #inFlight = new InFlight();
  readonly #flushes = new SharedFlush(() => this.#flushNow());
  readonly #bounce: Bounce;
  /**
   * The first failed flush. The kernel reports a page that it could not write once and then takes it for clean, so that the next
   * fdatasync would succeed without the data: from the first failure on this device never claims durability again.
   */
  #flushError: StorageError | null = null;
  #closed: Promise<void> | null = null;

  constructor(file: OpenFile) {
    this.#file = file;
    this.#bounce = new Bounce(file.onBounce);
    this.name = file.name;
    this.sizeBytes = file.sizeBytes;
    this.readOnly = file.syncFd === null;
    this.alignmentBytes = file.direct ? BLOCK_BYTES : 1;
  }

  read(target: Buffer, position: number): Promise<void> {
    return this.readv([target], position);
  }

  async readv(targets: readonly Buffer[], position: number): Promise<void> {
    this.#check(targets, position);
    this.#inFlight.enter();
    try {
      await this.#move(readSome, this.#file.fd, targets, position);
    } catch (error) {
      throw transferError(error, this.name, "read", position);
    } finally {
      this.#inFlight.leave();
    }
  }

  write(source: Buffer, position: number): Promise<void> {
    return this.#write(this.#file.fd, [source], position);
  }

  writev(sources: readonly Buffer[], position: number): Promise<void> {
    return this.#write(this.#file.fd, sources, position);
  }

  writeThrough(sources: readonly Buffer[], position: number): Promise<void> {
    return this.#write(this.#file.syncFd, sources, position);
  }

  async flush(): Promise<void> {
    if (this.#inFlight.closed) throw closedError(this.name, 0);
    if (this.readOnly) return;
    this.#inFlight.enter();
    try {
      await this.#flushes.flush();
    } finally {
      this.#inFlight.leave();
    }
  }

  close(): Promise<void> {
    this.#closed ??= this.#closeNow();
    return this.#closed;
  }

  #check(buffers: readonly Buffer[], position: number): void {
    if (this.#inFlight.closed) throw closedError(this.name, position);
    checkRange(this, position, totalBytes(buffers));
  }

  async #write(fd: number | null, sources: readonly Buffer[], position: number): Promise<void> {
    this.#check(sources, position);
    checkWritable(this, position);
    this.#inFlight.enter();
    try {
      await this.#move(writeSome, fd ?? this.#file.fd, sources, position);
    } catch (error) {
      throw transferError(error, this.name, "write", position);
    } finally {
      this.#flushes.wrote();
      this.#inFlight.leave();
    }
  }

  #move(some: TransferSome, fd: number, buffers: readonly Buffer[], position: number): Promise<void> {
    if (this.#file.direct) return this.#moveDirect(some, fd, buffers, position);
    return transferAll(some, fd, buffers, position);
  }

  async #moveDirect(some: TransferSome, fd: number, buffers: readonly Buffer[], position: number): Promise<void> {
    if (looksAligned(buffers)) {
      try {
        return await transferAll(some, fd, buffers, position);
      } catch (error) {
        // The address of a buffer's memory cannot be seen from here, only tried. Once more, through an aligned one.
        if (errnoOf(error) !== "EINVAL") throw error;
      }
    }
    if (some === readSome) await this.#bounce.read(fd, buffers, position);
    else await this.#bounce.write(fd, buffers, position);
  }

  async #flushNow(): Promise<void> {
    if (this.#flushError !== null) throw this.#flushError;
    try {
      await fdatasync(this.#file.fd);
    } catch (error) {
      this.#flushError = transferError(error, this.name, "flush", 0);
      this.#file.log.error({ device: this.name, errno: errnoOf(error) }, "flush failed: what was written may be lost");
      throw this.#flushError;
    }
  }

  async #closeNow(): Promise<void> {
    await this.#inFlight.drain();
    const { fd, syncFd, log } = this.#file;
    for (const one of syncFd === null ? [fd] : [syncFd, fd]) {
      const error = await closeFd(one);
      if (error !== null) log.warn({ device: this.name, errno: errnoOf(error) }, "close of a disk failed");
    }
  }
}

function fdatasync(fd: number): Promise<void> {
  return new Promise((resolve, reject) => fs.fdatasync(fd, (error) => (error ? reject(error) : resolve())));
}

/** The descriptor is gone whatever the answer is (close(2)). */
export function closeFd(fd: number): Promise<Error | null> {
  return new Promise((resolve) => fs.close(fd, (error) => resolve(error ?? null)));
}
