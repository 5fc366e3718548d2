import { assert } from "../../lib/assert.js";
import { BlockViews } from "../../lib/block-views.js";
import type { FileGroup } from "./file-state.js";

/**
 * States of a frame:
 *
 *   free      on the free list
 *   clean     attached; equals the block on the data LU; may be evicted
 *   dirty     attached; only here
 *   writing   a write-back reads it: not changed, not freed until that ends; attached, or detached when its block was written again
 *   loading   a read of the data LU fills it; not attached yet
 */
export const FrameState = { free: 0, clean: 1, dirty: 2, writing: 3, loading: 4 } as const;
export type FrameState = (typeof FrameState)[keyof typeof FrameState];

interface RoomWaiter {
  readonly frameCount: number;
  resolve(): void;
  reject(error: unknown): void;
}

/**
 * The data cache: 4 KiB frames in one reservation of the arena.
 *
 * Pinned frames (dirty or writing) are bounded to half the cache: a writer first gets room for its frames, and waits while write-back
 * makes some. Clients take turns there, so that nobody waits behind all that another one has sent. A quarter at most is loading. So a frame can always be taken by whoever was let in.
 */
export class FrameCache {
  readonly frameCount: number;
  readonly states: Uint8Array;
  readonly owners: (FileGroup | null)[];
  readonly slots: Uint8Array;
  /** CRC-32C of what a dirty frame holds, where it is known: 0 in `#checked` says that it is not. */
  readonly #crcs: Uint32Array;
  readonly #checked: Uint8Array;
  readonly pinnedMax: number;
  readonly loadingMax: number;
  readonly #views: BlockViews;
  readonly #recentlyUsed: Uint8Array;
  readonly #free: Int32Array;
  #freeCount: number;
  #hand = 0;
  #pinnedCount = 0;
  #reservedCount = 0;
  #loadingCount = 0;
  /** By client, in turn. */
  readonly #roomWaiters = new Map<string, RoomWaiter[]>();
  /** What the first of them wants; 0: nobody waits. Asked for each frame that is written back. */
  #nextFrameCount = 0;
  readonly #loadWaiters: Array<() => void> = [];

  constructor(memory: Buffer) {
    this.#views = new BlockViews(memory);
    const frameCount = this.#views.count;
    this.frameCount = frameCount;
    this.states = new Uint8Array(frameCount);
    this.owners = new Array<FileGroup | null>(frameCount).fill(null);
    this.slots = new Uint8Array(frameCount);
    this.#crcs = new Uint32Array(frameCount);
    this.#checked = new Uint8Array(frameCount);
    this.#recentlyUsed = new Uint8Array(frameCount);
    this.#free = Int32Array.from({ length: frameCount }, (_, i) => frameCount - 1 - i);
    this.#freeCount = frameCount;
    this.pinnedMax = Math.floor(frameCount / 2);
    this.loadingMax = Math.floor(frameCount / 4);
  }

  get pinnedCount(): number {
    return this.#pinnedCount;
  }

  get usedCount(): number {
    return this.frameCount - this.#freeCount;
  }

  get someoneWaits(): boolean {
    return this.#nextFrameCount > 0;
  }

  view(frame: number): Buffer {
    return this.#views.at(frame);
  }

  /** The content of a dirty frame, all of it, has this CRC-32C. Forgotten as soon as the frame may change. */
  noteChecksum(frame: number, crc: number): void {
    assert(this.states[frame] === FrameState.dirty, "a dirty frame is checked");
    this.#crcs[frame] = crc;
    this.#checked[frame] = 1;
  }

  /** @returns -1: not known */
  checksumOf(frame: number): number {
    return this.#checked[frame] === 1 ? this.#crcs[frame]! : -1;
  }

  touch(frame: number): void {
    this.#recentlyUsed[frame] = 1;
  }

  /** Whether `frameCount` frames may become pinned at once, ahead of nobody. */
  hasRoom(frameCount: number): boolean {
    return this.#nextFrameCount === 0 && this.#fits(frameCount);
  }

  /** Wait for room, in the client's turn, and keep it until `unreserve`. Rejects when write-back failed meanwhile. */
  async reserve(frameCount: number, client: string): Promise<void> {
    assert(frameCount <= this.pinnedMax, "one write fits into the dirty bound");
    if (this.hasRoom(frameCount)) {
      this.#reservedCount += frameCount;
      return;
    }
    await new Promise<void>((resolve, reject) => {
      const line = this.#roomWaiters.get(client) ?? [];
      line.push({ frameCount, resolve, reject });
      this.#roomWaiters.set(client, line);
      this.#seeNext();
    });
  }

  unreserve(frameCount: number): void {
    this.#reservedCount -= frameCount;
    this.#admit();
  }

