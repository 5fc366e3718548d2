import type { BlockDevice } from "../../src/device/device.js";
import { checkRange, closedError, InFlight, totalBytes } from "../../src/device/range.js";

/** Their numbers are part of a run's trace. */
export const OPERATIONS = ["read", "write", "writeThrough", "flush"] as const;
export type Operation = (typeof OPERATIONS)[number];

/** What a simulated disk does for one who has opened it. */
export interface HandleParts {
  readonly name: string;
  readonly sizeBytes: number;
  /** The one who has opened it is gone. */
  readonly isDead: () => boolean;
  readonly request: (operation: Operation, buffers: readonly Buffer[], position: number) => Promise<void>;
}

/** A simulated disk as somebody has opened it, once. */
export class DeviceHandle implements BlockDevice {
  readonly name: string;
  readonly sizeBytes: number;
  readonly readOnly = false;
  readonly alignmentBytes = 1;
  readonly #inFlight = new InFlight();
  #closed: Promise<void> | null = null;

  constructor(private readonly parts: HandleParts) {
    this.name = parts.name;
    this.sizeBytes = parts.sizeBytes;
  }

  read(target: Buffer, position: number): Promise<void> {
    return this.#request("read", [target], position);
  }

  readv(targets: readonly Buffer[], position: number): Promise<void> {
    return this.#request("read", targets, position);
  }

  write(source: Buffer, position: number): Promise<void> {
    return this.#request("write", [source], position);
  }

  writev(sources: readonly Buffer[], position: number): Promise<void> {
    return this.#request("write", sources, position);
  }

  writeThrough(sources: readonly Buffer[], position: number): Promise<void> {
    return this.#request("writeThrough", sources, position);
  }

  flush(): Promise<void> {
    return this.#request("flush", [], 0);
  }

  close(): Promise<void> {
    this.#closed ??= this.#inFlight.drain();
    return this.#closed;
  }

  async #request(operation: Operation, buffers: readonly Buffer[], position: number): Promise<void> {
    if (this.#inFlight.closed || this.parts.isDead()) throw closedError(this.name, position);
    checkRange(this, position, totalBytes(buffers));
    this.#inFlight.enter();
    try {
      await this.parts.request(operation, buffers, position);
    } finally {
      this.#inFlight.leave();
    }
  }
}
