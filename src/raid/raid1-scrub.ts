import { BLOCK_BYTES, type LuByte } from "../lib/units.js";
import { forEachRun, maskOf } from "./block-mask.js";
import type { GroupCore } from "./core.js";
import type { CopyPlace, Raid1Geometry } from "./geometry.js";
import { type BlockPlace, Mender, type Verdict } from "./mender.js";
import { type ScrubRun, type Slice, tryRead } from "./scrub-run.js";

/** The two copies of one block. */
interface Pair {
  /** Byte of the LU. */
  readonly at: number;
  readonly blocks: readonly [Buffer, Buffer];
  /** Could not be read. */
  readonly missing: [boolean, boolean];
}

/**
 * fine: nothing (more) to do. changed: look again. lost: neither copy is right. doubtful: the copies differ, and nobody can say which is
 * right. free: the same, where nobody's data is.
 */
type Outcome = "fine" | "changed" | "lost" | "doubtful" | "free";

/** How often a block is looked at again after a copy could be read at a second try. */
const LOOKS_MAX = 3;
const DONE = {
  restored: "rewritten from the other copy",
  reread: "rewritten: it could be read at the second try",
  doubtful: "the copies differed, and nobody can say which was right; the first was kept",
} as const;

/** Compares and heals chunks of one RAID-1 LU. Every function is called with their lock held. */
export class Raid1Scrub {
  readonly #core: GroupCore;
  readonly #geometry: Raid1Geometry;
  readonly #run: ScrubRun;
  readonly #mender: Mender;
  /** One block: what a second try reads. */
  readonly #other: Buffer;
  readonly #located = { member: 0, inLu: 0 } as CopyPlace;
  /** Bytes of the LU where a block may be lost: to be looked at again when writes under way are through. */
  readonly again: number[] = [];

  constructor(core: GroupCore, geometry: Raid1Geometry, run: ScrubRun) {
    const { bandBytes } = core.bands;
    const { spare } = run.memory;
    this.#core = core;
    this.#geometry = geometry;
    this.#run = run;
    this.#mender = new Mender(core, run, spare.subarray(0, bandBytes));
    this.#other = spare.subarray(bandBytes, bandBytes + BLOCK_BYTES);
  }

  #place(at: number, copy: number): BlockPlace {
    const { chunkBytes, rows } = this.#geometry;
    this.#geometry.locate(Math.floor(at / chunkBytes), copy, this.#located);
    const { member, inLu } = this.#located;
    return { member: this.#core.members[member]!, position: rows.memberByte(inLu) + (at % chunkBytes), at };
  }

  /** Chunk rows [from, to) of the member space, whole pairs of them. */
  async rows(from: number, to: number): Promise<void> {
    const position = this.#geometry.rows.memberByte(from);
    await this.#run.memory.each(this.#core.members, position, from, to, (slice) => this.#slice(slice));
  }

