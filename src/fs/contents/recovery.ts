import type Database from "better-sqlite3";
import type { Clock } from "../../lib/clock.js";
import { BLOCK_BYTES } from "../../lib/units.js";
import type { InodeMarks } from "../inode.js";
import type { Committer } from "./committer.js";
import type { FileState } from "./file-state.js";
import type { FrameCache } from "./frame-cache.js";
import type { GroupTable } from "./group-table.js";
import { GROUP_BLOCKS } from "./limits.js";
import type { RecoveredBlock, SidecarRecovery } from "./sidecar-recovery.js";
import type { WriteBack } from "./write-back.js";

export interface RecoveryParts {
  readonly db: Database.Database;
  readonly table: GroupTable;
  readonly frames: FrameCache;
  readonly committer: Committer;
  readonly writeBack: WriteBack;
  readonly inodes: InodeMarks;
  readonly clock: Clock;
  /** Write everything back and commit it. */
  readonly relieve: () => Promise<void>;
}

/** Blocks that rows count and that a crash has lost: take them off again. */
export function settleUsedBlocks({ db, inodes }: RecoveryParts): void {
  const rows = db.prepare<[], [number, number]>("SELECT ino, blocks FROM unsettled").raw().all();
  for (const [ino, blocks] of rows) {
    const inode = inodes.load(ino);
    if (inode === null) continue;
    inode.usedBlocks -= blocks;
    inodes.markDirty(inode);
  }
  if (rows.length > 0) db.exec("DELETE FROM unsettled");
}

/** Load what the log holds and the data LU does not, as dirty blocks. Written back on the way when the cache cannot hold it. */
export async function loadIntents(parts: RecoveryParts, recovery: SidecarRecovery): Promise<number> {
  let blockCount = 0;
  for (const seq of seqsOf(recovery)) parts.committer.adoptRecord(seq);
  for (const [ino, blocks] of recovery.files) {
    const inode = parts.inodes.load(ino);
    if (inode === null) continue;
    const state = parts.table.stateOf(inode);
    for (const [block, recovered] of blocks) {
      if (block * BLOCK_BYTES >= inode.sizeBytes) continue;
      if (!parts.frames.hasRoom(1)) await parts.writeBack.writeBackAll();
      const { table } = parts;
      if (table.pendingRowCount >= table.rowsMax || !table.publishable(state, 1, 1)) await parts.relieve();
      loadIntent(parts, parts.table.stateOf(inode), block, recovered);
      blockCount++;
    }
    parts.table.forgetIdle(state);
  }
  recovery.files.clear();
  return blockCount;
}

function loadIntent(parts: RecoveryParts, state: FileState, block: number, recovered: RecoveredBlock): void {
  const { table, frames, committer, clock } = parts;
  const slot = block % GROUP_BLOCKS;
  const group = table.group(state, Math.floor(block / GROUP_BLOCKS));
  const frame = group.frames[slot]! >= 0 ? group.frames[slot]! : frames.takeDirty(group, slot);
  const view = frames.view(frame);
  recovered.data.copy(view);
  view.fill(0, recovered.data.length);
  table.markRecovered(group, slot, committer.adoptRecord(recovered.seq), clock.monotonicMs());
}

function seqsOf(recovery: SidecarRecovery): number[] {
  const seqs = new Set<number>();
  for (const blocks of recovery.files.values()) for (const { seq } of blocks.values()) seqs.add(seq);
  return [...seqs].sort((a, b) => a - b);
}
