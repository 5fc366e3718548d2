import type { CommitParticipant } from "../pagestore/contract.js";
import type { InodeTable } from "./inode-table.js";
import type { ReplyLog } from "./reply-log.js";

/**
 * The file system's part of a commit: the contents layer's, and the inode rows. The contents layer seals first, since that fixes the
 * durable sizes and the block counts, and says which writes' answers go with it; the rows follow in the same synchronous piece, so that a record never has one without the other.
 */
export class FileSystemParticipant implements CommitParticipant {
  constructor(
    readonly contents: CommitParticipant,
    readonly inodes: InodeTable,
    readonly replies: ReplyLog,
  ) {}

  prepare(): Promise<void> {
    return this.contents.prepare();
  }

  seal(): readonly Buffer[] {
    const sidecar = this.contents.seal();
    this.inodes.flushDirty();
    this.replies.seal();
    return sidecar;
  }

  settle(): Promise<void> {
    return this.contents.settle();
  }

  durable(seq: number): void {
    this.contents.durable(seq);
  }

  releaseSidecars(seq: number): Promise<void> {
    return this.contents.releaseSidecars(seq);
  }

  oldestSidecar(): number {
    return this.contents.oldestSidecar();
  }

  releasePages(): number {
    return this.contents.releasePages();
  }
}
