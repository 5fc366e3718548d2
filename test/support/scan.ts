import { BLOCK_BYTES, type LuByte, MIB } from "../../src/lib/units.js";
import type { BlockInspector, LogicalUnit } from "../../src/lu/lu.js";

export interface Verdict {
  readonly at: number;
  readonly verdict: "good" | "bad" | "unknown";
  readonly name: string | null;
}

/** What a scrub asks of an inspector, for one LU. @returns a verdict for each suspect, with its name */
export async function scan(
  lu: LogicalUnit,
  inspector: BlockInspector,
  beforeJudging: (at: number) => void | Promise<void> = () => {},
): Promise<Verdict[]> {
  const verdicts: Verdict[] = [];
  const buffer = Buffer.alloc(MIB);
  for (let from = 0; from < lu.sizeBytes; from += inspector.sliceBytes) {
    const to = Math.min(from + inspector.sliceBytes, lu.sizeBytes);
    await inspector.prepare(from as LuByte, to as LuByte);
    for (let at = from; at < to; at += MIB) {
      const piece = buffer.subarray(0, Math.min(MIB, to - at));
      await lu.read(piece, at as LuByte);
      const suspects: LuByte[] = [];
      inspector.suspects(piece, at as LuByte, (bad) => suspects.push(bad));
      for (const suspect of suspects) {
        await beforeJudging(suspect);
        const block = piece.subarray(suspect - at, suspect - at + BLOCK_BYTES);
        const verdict = await inspector.judge(block, suspect);
        verdicts.push({ at: suspect, verdict, name: await inspector.nameOf(suspect) });
      }
    }
  }
  return verdicts;
}
