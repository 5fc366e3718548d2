import { BLOCK_BYTES, type LuByte } from "../lib/units.js";
import { forEachRun, maskOf } from "./block-mask.js";
import type { GroupCore } from "./core.js";
import type { Raid5Geometry } from "./geometry.js";
import type { Member } from "./member.js";
import { type BlockPlace, Mender, type Verdict } from "./mender.js";
import { type ScrubRun, type Slice, tryRead } from "./scrub-run.js";

/** One block of every member of a stripe: data chunks in order, then parity. */
interface Column {
  readonly stripe: number;
  /** Byte in the chunk. */
  readonly inChunk: number;
  readonly blocks: readonly Buffer[];
  /** Could not be read. */
  readonly missing: boolean[];
}

/**
 * fine: nothing (more) to do. changed: look again. lost: two places are wrong, or one that the others do not prove.
 * wrong: parity, because all data is proven. doubtful: parity or data, nobody can say. free: the same, where nobody's data is.
 */
type Outcome = "fine" | "changed" | "lost" | "wrong" | "doubtful" | "free";

/** How often a column is looked at again after something in it could be read at a second try. */
const LOOKS_MAX = 3;
const DONE = {
  restored: "rewritten from the other disks",
  reread: "rewritten: it could be read at the second try",
  wrong: "parity written anew",
  doubtful: "parity and data disagreed, and nobody can say which was right; parity written anew",
} as const;

/** Compares and heals stripes of one RAID-5 LU. Every function is called with their lock held and nothing newer in memory. */
export class Raid5Scrub {
  readonly #core: GroupCore;
  readonly #geometry: Raid5Geometry;
  readonly #run: ScrubRun;
  readonly #mender: Mender;
  /** Parity of a band as it should be. */
  readonly #right: Buffer;
  /** One block: what else could be there. */
  readonly #other: Buffer;
  /** Bytes of the member space where a column may be lost: to be looked at again when writes under way are through. */
  readonly again: number[] = [];

  constructor(core: GroupCore, geometry: Raid5Geometry, run: ScrubRun) {
    const { bandBytes } = core.bands;
    const { spare } = run.memory;
    this.#core = core;
    this.#geometry = geometry;
    this.#run = run;
    this.#right = spare.subarray(0, bandBytes);
    const check = spare.subarray(bandBytes, 2 * bandBytes);
    this.#mender = new Mender(core, run, check);
    // Never in use at the same time: nothing is written from here.
    this.#other = check.subarray(0, BLOCK_BYTES);
  }

