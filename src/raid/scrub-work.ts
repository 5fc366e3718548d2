import { wallMs } from "../lib/clock.js";
import { isStorageError } from "../lib/errors.js";
import { GIB } from "../lib/units.js";
import type { BlockInspector, ScrubOptions, ScrubRecord } from "./contract.js";
import type { GroupCore, RaidArray } from "./core.js";
import { readLabel } from "./label-io.js";
import type { LabelKeeper } from "./label-keeper.js";
import { LABEL_END_BYTES } from "./layout.js";
import type { LuTable } from "./lu-table.js";
import type { Member } from "./member.js";
import { ReadyInspector } from "./ready-inspector.js";
import { ScrubReport } from "./scrub-report.js";
import { type ScrubFault, ScrubMemory } from "./scrub-run.js";
import { nextPart, type RowTable, usedBytes, type WalkPart } from "./scrub-walk.js";
import type { TaskWork } from "./task.js";
import type { TaskBoard } from "./task-board.js";

/** What a scrub asks of its group. Implemented by group.ts. */
export interface ScrubGroup extends GroupCore, RowTable {
  readonly labels: LabelKeeper;
  readonly lus: LuTable;
  readonly tasks: TaskBoard;
  array(number: number): RaidArray;
}

/** How far a scrub may get before the labels say so: what a crash makes it read again. */
const SAVE_MS = 10_000;
const SAVE_BYTES = GIB;

/** Rows in use in their order on the disks, a few MiB of every member per step. What it knows of itself is on the labels. */
export class ScrubWork implements TaskWork {
  readonly kind = "scrub";
  /** A person gave it up: it is not to go on later. */
  givenUp = false;
  /** There is no step any more. */
  ending = false;
  /** Ends the task after the step under way. */
  stop: (reason: string) => void = () => {};
  readonly #group: ScrubGroup;
  readonly #options: ScrubOptions;
  readonly #report: ScrubReport;
  /** Of the LU at hand. */
  #ready: { readonly lu: number; readonly inspector: ReadyInspector } | null = null;
  #failed = false;
  /** Byte of the row space up to which it got. */
  #at: number;
  #savedMs: number;
  #savedAt: number;

  constructor(group: ScrubGroup, options: ScrubOptions) {
    this.#group = group;
    this.#options = options;
    const { atBytes, found, healed } = this.#record;
    this.#report = new ScrubReport(group, { found, healed });
    this.#at = atBytes;
    this.#savedMs = group.clock.monotonicMs();
    this.#savedAt = atBytes;
  }

