import { assert } from "../lib/assert.js";
import { isStorageError, messageOf, StorageError } from "../lib/errors.js";
import { BLOCK_BYTES } from "../lib/units.js";
import type { GroupCore } from "./core.js";
import type { MovingArray } from "./moving-array.js";

/** The stripes (of the new mapping) that are moved at once. */
interface Window {
  readonly stripe: number;
  readonly count: number;
  /** Bytes of the LU. */
  readonly from: number;
  readonly to: number;
}

/**
 * Moves the boundary of an LU that is spread over more members, window by window, so that a crash at any point leaves each byte whole by
 * the mapping that the labels name (docs/decisions/0011-growth.md).
 *
 * New stripe s is written over chunk row s. Let S be the old stripe's data and S' the new one's. Rows [s, s+k) hold old bytes below (s+k)S.
 * While those are all below the boundary sS', nobody needs what is overwritten: write, flush, then tell the labels. Only the first few
 * stripes overwrite bytes that they move themselves; each of those goes through the journal first.
 */
export class WindowMover {
  readonly #core: GroupCore;
  readonly #array: MovingArray;
  readonly #save: (movedBytes: number) => Promise<void>;

  /** @param save  makes the labels say that so much is moved; durable when it resolves */
  constructor(core: GroupCore, array: MovingArray, save: (movedBytes: number) => Promise<void>) {
    this.#core = core;
    this.#array = array;
    this.#save = save;
  }

  get complete(): boolean {
    return this.#array.movedBytes === this.#array.next.sizeBytes;
  }

  /** Move the next window. */
  async step(): Promise<void> {
    const { workspace } = this.#core;
    while (!(await workspace.run(1, workspace.partBytes(1), ([buffer]) => this.#tryMove(buffer!)))) {
      // Whoever works on the rows may need the workspace for that.
      await this.#array.visitorsGone();
    }
  }

  /** @returns false when somebody works on the LU's rows */
  async #tryMove(buffer: Buffer): Promise<boolean> {
    const moved = this.#array.tryMove(() => this.#move(buffer));
    await moved;
    return moved !== null;
  }

  async #move(buffer: Buffer): Promise<void> {
    const { old, next, movedBytes: from } = this.#array;
    const stripe = from / next.stripeBytes;
    const free = Math.floor(from / old.stripeBytes) - stripe;
    const left = next.sizeBytes / next.stripeBytes - stripe;
    const count = Math.max(1, Math.min(free, left, Math.floor(buffer.length / next.stripeBytes)));
    const window = { stripe, count, from, to: from + count * next.stripeBytes };
    await this.#array.closed(from, window.to, async () => {
      const data = buffer.subarray(0, window.to - from);
      await this.#load(window, data);
      if (free > 0) await this.#overwrite(window, data);
      else await this.#overwriteJournaled(window, data, buffer);
      this.#array.advance(window.to);
    });
  }

  /** What the window is to hold, from the old mapping; zeros behind its end. */
  async #load({ stripe, from, to }: Window, data: Buffer): Promise<void> {
    const { old } = this.#array;
    const live = Math.max(0, Math.min(to, old.sizeBytes) - from);
    data.fill(0, live);
    if (live === 0) return;
    const first = Math.min(stripe, Math.floor(from / old.stripeBytes));
    try {
      await old.settle(first, Math.floor((from + live - 1) / old.stripeBytes));
      await old.readv([data.subarray(0, live)], from);
    } catch (error) {
      if (!isStorageError(error, "EIO")) throw error;
      this.#core.assertAlive();
      const { name } = this.#core;
      const text = `waits for what cannot be read of group "${name}" now: ${messageOf(error)}`;
      throw new StorageError("EIO", text, { ...error.detail, unread: true }, error);
    }
  }

  /** Nobody needs what these rows hold. */
  async #overwrite({ stripe, count, from, to }: Window, data: Buffer): Promise<void> {
    const { old, next } = this.#array;
    assert(
      (stripe + count) * old.stripeBytes <= from || from >= old.sizeBytes,
      "the rows hold only bytes that are moved",
    );
    old.giveUp(stripe, stripe + count - 1);
    await this.#core.journal.commit();
    await next.writev([data], from);
    await this.#flush();
    await this.#tell(to);
  }

  /** The row holds bytes of this very stripe: until it is written, the journal has them. */
  async #overwriteJournaled({ stripe, from, to }: Window, data: Buffer, buffer: Buffer): Promise<void> {
    const { old, next, geometry } = this.#array;
    const { cache, journal } = this.#core;
    const parity = buffer.subarray(data.length, data.length + geometry.chunkBytes);
    this.#computeParity(parity, data);
    // What was put in place just now may still be safe in the journal only.
    await this.#flush();
    old.giveUp(stripe, stripe);
    await cache.reserve(async () => {
      journal.pin();
      const seq = await this.#journal(stripe, data, parity, to);
      await journal.commit();
      await this.#tell(to);
      await this.#orBreak(async () => {
        await next.writev([data], from);
        await this.#flush();
      });
      next.noteJournaled(stripe, seq);
      journal.unpin();
    });
  }

  #computeParity(parity: Buffer, data: Buffer): void {
    const { chunkBytes, dataMembers } = this.#array.geometry;
    const chunks = Array.from({ length: dataMembers }, (_, i) => data.subarray(i * chunkBytes, (i + 1) * chunkBytes));
    this.#core.arena.xorBuffers(parity, chunks);
  }

  /** Add a whole stripe to the journal, to count when the labels say that `movedBytes` are moved. @returns the last record's seq */
  async #journal(stripe: number, data: Buffer, parity: Buffer, movedBytes: number): Promise<number> {
    const { geometry } = this.#array;
    const { chunkBytes, dataMembers } = geometry;
    let seq = await this.#journalChunk(stripe, geometry.parityMember(stripe), parity, movedBytes);
    for (let i = 0; i < dataMembers; i++) {
      const chunk = data.subarray(i * chunkBytes, (i + 1) * chunkBytes);
      seq = Math.max(seq, await this.#journalChunk(stripe, geometry.dataMember(stripe, i), chunk, movedBytes));
    }
    return seq;
  }

  async #journalChunk(stripe: number, slot: number, chunk: Buffer, movedBytes: number): Promise<number> {
    const { journal, members, bands } = this.#core;
    const base = this.#array.geometry.memberByte(stripe);
    let seq = 0;
    if (!members[slot]!.takesWrites) return seq;
    for (let at = 0; at < chunk.length; at += bands.bandBytes) {
      const band = chunk.subarray(at, at + bands.bandBytes);
      let record = journal.tryBegin(1, band.length / BLOCK_BYTES);
      while (record === null) {
        await journal.makeRoom();
        record = journal.tryBegin(1, band.length / BLOCK_BYTES);
      }
      record.addMoved(slot, (base + at) / BLOCK_BYTES, band, movedBytes);
      seq = record.seq;
    }
    return seq;
  }

  #tell(movedBytes: number): Promise<void> {
    return this.#orBreak(() => this.#save(movedBytes));
  }

  /** From here on the labels may say that it is moved: when this fails, neither mapping is surely right. */
  async #orBreak(action: () => Promise<void>): Promise<void> {
    try {
      await action();
    } catch (error) {
      this.#array.break(error);
      throw error;
    }
  }

  async #flush(): Promise<void> {
    await Promise.all(this.#core.members.map((member) => member.flush(false)));
    this.#core.assertAlive();
  }
}
