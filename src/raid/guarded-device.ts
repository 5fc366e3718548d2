import type { BlockDevice, TurnWatcher } from "../device/device.js";

/**
 * A member of a group that another node may take over. Whether the group is still ours is asked once more at the very moment of each write, not only when a
 * journal record or a label begins: between there and here the process may have been stopped for longer than its lease (I-6). What remains is
 * the way from here to the disk.
 */
export class GuardedDevice implements BlockDevice {
  readonly name: string;
  readonly sizeBytes: number;
  readonly readOnly: boolean;
  readonly alignmentBytes: number;

  /** @param guard  throws StorageError ESTALE when the group is not ours any more */
  constructor(
    private readonly below: BlockDevice,
    private readonly guard: () => void,
  ) {
    this.name = below.name;
    this.sizeBytes = below.sizeBytes;
    this.readOnly = below.readOnly;
    this.alignmentBytes = below.alignmentBytes;
  }

  read(target: Buffer, position: number, turn?: TurnWatcher): Promise<void> {
    return this.below.read(target, position, turn);
  }

  readv(targets: readonly Buffer[], position: number, turn?: TurnWatcher): Promise<void> {
    return this.below.readv(targets, position, turn);
  }

  async write(source: Buffer, position: number, turn?: TurnWatcher): Promise<void> {
    this.guard();
    await this.below.write(source, position, turn);
  }

  async writev(sources: readonly Buffer[], position: number, turn?: TurnWatcher): Promise<void> {
    this.guard();
    await this.below.writev(sources, position, turn);
  }

  async writeThrough(sources: readonly Buffer[], position: number, turn?: TurnWatcher): Promise<void> {
    this.guard();
    await this.below.writeThrough(sources, position, turn);
  }

  flush(turn?: TurnWatcher): Promise<void> {
    return this.below.flush(turn);
  }

  abandonWaiting(): void {
    this.below.abandonWaiting?.();
  }

  close(): Promise<void> {
    return this.below.close();
  }
}
