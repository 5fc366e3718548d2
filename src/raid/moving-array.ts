import { assert } from "../lib/assert.js";
import { StorageError } from "../lib/errors.js";
import { allSettledOrThrow } from "../lib/mutex.js";
import { BLOCK_BYTES } from "../lib/units.js";
import type { GroupCore, RaidArray } from "./core.js";
import type { Raid5Geometry } from "./geometry.js";
import { slicePieces, totalBytes } from "./pieces.js";
import type { Raid5Array } from "./raid5.js";
import { RangeGate } from "./range-gate.js";
import type { RowsToRebuild } from "./rebuild-rows.js";
import { Traffic } from "./traffic.js";

/** Chunk rows of an LU that one mapping owns, in bytes of its member space. */
export interface MappedRows {
  readonly array: Raid5Array;
  readonly from: number;
  readonly to: number;
}

/**
 * A RAID-5 LU while it is spread over more members. Its rows stay the same; its bytes below `movedBytes` lie as on the new number of
 * members, the others as on the old one. With s stripes moved, chunk rows from 0 to s-1 belong to the new mapping, those from the old
 * stripe that holds byte `movedBytes` on to the old one, and nobody reads those between. move-window.ts moves the boundary; requests are
 * kept off the bytes that it moves.
 */
export class MovingArray implements RaidArray {
  readonly #core: GroupCore;
  readonly #gate = new RangeGate();
  /** Who works on rows (rebuild, scrub) and must not see them move. */
  readonly #visitors = new Traffic();
  #moving: Promise<void> | null = null;
  #movedBytes: number;
  #done = false;
  /** The labels may say something else than `movedBytes`: no byte has a place that is surely right. */
  #broken: unknown = null;

  /** @param geometry  of `next` */
  constructor(
    core: GroupCore,
    readonly old: Raid5Array,
    readonly next: Raid5Array,
    readonly geometry: Raid5Geometry,
    movedBytes: number,
  ) {
    assert(movedBytes % next.stripeBytes === 0, "whole stripes are moved");
    this.#core = core;
    this.#movedBytes = movedBytes;
  }

  get movedBytes(): number {
    return this.#movedBytes;
  }

  /** As long as it is being moved it is as large as it was. */
  get sizeBytes(): number {
    return this.#done ? this.next.sizeBytes : this.old.sizeBytes;
  }

  get stripeBytes(): number {
    return this.#done ? this.next.stripeBytes : this.old.stripeBytes;
  }

  // Requests