  async #slice(slice: Slice): Promise<void> {
    const { chunkBytes } = this.#geometry;
    const { first, end } = this.#geometry.chunksIn(slice.from, slice.from + slice.byteCount);
    const { bandBytes } = this.#core.bands;
    for (let at = first * chunkBytes; at < end * chunkBytes; at += bandBytes) await this.#band(slice, at);
  }

  /** @param at  byte of the LU where the band begins */
  async #band(slice: Slice, at: number): Promise<void> {
    const bands = [this.#view(slice, at, 0), this.#view(slice, at, 1)] as const;
    let blocks = this.#suspects(bands[0].buffer, at) | differing(bands[0].buffer, bands[1].buffer);
    for (const { unreadable } of bands) blocks |= unreadable;
    if (blocks !== 0) blocks &= ~this.#apart(at);
    if (blocks === 0) return;
    let doubtful = 0;
    let free = 0;
    for (let block = 0; block < bands[0].buffer.length / BLOCK_BYTES; block++) {
      const bit = 1 << block;
      if ((blocks & bit) === 0) continue;
      const cut = (band: Buffer): Buffer => band.subarray(block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES);
      const outcome = await this.#settle({
        at: at + block * BLOCK_BYTES,
        blocks: [cut(bands[0].buffer), cut(bands[1].buffer)],
        missing: [(bands[0].unreadable & bit) !== 0, (bands[1].unreadable & bit) !== 0],
      });
      if (outcome === "lost") this.again.push(at + block * BLOCK_BYTES);
      else if (outcome === "doubtful") doubtful |= bit;
      else if (outcome === "free") free |= bit;
    }
    await this.#copyFirst(at, bands[0].buffer, doubtful, free);
  }

  /** Blocks that were given up while a copy could not be read: no copy is to be written over the other. They are the reexaminer's. */
  #apart(at: number): number {
    const { member, position } = this.#place(at, 0);
    const { bandBytes } = this.#core.bands;
    if (!this.#core.lost.apartWithin(position, bandBytes)) return 0;
    let blocks = 0;
    for (let i = 0; i < bandBytes / BLOCK_BYTES; i++) {
      if (this.#core.lost.isApart(member.slot, position + i * BLOCK_BYTES)) blocks |= 1 << i;
    }
    return blocks;
  }

  #view(slice: Slice, at: number, copy: number): { buffer: Buffer; unreadable: number } {
    const { chunkBytes } = this.#geometry;
    const { bandBytes } = this.#core.bands;
    this.#geometry.locate(Math.floor(at / chunkBytes), copy, this.#located);
    const { member, inLu } = this.#located;
    const start = inLu + (at % chunkBytes) - slice.from;
    let unreadable = 0;
    for (const one of slice.unreadable[member]!) {
      const block = (one - start) / BLOCK_BYTES;
      if (one >= start && one < start + bandBytes) unreadable |= maskOf(block, block + 1);
    }
    return { buffer: slice.parts[member]!.subarray(start, start + bandBytes), unreadable };
  }

  #suspects(band: Buffer, at: number): number {
    let blocks = 0;
    this.#run.inspector?.suspects(band, at as LuByte, (bad) => {
      blocks |= 1 << Math.floor((bad - at) / BLOCK_BYTES);
    });
    return blocks;
  }

  /** A block that seemed lost, read once more. */
  async confirm(at: number): Promise<void> {
    const blocks = [this.#run.memory.spare, this.#run.memory.spare].map((spare, copy) => {
      const start = this.#core.bands.bandBytes + (1 + copy) * BLOCK_BYTES;
      return spare.subarray(start, start + BLOCK_BYTES);
    });
    const pair: Pair = { at, blocks: [blocks[0]!, blocks[1]!], missing: [false, false] };
    for (const copy of [0, 1] as const) {
      const place = this.#place(at, copy);
      pair.missing[copy] = !(await tryRead(place.member, pair.blocks[copy], place.position));
    }
    const outcome = await this.#settle(pair);
    if (outcome === "lost") this.#giveUp(pair);
    else await this.#copyFirst(at, pair.blocks[0], outcome === "doubtful" ? 1 : 0, outcome === "free" ? 1 : 0);
  }

  async #settle(pair: Pair): Promise<Exclude<Outcome, "changed">> {
    let outcome: Outcome = "changed";
    for (let looks = 0; outcome === "changed"; looks++) {
      if (looks === LOOKS_MAX) return "lost";
      outcome = await this.#examine(pair);
    }
    return outcome;
  }

  async #examine(pair: Pair): Promise<Outcome> {
    const verdicts = [await this.#verdict(pair, 0), await this.#verdict(pair, 1)] as const;
    const source = bestCopy(verdicts, pair.missing);
    if (source === null) return (await this.#readAgain(pair)) ? "changed" : "lost";
    const other = source === 0 ? 1 : 0;
    if (!pair.missing[other] && pair.blocks[0].equals(pair.blocks[1])) return "fine";
    if (pair.missing[other] || verdicts[other] === "bad") {
      // One is bad, and a moment later the other is nobody's: the block was freed between the two questions.
      if (!pair.missing[other] && verdicts[source] === "unknown") return "changed";
      const what = pair.missing[other] ? "unreadable" : "checksum";
      await this.#mender.restore(this.#place(pair.at, other), pair.blocks[source], what, DONE.restored);
      return "fine";
    }
    return (await this.#mender.isWanted(pair.at)) ? "doubtful" : "free";
  }

  async #verdict(pair: Pair, copy: 0 | 1): Promise<Verdict> {
    return pair.missing[copy] ? "bad" : this.#mender.judge(pair.blocks[copy], pair.at);
  }

  /** @returns whether a copy is right at a second try */
  async #readAgain(pair: Pair): Promise<boolean> {
    for (const copy of [0, 1] as const) {
      const place = this.#place(pair.at, copy);
      if (!(await tryRead(place.member, this.#other, place.position))) continue;
      const verdict = await this.#mender.judge(this.#other, pair.at);
      if (verdict === "bad" || (verdict === "unknown" && !pair.missing[copy])) continue;
      this.#other.copy(pair.blocks[copy]);
      const what = pair.missing[copy] ? "unreadable" : "checksum";
      pair.missing[copy] = false;
      await this.#mender.restore(place, pair.blocks[copy], what, DONE.reread);
      return true;
    }
    return false;
  }

  #giveUp(pair: Pair): void {
    for (const copy of [0, 1] as const) {
      const what = pair.missing[copy] ? "unreadable" : "checksum";
      this.#mender.noteLost(this.#place(pair.at, copy), what, copy === 0);
    }
  }

  /** Neither copy is more right than the other: they only have to be the same. Blocks as masks of the band. */
  async #copyFirst(at: number, band: Buffer, doubtful: number, free: number): Promise<void> {
    const runs: Array<readonly [number, number]> = [];
    forEachRun(doubtful | free, (first, end) => void runs.push([first, end]));
    for (const [first, end] of runs) {
      const { member, position } = this.#place(at + first * BLOCK_BYTES, 1);
      const held = await this.#mender.makeAgree(
        member,
        band.subarray(first * BLOCK_BYTES, end * BLOCK_BYTES),
        position,
      );
      forEachRun(doubtful & maskOf(first, end), (from, to) => {
        for (let block = from; block < to; block++) {
          this.#mender.note(this.#place(at + block * BLOCK_BYTES, 1), "copy", DONE.doubtful, held, false);
        }
      });
    }
  }
}

/** The copy to take the content from: a proven one, else one that nobody says is bad. null: neither. */
function bestCopy(verdicts: readonly [Verdict, Verdict], missing: readonly [boolean, boolean]): 0 | 1 | null {
  if (verdicts[0] === "good") return 0;
  if (verdicts[1] === "good") return 1;
  if (verdicts[0] === "unknown" && !missing[0]) return 0;
  return verdicts[1] === "unknown" && !missing[1] ? 1 : null;
}

/** Blocks that are not the same in both, as a mask. */
function differing(a: Buffer, b: Buffer): number {
  if (a.equals(b)) return 0;
  let blocks = 0;
  for (let at = 0; at < a.length; at += BLOCK_BYTES) {
    if (a.compare(b, at, at + BLOCK_BYTES, at, at + BLOCK_BYTES) !== 0) blocks |= 1 << (at / BLOCK_BYTES);
  }
  return blocks;
}