  /** Nothing can be written back: whoever waits for room learns it. */
  failWaiters(error: unknown): void {
    const waiters = [...this.#roomWaiters.values()].flat();
    this.#roomWaiters.clear();
    this.#seeNext();
    for (const waiter of waiters) waiter.reject(error);
  }

  /** A frame for a new version of a block, attached. The caller has room. */
  takeDirty(group: FileGroup, slot: number): number {
    const frame = this.#take();
    assert(frame >= 0, "whoever has room finds a frame");
    this.#attach(frame, group, slot);
    this.states[frame] = FrameState.dirty;
    this.#checked[frame] = 0;
    this.#pinnedCount++;
    return frame;
  }

  /** A frame to read into. The caller has seen `canLoad`. */
  takeLoading(): number {
    const frame = this.#take();
    assert(frame >= 0, "whoever may load finds a frame");
    this.states[frame] = FrameState.loading;
    this.#loadingCount++;
    return frame;
  }

  /** Whether `frameCount` frames may be loading on top of those that are. */
  canLoad(frameCount: number): boolean {
    return this.#loadingCount + frameCount <= this.loadingMax;
  }

  /** Resolves when some loading frame has ended. Only while one is loading. */
  loadingEnd(): Promise<void> {
    assert(this.#loadingCount > 0, "some frame is loading");
    return new Promise((resolve) => this.#loadWaiters.push(resolve));
  }

  /** The frame is filled: it becomes the clean frame of this block. */
  loaded(frame: number, group: FileGroup, slot: number): void {
    this.#endLoading(frame);
    this.#attach(frame, group, slot);
    this.states[frame] = FrameState.clean;
  }

  /** The frame was not needed after all. */
  dropLoading(frame: number): void {
    this.#endLoading(frame);
    this.#release(frame);
  }

  /** clean, or writing again after a failed write-back, to dirty; or dirty already, and about to be changed. */
  makeDirty(frame: number): void {
    this.#checked[frame] = 0;
    if (this.states[frame] === FrameState.clean) this.#pinnedCount++;
    this.states[frame] = FrameState.dirty;
    this.#recentlyUsed[frame] = 1;
  }

  makeWriting(frame: number): void {
    assert(this.states[frame] === FrameState.dirty, "a dirty frame is captured");
    this.states[frame] = FrameState.writing;
  }

  /** Published: what the frame holds is on the data LU. */
  makeClean(frame: number): void {
    assert(this.states[frame] === FrameState.writing, "a captured frame is published");
    this.states[frame] = FrameState.clean;
    this.#unpin();
  }

  /** The block has no use for this frame any more. A frame being written is only detached: its write-back frees it. */
  detach(frame: number): void {
    const group = this.owners[frame]!;
    group.frames[this.slots[frame]!] = -1;
    group.frameCount--;
    this.owners[frame] = null;
    if (this.states[frame] === FrameState.writing) return;
    const pinned = this.states[frame] === FrameState.dirty;
    this.#release(frame);
    if (pinned) this.#unpin();
  }

  /** The write-back of a detached frame has ended. */
  freeWritten(frame: number): void {
    assert(this.owners[frame] === null, "only a detached frame is freed by its write-back");
    assert(this.states[frame] === FrameState.writing, "the frame was being written");
    this.#release(frame);
    this.#unpin();
  }

  #fits(frameCount: number): boolean {
    return this.#pinnedCount + this.#reservedCount + frameCount <= this.pinnedMax;
  }

  #admit(): void {
    while (this.#nextFrameCount > 0 && this.#fits(this.#nextFrameCount)) {
      const [client, line] = this.#roomWaiters.entries().next().value!;
      const waiter = line.shift()!;
      // Behind the others, or away.
      this.#roomWaiters.delete(client);
      if (line.length > 0) this.#roomWaiters.set(client, line);
      this.#seeNext();
      this.#reservedCount += waiter.frameCount;
      waiter.resolve();
    }
  }

  #seeNext(): void {
    const [line] = this.#roomWaiters.values();
    this.#nextFrameCount = line?.[0]?.frameCount ?? 0;
  }

  #unpin(): void {
    this.#pinnedCount--;
    if (this.#nextFrameCount > 0) this.#admit();
  }

  #endLoading(frame: number): void {
    assert(this.states[frame] === FrameState.loading, "the frame was loading");
    this.#loadingCount--;
    this.#loadWaiters.shift()?.();
  }

  #attach(frame: number, group: FileGroup, slot: number): void {
    assert(group.frames[slot] === -1, "a block has one frame");
    this.owners[frame] = group;
    this.slots[frame] = slot;
    this.#recentlyUsed[frame] = 1;
    group.frames[slot] = frame;
    group.frameCount++;
  }

  #release(frame: number): void {
    this.states[frame] = FrameState.free;
    this.#free[this.#freeCount++] = frame;
  }

  #take(): number {
    if (this.#freeCount > 0) return this.#free[--this.#freeCount]!;
    // Twice round: the first time may only find frames that were used lately.
    for (let step = 2 * this.frameCount; step > 0; step--) {
      const frame = this.#hand;
      this.#hand = frame + 1 === this.frameCount ? 0 : frame + 1;
      if (this.states[frame] !== FrameState.clean) continue;
      if (this.#recentlyUsed[frame] === 1) {
        this.#recentlyUsed[frame] = 0;
        continue;
      }
      this.detach(frame);
      return this.#free[--this.#freeCount]!;
    }
    return -1;
  }
}
