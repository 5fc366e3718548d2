import type { LuByte } from "../lib/units.js";
import type { BlockInspector } from "./contract.js";
import type { GroupCore } from "./core.js";
import type { Member } from "./member.js";
import type { ScrubFault } from "./scrub-run.js";

/** Events of one scrub; what is found beyond that is counted, and told in one more at the end. */
const EVENTS_MAX = 1000;

/** Counts what a scrub finds and tells people of it, with the names of the files. */
export class ScrubReport {
  found: number;
  healed: number;
  #events = 0;
  /** Places that no event told of. */
  #untold = 0;

  constructor(
    private readonly core: Pick<GroupCore, "counters" | "emit">,
    earlier: { readonly found: number; readonly healed: number },
  ) {
    this.found = earlier.found;
    this.healed = earlier.healed;
  }

  /** At once, with the rows locked: nothing is awaited. */
  count(fault: ScrubFault): void {
    this.found++;
    const { member, position, healed } = fault;
    if (healed) {
      this.healed++;
      this.core.counters.healedBlocks++;
    }
    if (fault.what === "unreadable") member.count("read", position, healed);
    else if (fault.proven) member.count("checksum", position, healed);
    else if (healed) member.errors.repaired++;
  }

  /** @throws what the inspector throws */
  async tell(faults: readonly ScrubFault[], lu: number, inspector: BlockInspector | null): Promise<void> {
    for (const fault of faults) {
      const { at, what } = fault;
      const file = at === null || what === "parity" ? null : ((await inspector?.nameOf(at as LuByte)) ?? null);
      const detail = { position: fault.position, lu, at, file, what, done: fault.done, healed: fault.healed };
      const disk = fault.member.label.number;
      this.#emit("scrub-fault", detail, disk);
      // A block that cannot be read and that nobody owns is no loss.
      const wanted = file !== null || inspector === null || what === "checksum";
      if (fault.lost && wanted) this.#emit("lost-blocks", { ...detail, blocks: 1 }, disk);
    }
  }

  label(member: Member, end: "start" | "end", position: number, heal: boolean): void {
    this.found++;
    if (heal) this.healed++;
    const done = heal
      ? `label at the ${end} of the disk written again`
      : `reported only: no label at the ${end} of the disk; it is written again with every change of the group`;
    const detail = { position, lu: null, at: null, file: null, what: "label", done, healed: heal };
    this.#emit("scrub-fault", detail, member.label.number);
  }

  #emit(kind: "scrub-fault" | "lost-blocks", detail: Readonly<Record<string, unknown>>, disk: number): void {
    if (this.#events < EVENTS_MAX) {
      this.#events++;
      this.core.emit(kind, detail, disk);
    } else if (kind === "scrub-fault") this.#untold++;
  }

  /** At the end: how many places no event told of. */
  close(): void {
    if (this.#untold === 0) return;
    const place = { position: null, lu: null, at: null, file: null };
    const done = `${this.#untold} more places were wrong`;
    this.core.emit("scrub-fault", { ...place, what: "more", done, untold: this.#untold });
    this.#untold = 0;
  }
}
