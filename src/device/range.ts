import { StorageError } from "../lib/errors.js";
import type { BlockDevice } from "./device.js";

export function totalBytes(buffers: readonly Buffer[]): number {
  let sum = 0;
  for (const buffer of buffers) sum += buffer.length;
  return sum;
}

/**
 * What every device asks of a request before it looks at anything else.
 * @throws StorageError EINVAL when the range is not inside the device, or not aligned as direct I/O needs it
 */
export function checkRange(device: BlockDevice, position: number, byteCount: number): void {
  const { name, sizeBytes, alignmentBytes } = device;
  if (!Number.isSafeInteger(position) || position < 0 || position + byteCount > sizeBytes) {
    throw invalid(`range outside ${name} (${sizeBytes} bytes)`);
  }
  if (position % alignmentBytes !== 0 || byteCount % alignmentBytes !== 0) {
    throw invalid(`${name} takes multiples of ${alignmentBytes} bytes only`);
  }
  function invalid(text: string): StorageError {
    return new StorageError("EINVAL", text, { device: name, position, byteCount });
  }
}

/** @throws StorageError EROFS */
export function checkWritable(device: BlockDevice, position: number): void {
  if (!device.readOnly) return;
  throw new StorageError("EROFS", `${device.name} is open for reading only`, { device: device.name, position });
}

export function closedError(device: string, position: number): StorageError {
  return new StorageError("ENXIO", `${device} is closed`, { device, position });
}

/** Counts requests, so that closing can wait for the last one. */
export class InFlight {
  #count = 0;
  #closing: (() => void) | null = null;
  #closed = false;

  get closed(): boolean {
    return this.#closed;
  }

  enter(): void {
    this.#count++;
  }

  leave(): void {
    this.#count--;
    if (this.#count === 0) this.#closing?.();
  }

  /** From now on `closed` is true; resolves when nothing is in flight. Call once. */
  drain(): Promise<void> {
    this.#closed = true;
    if (this.#count === 0) return Promise.resolve();
    return new Promise((resolve) => {
      this.#closing = resolve;
    });
  }
}
