import { BLOCK_BYTES } from "../../src/lib/units.js";

/** A block whose content is not known: it is being written, or was when the power failed. */
const ANYTHING = -1;
/** A block whose content was whatever a crash had left of it; kept aside. */
const ADOPTED = -2;
/** A block that came with rows which the LU got later, never flushed: whatever was there, also when a write of it was cut short. */
const UNWRITTEN = -3;

/** Content of a block by version: told apart at a glance, and never the XOR of others. Version 0 is zeroes. */
export function fillBlock(target: Buffer, block: number, version: number): void {
  if (version === 0) {
    target.fill(0);
    return;
  }
  let x = (block * 0x9e3779b1 + version * 0x85ebca6b + 1) >>> 0;
  for (let i = 0; i < target.length; i += 4) {
    x ^= x << 13;
    x ^= x >>> 17;
    x = (x ^ (x << 5)) >>> 0;
    target.writeUInt32LE(x, i);
  }
}

/** The same with more elements, zero, or fewer. */
function resized<T extends Int32Array | Uint32Array | Uint8Array>(old: T, length: number): T {
  const made = new (old.constructor as new (length: number) => T)(length);
  made.set(old.subarray(0, length));
  return made;
}

/** A write on its way. */
export interface ModelWrite {
  readonly first: number;
  readonly count: number;
  readonly version: number;
  readonly source: Buffer;
  readonly life: number;
}

/** What was known when a flush or a read began. */
export interface ModelMark {
  readonly latest: Int32Array;
  readonly touched: Uint32Array;
  readonly unsettled: ReadonlySet<number>;
  readonly life: number;
}

/**
 * What an LU may return. Per block:
 *   flushed since it was last written   reads back as that, whatever happens                                       (I-1)
 *   written and not flushed             reads back as that; after a crash it may be anything, but the same at every read until it is
 *                                       written again, also after another crash and without any one member
 *   never written                       zeroes; what the LU was given later anything, until it is written
 * Writes of one block at the same time have no order: either may win.
 */
export class LuModel {
  sure: Int32Array;
  latest: Int32Array;
  /** How often a write of the block began or ended. */
  #touched: Uint32Array;
  /** 1: never flushed since it came to the LU. */
  #raw: Uint8Array;
  readonly #inFlight = new Map<number, number>();
  readonly #adopted = new Map<number, Buffer>();
  #version = 0;
  /** Rises with every crash: what an operation of an earlier life still says counts for nothing. */
  #life = 0;
  readonly #wanted = Buffer.alloc(BLOCK_BYTES);

  constructor(public blockCount: number) {
    this.sure = new Int32Array(blockCount);
    this.latest = new Int32Array(blockCount);
    this.#touched = new Uint32Array(blockCount);
    this.#raw = new Uint8Array(blockCount);
  }

  /** The LU has so many blocks now. What lay behind is forgotten; what is new holds anything. */
  resize(blockCount: number): void {
    const before = this.blockCount;
    this.blockCount = blockCount;
    this.sure = resized(this.sure, blockCount).fill(UNWRITTEN, before);
    this.latest = resized(this.latest, blockCount).fill(UNWRITTEN, before);
    this.#touched = resized(this.#touched, blockCount);
    this.#raw = resized(this.#raw, blockCount).fill(1, before);
    for (const block of this.#adopted.keys()) if (block >= blockCount) this.#adopted.delete(block);
  }

  #isSure(block: number, version: number): void {
    this.sure[block] = version;
    if (version !== UNWRITTEN) this.#raw[block] = 0;
  }

