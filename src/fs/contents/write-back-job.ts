import { BLOCK_BYTES } from "../../lib/units.js";
import type { BlockWrites } from "./data-writer.js";
import { BlockFlag, type FileGroup, type FileState } from "./file-state.js";
import type { GroupTable } from "./group-table.js";
import { GROUP_BLOCKS } from "./limits.js";

/** The share of one inode in a write-back: all its dirty blocks at the moment of capture, entries `first` to `end` of the job. */
export interface JobPart {
  readonly state: FileState;
  readonly first: number;
  end: number;
  readonly groupCount: number;
  /** Writes up to this serial are in the captured versions. */
  readonly serial: number;
  /** The file's size at capture, or less when it was truncated since: blocks behind it are dropped, the last one is cut. */
  sizeBytes: number;
  truncated: boolean;
  /** Settles when the versions are published, or rejects when they could not be written. */
  done: Promise<void>;
}

/** Dirty blocks of one or more inodes on their way to the data LU. Blocks are in file order, inode after inode. */
export class WriteBackJob implements BlockWrites {
  readonly parts: JobPart[] = [];
  readonly groups: FileGroup[] = [];
  readonly slots: Uint8Array;
  readonly frames: Int32Array;
  readonly addresses: Float64Array;
  readonly crcs: Uint32Array;
  #count = 0;

  /** @param states inodes with dirty blocks and no write-back in flight */
  constructor(states: readonly FileState[]) {
    const blockCount = states.reduce((sum, state) => sum + state.dirtyCount, 0);
    this.slots = new Uint8Array(blockCount);
    this.frames = new Int32Array(blockCount);
    this.addresses = new Float64Array(blockCount);
    this.crcs = new Uint32Array(blockCount);
  }

  get blockCount(): number {
    return this.#count;
  }

  capture(table: GroupTable, state: FileState): JobPart {
    const { sizeBytes } = state.inode;
    const first = this.#count;
    const { serial } = state;
    const groups = [...state.dirtyGroups].sort((a, b) => a.index - b.index);
    const where = { state, first, end: first, groupCount: groups.length };
    const part: JobPart = { ...where, serial, sizeBytes, truncated: false, done: Promise.resolve() };
    for (const group of groups) this.#captureGroup(table, group);
    part.end = this.#count;
    state.job = part;
    this.parts.push(part);
    return part;
  }

  /** All blocks of one inode at once: the next seal takes them together. */
  publish(table: GroupTable, part: JobPart, releaseUnused: (address: number) => void): void {
    const { state } = part;
    const endBlock = state.dead ? 0 : Math.ceil(part.sizeBytes / BLOCK_BYTES);
    for (let i = part.first; i < part.end; i++) {
      const group = this.groups[i]!;
      const slot = this.slots[i]!;
      const block = group.index * GROUP_BLOCKS + slot;
      if (block < endBlock) {
        const valid = part.truncated ? Math.min(BLOCK_BYTES, part.sizeBytes - block * BLOCK_BYTES) : BLOCK_BYTES;
        table.publish(group, slot, this.frames[i]!, this.addresses[i]!, this.crcs[i]!, valid);
      } else {
        table.freeCaptured(this.frames[i]!);
        releaseUnused(this.addresses[i]!);
      }
    }
    state.job = null;
    state.publishedSerial = Math.max(state.publishedSerial, part.serial);
  }

  /** The write failed: what is still wanted of these parts is dirty again. */
  abandon(table: GroupTable, parts: readonly JobPart[], nowMs: number): void {
    for (const part of parts) {
      const endBlock = part.state.dead ? 0 : Math.ceil(part.sizeBytes / BLOCK_BYTES);
      for (let i = part.first; i < part.end; i++) {
        const group = this.groups[i]!;
        const slot = this.slots[i]!;
        if (group.index * GROUP_BLOCKS + slot < endBlock) table.uncapture(group, slot, this.frames[i]!, nowMs);
        else table.freeCaptured(this.frames[i]!);
      }
      part.state.job = null;
    }
  }

  #captureGroup(table: GroupTable, group: FileGroup): void {
    for (let slot = 0; slot < GROUP_BLOCKS; slot++) {
      if ((group.flags[slot]! & BlockFlag.dirty) === 0) continue;
      this.groups.push(group);
      this.slots[this.#count] = slot;
      this.frames[this.#count] = table.capture(group, slot);
      this.#count++;
    }
  }
}
