/** Told by a layer that lets a call wait for others of the same device. Time until it begins is not the disk's. */
export interface TurnWatcher {
  waits(): void;
  begins(): void;
}

/**
 * What RAID stands on: an array of bytes with a volatile cache. The contract, which every implementation and every layer
 * on top of one must pass (test/contract/block-device.ts):
 *
 * - `read` and `write` move the whole buffer or throw; short transfers are retried inside.
 * - A write is visible to later reads at once, and durable after a `flush` that began after the write resolved.
 * - Between write and flush a crash may keep any subset of the written 512-byte sectors.
 * - Buffers may live anywhere, but direct I/O needs address, length and position to be multiples of `alignmentBytes`.
 * - Errors are StorageError: EIO (the device failed), ENXIO (it is gone or closed), EINVAL (out of range), EROFS.
 *   An error carries `detail.device` (its name) and `detail.position`.
 * - `turn` is for layers that let calls wait; whoever has no such layer below leaves it alone.
 */
export interface BlockDevice {
  /** For people: the path, or a made-up name. */
  readonly name: string;
  /** Bytes, fixed while open, rounded down to whole blocks (4096). */
  readonly sizeBytes: number;
  readonly readOnly: boolean;
  /** 1 when anything goes; 4096 for direct I/O. */
  readonly alignmentBytes: number;

  read(target: Buffer, position: number, turn?: TurnWatcher): Promise<void>;
  /** One contiguous range of the device into several buffers. */
  readv(targets: readonly Buffer[], position: number, turn?: TurnWatcher): Promise<void>;
  write(source: Buffer, position: number, turn?: TurnWatcher): Promise<void>;
  /** Several buffers on to one contiguous range of the device. */
  writev(sources: readonly Buffer[], position: number, turn?: TurnWatcher): Promise<void>;
  /** As `writev`, and this range is durable when it resolves (O_DSYNC, FUA), without waiting for other unflushed writes. */
  writeThrough(sources: readonly Buffer[], position: number, turn?: TurnWatcher): Promise<void>;
  /** Everything written before this call is durable when it resolves. */
  flush(turn?: TurnWatcher): Promise<void>;
  /** Requests that wait for their turn and have not reached the disk are refused (EIO); those under way end as they will. Absent: nothing waits. */
  abandonWaiting?(): void;
  /** Releases the lock and the descriptor. Waits for I/O in flight. Idempotent. */
  close(): Promise<void>;
}
