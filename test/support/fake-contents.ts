import type { ApplyObserver, ContentsFault, SpaceCount } from "../../src/fs/contents-contract.js";
import type { Inode, InodeMarks } from "../../src/fs/inode.js";
import type { ContentsLayer } from "../../src/fs/namespace.js";
import type { KeptReply } from "../../src/fs/vfs.js";
import { StorageError } from "../../src/lib/errors.js";
import { BLOCK_BYTES } from "../../src/lib/units.js";
import type { PageStore } from "../../src/pagestore/contract.js";

/** The contents layer's contract with every file in one Buffer in memory: for tests of the namespace above it. */
export class FakeContents implements ContentsLayer {
  readonly files = new Map<number, Buffer>();
  discarded = 0;
  /** Reads and writes return promises, as when data must be fetched. */
  slow = false;
  blocksFree = 1_000_000;

  constructor(
    readonly store: PageStore,
    readonly inodes: InodeMarks,
    readonly onReplySaved: (kept: KeptReply) => void = () => {},
  ) {}

  read(inode: Inode, offset: number, target: Buffer): number | Promise<number> {
    const count = this.#bytes(inode).subarray(offset).copy(target);
    return this.slow ? Promise.resolve(count) : count;
  }

  write(inode: Inode, offset: number, source: Buffer, observer: ApplyObserver): void | Promise<void> {
    if (this.slow) {
      return Promise.resolve().then(() => this.#write(inode, offset, source, observer));
    }
    this.#write(inode, offset, source, observer);
  }

  truncate(inode: Inode, sizeBytes: number, observer: ApplyObserver): void {
    observer.before();
    this.#resize(inode, sizeBytes);
    observer.after();
  }

  discard(inode: Inode): void {
    this.discarded++;
    this.files.delete(inode.ino);
  }

  async stabilize(_inode: Inode): Promise<void> {
    await this.store.durable();
  }

  keepReply(_inode: Inode, kept: KeptReply): void {
    this.onReplySaved(kept);
  }

  headAddress(ino: number): number {
    return this.files.has(ino) ? ino * BLOCK_BYTES : -1;
  }

  space(): SpaceCount {
    return { totalBlocks: 2_000_000, freeBlocks: this.blocksFree };
  }

  async *check(): AsyncIterable<ContentsFault> {}
  grow(): void {}
  async settleAll(): Promise<void> {}
  async close(): Promise<void> {}
  async prepare(): Promise<void> {}
  seal(): readonly Buffer[] {
    return [];
  }
  async settle(): Promise<void> {}
  durable(): void {}
  async releaseSidecars(): Promise<void> {}
  oldestSidecar(): number {
    return Number.POSITIVE_INFINITY;
  }

  releasePages(): number {
    return 0;
  }

  #bytes(inode: Inode): Buffer {
    return this.files.get(inode.ino) ?? Buffer.alloc(inode.sizeBytes);
  }

  #write(inode: Inode, offset: number, source: Buffer, observer: ApplyObserver): void {
    if (this.blocksFree === 0) throw new StorageError("ENOSPC", "no space");
    observer.before();
    if (offset + source.length > inode.sizeBytes) this.#resize(inode, offset + source.length);
    source.copy(this.#bytes(inode), offset);
    observer.after();
  }

  #resize(inode: Inode, sizeBytes: number): void {
    const bytes = Buffer.alloc(sizeBytes);
    this.#bytes(inode).copy(bytes);
    this.files.set(inode.ino, bytes);
    inode.sizeBytes = sizeBytes;
    inode.durableSizeBytes = sizeBytes;
    inode.usedBlocks = Math.ceil(sizeBytes / BLOCK_BYTES);
    this.inodes.markDirty(inode);
  }
}
