import { must } from "../lib/assert.js";
import { allSettledOrThrow } from "../lib/mutex.js";
import type { Member } from "./member.js";

/** Linux takes 1024 buffers in one preadv or pwritev (IOV_MAX). */
const BUFFERS_PER_CALL_MAX = 1024;

/** Adjacent bytes of one member: one device call. */
export interface MemberRun {
  readonly member: Member;
  readonly position: number;
  readonly buffers: Buffer[];
  end: number;
}

/**
 * Collects the pieces of one request and hands every member its pieces in as few device calls as can be: neighbours on the disk
 * become one call. Pieces come nearly in order, so the run to extend is usually the member's last.
 */
export class IoBatch {
  readonly #runs: MemberRun[][] = [];

  constructor(readonly members: readonly Member[]) {
    for (let i = 0; i < members.length; i++) this.#runs.push([]);
  }

  /** Calls that `settle` will make are independent; within one member they may come in any order. */
  add(slot: number, position: number, buffer: Buffer): void {
    const runs = must(this.#runs[slot], "the slot is a member");
    const last = runs[runs.length - 1];
    if (last !== undefined && last.end === position && last.buffers.length < BUFFERS_PER_CALL_MAX) {
      last.buffers.push(buffer);
      last.end += buffer.length;
      return;
    }
    runs.push({ member: this.members[slot]!, position, buffers: [buffer], end: position + buffer.length });
  }

  /** Every run, neighbours joined even where they were added out of order. */
  runs(): MemberRun[] {
    const all: MemberRun[] = [];
    for (const runs of this.#runs) {
      if (runs.length > 1) joinNeighbours(runs);
      all.push(...runs);
    }
    return all;
  }

  async write(direct: boolean): Promise<void> {
    await Promise.all(this.runs().map((run) => run.member.writev(run.buffers, run.position, direct)));
  }

  async writeThrough(): Promise<void> {
    await Promise.all(this.runs().map((run) => run.member.writeThrough(run.buffers, run.position)));
  }

  /** @throws the first error, after all calls have ended */
  read(): Promise<void> {
    return allSettledOrThrow(this.runs().map((run) => run.member.readv(run.buffers, run.position)));
  }
}

function joinNeighbours(runs: MemberRun[]): void {
  runs.sort((a, b) => a.position - b.position);
  let kept = 0;
  for (let i = 1; i < runs.length; i++) {
    const last = runs[kept]!;
    const run = runs[i]!;
    if (last.end === run.position && last.buffers.length + run.buffers.length <= BUFFERS_PER_CALL_MAX) {
      for (const buffer of run.buffers) last.buffers.push(buffer);
      last.end = run.end;
    } else {
      runs[++kept] = run;
    }
  }
  runs.length = kept + 1;
}