  get #record(): ScrubRecord {
    return this.#group.labels.record.scrub;
  }

  get found(): number {
    return this.#report.found;
  }

  get healed(): number {
    return this.#report.healed;
  }

  get totalBytes(): number {
    return usedBytes(this.#group);
  }

  get doneBytes(): number {
    return usedBytes(this.#group, this.#at);
  }

  /**
   * Both ends of every member carry a label. Before anything is written on the labels, which would hide it; what mends an end is that the
   * scrub writes them when it begins and when it ends, each time one of the two slots.
   */
  async checkLabels(): Promise<void> {
    for (const member of this.#group.members) {
      for (const end of await badEnds(member)) {
        const position = end === "start" ? 0 : member.device!.sizeBytes - LABEL_END_BYTES;
        this.#report.label(member, end, position, this.#options.heal);
      }
    }
  }

  async step(): Promise<boolean> {
    const why = whyNot(this.#group);
    if (why !== null) {
      this.stop(why);
      return true;
    }
    try {
      return await this.#step();
    } catch (error) {
      // A disk was lost in the middle of it: no fault of the scrub, which goes on when the group is whole again.
      if (isStorageError(error) && whyNot(this.#group) !== null) return true;
      this.#failed = true;
      throw error;
    }
  }

  async #step(): Promise<boolean> {
    const { workspace } = this.#group;
    const more = await workspace.run(1, workspace.partBytes(1), ([memory]) => this.#scrubNext(memory!));
    if (more) await this.#saveSometimes();
    return more;
  }

  /** The workspace is held: no LU is deleted meanwhile. */
  async #scrubNext(memory: Buffer): Promise<boolean> {
    const part = nextPart(this.#group, this.#at);
    if (part === null) return false;
    const { lu, from } = part;
    const cut = new ScrubMemory(memory, lu.width, this.#group.shape.chunkBytes);
    const inspector = this.#options.inspectors.get(lu.number) ?? null;
    const array = this.#group.array(lu.number);
    const to = await this.#prepare(part, array, inspector, Math.min(part.to, from + cut.stepBytes));
    const faults: ScrubFault[] = [];
    const report = (fault: ScrubFault): void => {
      this.#report.count(fault);
      faults.push(fault);
    };
    try {
      await array.scrub(from, to, { inspector, heal: this.#options.heal, memory: cut, report });
      this.#at = part.at + to - from;
    } finally {
      await this.#report.tell(faults, lu.number, inspector);
    }
    return true;
  }

  /** @returns where the step ends, so that its bytes lie in what the inspector is ready for */
  async #prepare(part: WalkPart, array: RaidArray, inspector: BlockInspector | null, to: number): Promise<number> {
    if (inspector === null) return to;
    const { number } = part.lu;
    if (this.#ready?.lu !== number) {
      this.#ready = { lu: number, inspector: new ReadyInspector(inspector, 2 * this.#group.shape.chunkBytes) };
    }
    return this.#ready.inspector.prepare(part, array, to);
  }

  async #saveSometimes(): Promise<void> {
    const now = this.#group.clock.monotonicMs();
    if (now - this.#savedMs < SAVE_MS && this.#at - this.#savedAt < SAVE_BYTES) return;
    await this.save();
  }

  /** In memory; whoever writes the labels next writes it. */
  note(change: Partial<ScrubRecord>): void {
    const { labels } = this.#group;
    labels.record = { ...labels.record, scrub: { ...this.#record, ...change } };
  }

  /** What was written is durable before the labels say that it was done. */
  async save(): Promise<void> {
    const { members, labels, clock } = this.#group;
    const { found, healed } = this.#report;
    const at = this.#at;
    await Promise.all(members.map((member) => member.flush(false)));
    this.note({ found, healed, atBytes: this.#record.state === "idle" ? 0 : at });
    await labels.save();
    this.#savedMs = clock.monotonicMs();
    this.#savedAt = at;
  }

  async finish(whole: boolean): Promise<void> {
    this.ending = true;
    closeInspectors(this.#options);
    this.#report.close();
    // Otherwise it was stopped with the group, or because a disk was lost, and goes on later.
    if (whole || this.givenUp || this.#failed) this.note({ state: "idle" });
    if (whole)
      this.note({ finishedMs: Math.max(wallMs(this.#group.clock), this.#group.labels.record.scrub.startedMs) });
    await this.save();
  }
}

export function closeInspectors(options: ScrubOptions): void {
  for (const inspector of options.inspectors.values()) inspector.close();
}

/** Why a group cannot be scrubbed now: redundancy that is not whole proves nothing. */
export function whyNot({ members, tasks, lus }: Pick<ScrubGroup, "members" | "tasks" | "lus">): string | null {
  const lost = members.find((member) => !member.online);
  if (lost !== undefined) return `disk #${lost.label.number} is ${lost.state}`;
  for (const kind of ["rebuild", "grow"] as const) if (tasks.underWay(kind) !== null) return `a ${kind} is under way`;
  const moving = lus.lus.find((lu) => lu.moving !== undefined);
  return moving === undefined ? null : `LU "${moving.name}" is being spread anew`;
}

/** Ends of a member without a sound label. */
async function badEnds(member: Member): Promise<ReadonlyArray<"start" | "end">> {
  if (member.device === null) return [];
  try {
    const label = await readLabel(member.device);
    if (label === null) return ["start", "end"];
    return label.badEnd === undefined ? [] : [label.badEnd];
  } catch (error) {
    if (!isStorageError(error)) throw error;
    if (error.code === "ENXIO") member.fail(error);
    return error.code === "ENXIO" ? [] : ["start", "end"];
  }
}