  #pass<T>(at: number, byteCount: number, action: () => Promise<T>): Promise<T> {
    return this.#gate.pass(at, at + byteCount, () => {
      if (this.#broken !== null) throw this.#brokenError();
      return action();
    });
  }

  #brokenError(): StorageError {
    const { name } = this.#core;
    return new StorageError("EIO", `group "${name}": an LU that is being moved has lost its labels`, {}, this.#broken);
  }

  /** Hand each mapping its part. Called inside the gate, so that the boundary does not come to lie inside the range. */
  async #split(
    buffers: readonly Buffer[],
    at: number,
    action: (array: Raid5Array, buffers: readonly Buffer[], at: number) => Promise<void>,
  ): Promise<void> {
    const byteCount = totalBytes(buffers);
    const below = Math.min(Math.max(this.#movedBytes - at, 0), byteCount);
    if (below === byteCount) return action(this.next, buffers, at);
    if (below === 0) return action(this.old, buffers, at);
    await allSettledOrThrow([
      action(this.next, slicePieces(buffers, 0, below), at),
      action(this.old, slicePieces(buffers, below, byteCount - below), at + below),
    ]);
  }

  readv(targets: readonly Buffer[], at: number): Promise<void> {
    return this.#pass(at, totalBytes(targets), () =>
      this.#split(targets, at, (array, part, partAt) => array.readv(part, partAt)),
    );
  }

  writev(sources: readonly Buffer[], at: number): Promise<void> {
    return this.#pass(at, totalBytes(sources), () =>
      this.#split(sources, at, (array, part, partAt) => array.writev(part, partAt)),
    );
  }

  async writeThrough(sources: readonly Buffer[], at: number): Promise<void> {
    await this.writev(sources, at);
    await this.flush();
  }

  async flush(): Promise<void> {
    if (this.#done) return this.next.flush();
    await allSettledOrThrow([this.next.flush(), this.old.flush()]);
  }

  #ownerOf(at: number): Raid5Array {
    return at < this.#movedBytes ? this.next : this.old;
  }

  /** The gate is passed at each step anew: whoever looks at an alternative may want to write before the next one. */
  async *readAlternatives(target: Buffer, at: number): AsyncIterable<void> {
    let owner: Raid5Array | null = null;
    let ways: AsyncIterator<void> | null = null;
    for (;;) {
      const step = await this.#pass(at, BLOCK_BYTES, () => {
        const now = this.#ownerOf(at);
        if (owner !== now || ways === null) ways = now.readAlternatives(target, at)[Symbol.asyncIterator]();
        owner = now;
        return ways.next();
      });
      if (step.done === true) return;
      yield;
    }
  }

  heal(good: Buffer, at: number): Promise<void> {
    return this.#pass(at, BLOCK_BYTES, () => this.#ownerOf(at).heal(good, at));
  }

  // Rows

  /** [from, to) of the LU's member space by the mapping that owns it; rows that nobody reads are left out. Good while no row moves. */
  rowsOf(from: number, to: number): MappedRows[] {
    const { chunkBytes } = this.geometry;
    const moved = (this.#movedBytes / this.next.stripeBytes) * chunkBytes;
    const unmoved = Math.floor(this.#movedBytes / this.old.stripeBytes) * chunkBytes;
    const parts = [
      { array: this.next, from, to: Math.min(to, moved) },
      { array: this.old, from: Math.max(from, unmoved), to },
    ];
    return parts.filter((part) => part.from < part.to && !(this.#done && part.array === this.old));
  }

  /** Run `action` while no row moves. */
  async visit<T>(action: () => Promise<T>): Promise<T> {
    while (this.#moving !== null) await this.#moving;
    this.#visitors.enter();
    try {
      return await action();
    } finally {
      this.#visitors.leave();
    }
  }

  exclusive<T>(from: number, to: number, action: () => Promise<T>): Promise<T> {
    return this.visit(() => {
      const locked = this.rowsOf(from, to).reduceRight(
        (inner, rows) => () => rows.array.exclusive(rows.from, rows.to, inner),
        action,
      );
      return locked();
    });
  }

  takeBack(at: number): Promise<boolean> {
    return this.#pass(at, BLOCK_BYTES, () => this.#ownerOf(at).takeBack(at));
  }

  async drain(): Promise<void> {
    await this.next.drain();
    if (!this.#done) await this.old.drain();
  }

  async resync(from: number, to: number): Promise<number> {
    return this.visit(async () => {
      let written = 0;
      for (const rows of this.rowsOf(from, to)) written += await rows.array.resync(rows.from, rows.to);
      return written;
    });
  }

  async rebuild(rows: RowsToRebuild): Promise<number> {
    return this.visit(async () => {
      let lost = 0;
      for (const { array, from, to } of this.rowsOf(rows.from, rows.to))
        lost += await array.rebuild({ ...rows, from, to });
      return lost;
    });
  }

  span(from: number, to: number): { from: number; to: number } {
    return this.old.span(from, to);
  }

  /** Not while it is being moved; scrub-work.ts does not come here. @throws StorageError EBUSY */
  async scrub(): Promise<void> {
    throw new StorageError("EBUSY", `group "${this.#core.name}": an LU is being spread over more disks`);
  }

  /** Nobody will use it any more; nothing of it is in memory. */
  leave(): void {
    this.next.leave();
    if (!this.#done) this.old.leave();
  }

  // For whoever moves it

  /** Wait for nothing: who waits for visitors must not hold what they may wait for. @returns null while there are visitors */
  tryMove<T>(action: () => Promise<T>): Promise<T> | null {
    assert(this.#moving === null, "one window is moved at a time");
    if (!this.#visitors.idle) return null;
    const moving = action();
    this.#moving = moving.then(
      () => {},
      () => {},
    );
    return moving.finally(() => (this.#moving = null));
  }

  visitorsGone(): Promise<void> {
    return this.#visitors.gone();
  }

  /** Run `action` while no request touches the bytes [from, to) of the LU. */
  async closed<T>(from: number, to: number, action: () => Promise<T>): Promise<T> {
    await this.#gate.close(from, to);
    try {
      return await action();
    } finally {
      this.#gate.open();
    }
  }

  /** The labels say so now; called while these bytes are closed. */
  advance(movedBytes: number): void {
    assert(movedBytes > this.#movedBytes, "the boundary only rises");
    this.#movedBytes = movedBytes;
  }

  break(error: unknown): void {
    this.#broken = error;
  }

  /**
   * All is moved, and the labels know only the new mapping. Who still holds this object is served by that.
   * @returns the array that takes its place
   */
  finish(): Raid5Array {
    assert(this.#movedBytes === this.next.sizeBytes, "everything is moved");
    this.#done = true;
    this.#movedBytes = Number.POSITIVE_INFINITY;
    this.old.leave();
    return this.next;
  }
}
