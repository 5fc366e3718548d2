import type { LuByte } from "../lib/units.js";
import type { BlockInspector, LuComparison, LuFault } from "./contract.js";
import { ReadyInspector } from "./ready-inspector.js";
import { type ScrubFault, ScrubMemory } from "./scrub-run.js";
import { nextPart, type RowTable } from "./scrub-walk.js";
import { type ScrubGroup, whyNot } from "./scrub-work.js";

/** Faults of each kind that one comparison keeps; more are only counted. */
const FAULTS_MAX = 1000;

/** @throws as Group.compareLu */
export async function compareLu(
  group: ScrubGroup,
  number: number,
  inspector: BlockInspector | null,
): Promise<LuComparison> {
  const faults: LuFault[] = [];
  const ready = inspector === null ? null : new ReadyInspector(inspector, 2 * group.shape.chunkBytes);
  const counts = { wrong: 0, unreadable: 0 };
  for (let at: number | null = 0; at !== null; ) {
    const why = whyNot(group);
    if (why !== null) return { faults, ...counts, why };
    const found: ScrubFault[] = [];
    const from: number = at;
    at = await group.workspace.run(1, group.workspace.partBytes(1), async ([memory]) => {
      const part = nextPart(onlyLu(group, number), from);
      if (part === null) return null;
      const cut = new ScrubMemory(memory!, part.lu.width, group.shape.chunkBytes);
      const array = group.array(number);
      const wanted = Math.min(part.to, part.from + cut.stepBytes);
      const to = ready === null ? wanted : await ready.prepare(part, array, wanted);
      await array.scrub(part.from, to, {
        inspector,
        heal: true,
        memory: cut,
        report: (fault) => void found.push(fault),
      });
      return part.at + to - part.from;
    });
    for (const fault of found) {
      const kind = fault.what === "unreadable" ? "unreadable" : "wrong";
      if (++counts[kind] <= FAULTS_MAX) faults.push(await told(fault, number, inspector));
    }
  }
  return { faults, ...counts, why: null };
}

/** The rows of one LU; none when it is not there any more. */
function onlyLu(group: ScrubGroup, number: number): RowTable {
  return {
    shape: group.shape,
    rowsStart: group.rowsStart,
    lus: { lus: group.lus.lus.filter((lu) => lu.number === number) },
    rowMap: (lu) => group.rowMap(lu),
  };
}

async function told(fault: ScrubFault, lu: number, inspector: BlockInspector | null): Promise<LuFault> {
  const { member, position, at, what, done, healed } = fault;
  const file = at === null || what === "parity" ? null : ((await inspector?.nameOf(at as LuByte)) ?? null);
  return { disk: member.label.number, position, lu, at, what, done, healed, file };
}