  get #members(): readonly Member[] {
    return this.#core.members;
  }

  #memberOf(stripe: number, i: number): Member {
    const { dataMembers } = this.#geometry;
    const slot = i === dataMembers ? this.#geometry.parityMember(stripe) : this.#geometry.dataMember(stripe, i);
    return this.#members[slot]!;
  }

  #place({ stripe, inChunk }: Pick<Column, "stripe" | "inChunk">, i: number): BlockPlace {
    const { dataMembers, stripeBytes, chunkBytes } = this.#geometry;
    const at = stripe * stripeBytes + (i === dataMembers ? 0 : i) * chunkBytes + inChunk;
    return { member: this.#memberOf(stripe, i), position: this.#geometry.memberByte(stripe) + inChunk, at };
  }

  /** Chunk rows [from, to) of the member space. */
  async rows(from: number, to: number): Promise<void> {
    const position = this.#geometry.rows.memberByte(from);
    await this.#run.memory.each(this.#members, position, from, to, (slice) => this.#slice(slice));
  }

  async #slice(slice: Slice): Promise<void> {
    const { bandBytes } = this.#core.bands;
    for (let at = 0; at < slice.byteCount; at += bandBytes) await this.#band(slice, at);
  }

  /** @param inSlice  byte in the slice where the band begins */
  async #band(slice: Slice, inSlice: number): Promise<void> {
    const { chunkBytes, dataMembers } = this.#geometry;
    const { bandBytes } = this.#core.bands;
    const stripe = Math.floor((slice.from + inSlice) / chunkBytes);
    const inChunk = (slice.from + inSlice) % chunkBytes;
    const bands: Buffer[] = [];
    for (let i = 0; i <= dataMembers; i++) {
      bands.push(slice.parts[this.#memberOf(stripe, i).slot]!.subarray(inSlice, inSlice + bandBytes));
    }
    let columns = this.#suspects(bands, stripe, inChunk) | this.#disagreeing(bands);
    for (const unreadable of slice.unreadable) columns |= maskWithin(unreadable, inSlice, bandBytes);
    if (columns !== 0) columns &= ~this.#apart(stripe, inChunk);
    if (columns === 0) return;
    const parity = { wrong: 0, doubtful: 0, free: 0 };
    for (let block = 0; block < bandBytes / BLOCK_BYTES; block++) {
      if ((columns & (1 << block)) === 0) continue;
      const column = this.#columnOf(slice, inSlice, bands, block, stripe, inChunk);
      const outcome = await this.#settle(column, this.#right.subarray(block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES));
      if (outcome === "lost") this.again.push(slice.from + inSlice + block * BLOCK_BYTES);
      else if (outcome !== "fine") parity[outcome] |= 1 << block;
    }
    await this.#renewParity(stripe, inChunk, parity);
  }

  /** Columns with a block that takes no part in the parity, because it could not be read once: they are the reexaminer's. */
  #apart(stripe: number, inChunk: number): number {
    const { bandBytes } = this.#core.bands;
    const base = this.#geometry.memberByte(stripe) + inChunk;
    if (!this.#core.lost.apartWithin(base, bandBytes)) return 0;
    let columns = 0;
    for (let at = 0; at < bandBytes; at += BLOCK_BYTES) {
      if (this.#core.lost.apartWithin(base + at, BLOCK_BYTES)) columns |= 1 << (at / BLOCK_BYTES);
    }
    return columns;
  }

  /** Columns with a block that its owner's checksum does not know. */
  #suspects(bands: readonly Buffer[], stripe: number, inChunk: number): number {
    const { inspector } = this.#run;
    if (inspector === null) return 0;
    const { dataMembers, stripeBytes, chunkBytes } = this.#geometry;
    let columns = 0;
    for (let i = 0; i < dataMembers; i++) {
      const start = stripe * stripeBytes + i * chunkBytes + inChunk;
      inspector.suspects(bands[i]!, start as LuByte, (at) => {
        columns |= 1 << Math.floor((at - start) / BLOCK_BYTES);
      });
    }
    return columns;
  }

  /** Columns whose parity is not the XOR of the data; leaves what it should be in `#right`. */
  #disagreeing(bands: readonly Buffer[]): number {
    const { dataMembers } = this.#geometry;
    const parity = bands[dataMembers]!;
    this.#core.arena.xorBuffers(this.#right, bands.slice(0, dataMembers));
    if (this.#right.equals(parity)) return 0;
    let columns = 0;
    for (let at = 0; at < parity.length; at += BLOCK_BYTES) {
      if (parity.compare(this.#right, at, at + BLOCK_BYTES, at, at + BLOCK_BYTES) !== 0)
        columns |= 1 << (at / BLOCK_BYTES);
    }
    return columns;
  }

  #columnOf(
    slice: Slice,
    inSlice: number,
    bands: readonly Buffer[],
    block: number,
    stripe: number,
    inChunk: number,
  ): Column {
    const at = block * BLOCK_BYTES;
    return {
      stripe,
      inChunk: inChunk + at,
      blocks: bands.map((band) => band.subarray(at, at + BLOCK_BYTES)),
      missing: bands.map((_, i) => slice.unreadable[this.#memberOf(stripe, i).slot]!.has(inSlice + at)),
    };
  }

  /** A column that seemed lost, read once more. */
  async confirm(inLu: number): Promise<void> {
    const { chunkBytes } = this.#geometry;
    const stripe = Math.floor(inLu / chunkBytes);
    const inChunk = inLu % chunkBytes;
    await this.#run.memory.each(
      this.#members,
      this.#geometry.rows.memberByte(inLu),
      inLu,
      inLu + BLOCK_BYTES,
      async (slice) => {
        const bands = slice.parts.map((_, i) => slice.parts[this.#memberOf(stripe, i).slot]!.subarray(0, BLOCK_BYTES));
        const column = this.#columnOf(slice, 0, bands, 0, stripe, inChunk);
        const outcome = await this.#settle(column, this.#right.subarray(0, BLOCK_BYTES));
        if (outcome === "lost") await this.#giveUp(column);
        else if (outcome !== "fine")
          await this.#renewParity(stripe, inChunk, { wrong: 0, doubtful: 0, free: 0, [outcome]: 1 });
      },
    );
  }

  /** Do what can be done about one column. @param right  overwritten with the parity that its data has then */
  async #settle(column: Column, right: Buffer): Promise<Exclude<Outcome, "changed">> {
    let outcome: Outcome = "changed";
    for (let looks = 0; outcome === "changed"; looks++) {
      if (looks === LOOKS_MAX) return "lost";
      outcome = await this.#examine(column, right);
    }
    return outcome;
  }

  async #examine(column: Column, right: Buffer): Promise<Outcome> {
    const verdicts = await this.#judgeAll(column);
    const bad = column.blocks.map((_, i) => i).filter((i) => column.missing[i] === true || verdicts[i] === "bad");
    if (bad.length === 0) return this.#parityOutcome(column, verdicts, right);
    if (bad.length === 1) {
      const outcome = await this.#restoreFromOthers(column, bad[0]!, verdicts, right);
      if (outcome !== null) return outcome;
    }
    return (await this.#readAgain(column, bad)) ? "changed" : "lost";
  }

  /** Of the data blocks that could be read. */
  async #judgeAll({ stripe, inChunk, blocks, missing }: Column): Promise<Verdict[]> {
    const verdicts: Verdict[] = [];
    for (let i = 0; i < this.#geometry.dataMembers; i++) {
      const { at } = this.#place({ stripe, inChunk }, i);
      verdicts.push(missing[i] === true ? "unknown" : await this.#mender.judge(blocks[i]!, at));
    }
    return verdicts;
  }

  async #parityOutcome(column: Column, verdicts: readonly Verdict[], right: Buffer): Promise<Outcome> {
    const { dataMembers } = this.#geometry;
    this.#core.arena.xorBuffers(right, column.blocks.slice(0, dataMembers));
    if (right.equals(column.blocks[dataMembers]!)) return "fine";
    const unknown = verdicts.map((_, i) => i).filter((i) => verdicts[i] === "unknown");
    if (unknown.length === 0) return "wrong";
    if (unknown.length < dataMembers) return "doubtful";
    for (const i of unknown) if (await this.#mender.isWanted(this.#place(column, i).at)) return "doubtful";
    return "free";
  }

  /** @returns null when what the others say is not right either */
  async #restoreFromOthers(
    column: Column,
    i: number,
    verdicts: readonly Verdict[],
    right: Buffer,
  ): Promise<Outcome | null> {
    const place = this.#place(column, i);
    const what = column.missing[i] === true ? "unreadable" : "checksum";
    this.#core.arena.xorBuffers(
      right,
      column.blocks.filter((_, other) => other !== i),
    );
    if (i < this.#geometry.dataMembers) {
      const verdict = await this.#mender.judge(right, place.at);
      if (verdict === "bad") return null;
      // Bad a moment ago, and now nobody's: it was freed meanwhile.
      if (verdict === "unknown" && what === "checksum")
        return this.#parityOutcome(column, verdicts.with(i, verdict), right);
    }
    await this.#mender.restore(place, right, what, DONE.restored);
    return "fine";
  }

  /** @returns whether something that was bad is good at a second try */
  async #readAgain(column: Column, bad: readonly number[]): Promise<boolean> {
    let changed = false;
    for (const i of bad) {
      const place = this.#place(column, i);
      if (!(await tryRead(place.member, this.#other, place.position))) continue;
      const isData = i < this.#geometry.dataMembers;
      const verdict = isData ? await this.#mender.judge(this.#other, place.at) : "unknown";
      if (verdict !== "good" && !(verdict === "unknown" && column.missing[i] === true)) continue;
      this.#other.copy(column.blocks[i]!);
      const what = column.missing[i] === true ? "unreadable" : "checksum";
      column.missing[i] = false;
      await this.#mender.restore(place, column.blocks[i]!, what, DONE.reread);
      changed = true;
    }
    return changed;
  }

  async #giveUp(column: Column): Promise<void> {
    const verdicts = await this.#judgeAll(column);
    for (let i = 0; i < column.blocks.length; i++) {
      if (column.missing[i] !== true && verdicts[i] !== "bad") continue;
      const what = column.missing[i] === true ? "unreadable" : "checksum";
      this.#mender.noteLost(this.#place(column, i), what, i < this.#geometry.dataMembers);
    }
  }

  /** Columns as masks of the band, or of the one block that begins at `inChunk`; their parity stands in `#right`. */
  async #renewParity(
    stripe: number,
    inChunk: number,
    { wrong, doubtful, free }: { wrong: number; doubtful: number; free: number },
  ): Promise<void> {
    const runs: Array<readonly [number, number]> = [];
    forEachRun(wrong | doubtful | free, (first, end) => void runs.push([first, end]));
    for (const [first, end] of runs) {
      const start = this.#place({ stripe, inChunk: inChunk + first * BLOCK_BYTES }, this.#geometry.dataMembers);
      const blocks = this.#right.subarray(first * BLOCK_BYTES, end * BLOCK_BYTES);
      const held = await this.#mender.makeAgree(start.member, blocks, start.position);
      for (let block = first; block < end; block++) {
        if ((free & (1 << block)) !== 0) continue;
        const place = this.#place({ stripe, inChunk: inChunk + block * BLOCK_BYTES }, this.#geometry.dataMembers);
        const proven = (wrong & (1 << block)) !== 0;
        this.#mender.note(place, "parity", proven ? DONE.wrong : DONE.doubtful, held, proven);
      }
    }
  }
}

/** The blocks of a band, as a mask. */
function maskWithin(blocks: ReadonlySet<number>, from: number, byteCount: number): number {
  let mask = 0;
  for (const at of blocks) {
    const block = (at - from) / BLOCK_BYTES;
    if (at >= from && at < from + byteCount) mask |= maskOf(block, block + 1);
  }
  return mask;
}
