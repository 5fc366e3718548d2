import type { LuByte } from "../lib/units.js";
import type { GroupCore } from "./core.js";
import type { Member } from "./member.js";
import { type FaultKind, type ScrubRun, tryRead } from "./scrub-run.js";

export type Verdict = "good" | "bad" | "unknown";

/** One block on a member. */
export interface BlockPlace {
  readonly member: Member;
  /** Byte on the member. */
  readonly position: number;
  /** Byte of the LU. */
  readonly at: number;
}

/**
 * What a scrub does about places that are wrong, with the rows locked.
 *
 * It writes in place, without journal and without a mark in the write-intent bitmap: torn by a crash, the place is as wrong as it was, and
 * the next scrub finds it again, because the labels call it done only when it is flushed. A mark would do harm: the resync after a crash
 * takes data in the whole region for granted, and rot that the scrub had not yet come to would be made part of the parity.
 */
export class Mender {
  constructor(
    private readonly core: GroupCore,
    readonly run: ScrubRun,
    /** What was written is read back into this. */
    private readonly check: Buffer,
  ) {}

  async judge(block: Buffer, at: number): Promise<Verdict> {
    return (await this.run.inspector?.judge(block, at as LuByte)) ?? "unknown";
  }

  /** Somebody may want what stands there: a file, or a client of an LU of which we know nothing. */
  async isWanted(at: number): Promise<boolean> {
    const { inspector } = this.run;
    return inspector === null || (await inspector.nameOf(at as LuByte)) !== null;
  }

  /** Write a block with its proven content, and report it. */
  async restore(place: BlockPlace, good: Buffer, what: FaultKind, done: string): Promise<void> {
    const held = this.run.heal && (await this.#write(place.member, good, place.position));
    this.note(place, what, done, held, what !== "unreadable");
  }

  /** Write adjacent blocks that only have to agree with the rest. @returns whether they are there now */
  async makeAgree(member: Member, blocks: Buffer, position: number): Promise<boolean> {
    return this.run.heal && (await this.#write(member, blocks, position));
  }

  async #write(member: Member, blocks: Buffer, position: number): Promise<boolean> {
    this.core.guard();
    const writable = this.core.writable();
    if (writable !== null) await writable;
    await member.writev([blocks], position, true);
    const back = this.check.subarray(0, blocks.length);
    return (await tryRead(member, back, position)) && back.equals(blocks);
  }

  note(place: BlockPlace, what: FaultKind, done: string, healed: boolean, proven: boolean): void {
    const text = !this.run.heal ? "reported only" : healed ? done : "written again, but the disk does not hold it";
    this.run.report({ ...place, what, done: text, healed, proven, lost: false });
  }

  /** @param lost  whether this is the place to name for the LU's block: once, of several copies of it */
  noteLost(place: BlockPlace, what: FaultKind, lost: boolean): void {
    this.run.report({ ...place, what, done: "cannot be repaired", healed: false, proven: what !== "unreadable", lost });
  }
}