  beginWrite(first: number, count: number): ModelWrite {
    const version = ++this.#version;
    const source = Buffer.allocUnsafe(count * BLOCK_BYTES);
    for (let block = first; block < first + count; block++) {
      const at = (block - first) * BLOCK_BYTES;
      fillBlock(source.subarray(at, at + BLOCK_BYTES), block, version);
      this.latest[block] = this.#inFlight.has(block) ? ANYTHING : version;
      this.#inFlight.set(block, (this.#inFlight.get(block) ?? 0) + 1);
      this.#touched[block]!++;
      this.sure[block] = ANYTHING;
    }
    return { first, count, version, source, life: this.#life };
  }

  /** @param durable it was a write that is durable by itself */
  endWrite({ first, count, version, life }: ModelWrite, durable: boolean): void {
    if (life !== this.#life) return;
    for (let block = first; block < first + count; block++) {
      const left = this.#inFlight.get(block)! - 1;
      if (left === 0) this.#inFlight.delete(block);
      else this.#inFlight.set(block, left);
      this.#touched[block]!++;
      if (durable && left === 0 && this.latest[block] === version) this.#isSure(block, version);
    }
  }

  mark(): ModelMark {
    const unsettled = new Set(this.#inFlight.keys());
    const [latest, touched] = [Int32Array.from(this.latest), Uint32Array.from(this.#touched)];
    return { latest, touched, unsettled, life: this.#life };
  }

  /** A flush that began at `mark` has ended. */
  flushed({ latest, unsettled, life }: ModelMark): void {
    if (life !== this.#life) return;
    // Blocks that the LU got since are as unsure as they were.
    for (let block = 0; block < latest.length; block++) {
      const version = latest[block]!;
      if (version === ANYTHING || unsettled.has(block) || this.latest[block] !== version) continue;
      this.#isSure(block, version);
    }
  }

  /** A read that began at `mark` has returned this. @throws Error naming the first block that is wrong */
  checkRead(found: Buffer, first: number, { latest, touched, unsettled, life }: ModelMark): void {
    if (life !== this.#life) return;
    for (let i = 0; i * BLOCK_BYTES < found.length; i++) {
      const block = first + i;
      if (unsettled.has(block) || touched[block] !== this.#touched[block]) continue;
      this.#compare(found.subarray(i * BLOCK_BYTES, (i + 1) * BLOCK_BYTES), block, latest[block]!, "was written last");
    }
  }

  #compare(found: Buffer, block: number, version: number, why: string): void {
    if (version === ANYTHING || version === UNWRITTEN || found.equals(this.#content(block, version))) return;
    const what = version === ADOPTED ? "what an earlier crash left of it" : `version ${version}`;
    throw new Error(`block ${block} is not ${what}, which ${why}`);
  }

  #content(block: number, version: number): Buffer {
    if (version === ADOPTED) return this.#adopted.get(block)!;
    fillBlock(this.#wanted, block, version);
    return this.#wanted;
  }

  /** Everything was made durable, in a clean stop. */
  settle(): void {
    for (let block = 0; block < this.blockCount; block++) {
      if (this.latest[block] !== ANYTHING) this.#isSure(block, this.latest[block]!);
    }
  }

  /** After a crash nothing is on its way, and only what was sure is known. */
  crashed(): void {
    this.#life++;
    this.#inFlight.clear();
    for (let block = 0; block < this.blockCount; block++) if (this.#raw[block] === 1) this.sure[block] = UNWRITTEN;
    this.latest.set(this.sure);
  }

  /** The whole LU as it is after a recovery: what was sure is there; the rest stays as it is now. @throws Error */
  adopt(all: Buffer): void {
    for (let block = 0; block < this.blockCount; block++) {
      const found = all.subarray(block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES);
      this.#compare(found, block, this.sure[block]!, "was flushed");
      if (this.sure[block] !== ANYTHING) continue;
      this.#adopted.set(block, Buffer.from(found));
      this.sure[block] = ADOPTED;
      this.latest[block] = ADOPTED;
    }
  }

  /** One block after a crash, if it was durable. @throws Error */
  checkSure(found: Buffer, block: number): void {
    this.#compare(found, block, this.sure[block]!, "was flushed");
  }

  /** The whole LU, when nothing is under way and nothing is unknown. @throws Error */
  checkAll(all: Buffer): void {
    for (let block = 0; block < this.blockCount; block++) {
      const found = all.subarray(block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES);
      this.#compare(found, block, this.latest[block]!, "is there with all members");
    }
  }
}
