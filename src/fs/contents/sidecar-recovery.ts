import type { Touch } from "./commit-work.js";
import { decodeSidecar, type SidecarReader } from "./sidecar.js";

/** One block that is newer than what the extents say. */
export interface RecoveredBlock {
  readonly seq: number;
  /** 1 to 4096 bytes; the rest of the block is zero. Its own memory. */
  readonly data: Buffer;
}

/**
 * Collects the sidecars while the page store replays its log, before there is a file system to take them: give it every record in order,
 * then hand it to `FileContents.start`. It holds what is still wanted after each record, which is what the cache held then.
 */
export class SidecarRecovery implements SidecarReader {
  readonly files = new Map<number, Map<number, RecoveredBlock>>();
  #seq = 0;

  /**
   * The page store's `onReplay`.
   * @param seq      number of the record
   * @param sidecar  borrowed; may be empty
   * @throws StorageError EIO when it is damaged
   */
  replay(seq: number, sidecar: Buffer): void {
    if (sidecar.length === 0) return;
    this.#seq = seq;
    decodeSidecar(sidecar, this);
  }

  touch(touch: Touch): void {
    const blocks = this.files.get(touch.ino);
    if (blocks === undefined) return;
    if (touch.validBytes >= 0) this.#cut(blocks, touch);
    else this.#forget(blocks, touch);
    if (blocks.size === 0) this.files.delete(touch.ino);
  }

  intent(ino: number, block: number, data: Buffer): void {
    let blocks = this.files.get(ino);
    if (blocks === undefined) {
      blocks = new Map();
      this.files.set(ino, blocks);
    }
    blocks.set(block, { seq: this.#seq, data: Buffer.from(data) });
  }

  #forget(blocks: Map<number, RecoveredBlock>, touch: Touch): void {
    if (touch.blockCount === 1) {
      blocks.delete(touch.firstBlock);
      return;
    }
    const end = touch.firstBlock + touch.blockCount;
    for (const block of blocks.keys()) if (block >= touch.firstBlock && block < end) blocks.delete(block);
  }

  #cut(blocks: Map<number, RecoveredBlock>, touch: Touch): void {
    const known = blocks.get(touch.firstBlock);
    if (known === undefined || known.data.length <= touch.validBytes) return;
    // Cut to nothing it is still a version: a block of zeros over whatever the extents say.
    known.data.fill(0, touch.validBytes);
  }
}
