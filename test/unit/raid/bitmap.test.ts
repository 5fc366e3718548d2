import { equal, notEqual } from "node:assert/strict";
import { test } from "node:test";
import { BLOCK_BYTES, MIB } from "../../../src/lib/units.js";
import { decodeBitmap, WriteIntentBitmap } from "../../../src/raid/bitmap.js";
import type { Member } from "../../../src/raid/member.js";

const UUID = "00112233-4455-6677-8899-aabbccddeeff";
const REGIONS = 16;

/** A member that takes bitmaps when it is told to. */
class SlowMember {
  readonly online = true;
  readonly written: Buffer[] = [];
  #held: Promise<void> | null = null;

  /** What comes from now on waits until the result is called. */
  hold(): () => void {
    let open = (): void => {};
    this.#held = new Promise((resolve) => (open = resolve));
    return open;
  }

  async writeThrough(sources: readonly Buffer[]): Promise<boolean> {
    const bits = Buffer.from(sources[0]!);
    await this.#held;
    this.written.push(bits);
    return true;
  }

  /** Marked in what was written last. */
  isMarked(region: number): boolean {
    const { bits } = decodeBitmap(this.written[this.written.length - 1]!, UUID, REGIONS)!;
    return (bits[region >>> 3]! & (1 << (region & 7))) !== 0;
  }
}

function fixture(): { member: SlowMember; bitmap: WriteIntentBitmap } {
  const member = new SlowMember();
  const bitmap = new WriteIntentBitmap({
    ...{ groupUuid: UUID, members: [member as unknown as Member], regionCount: REGIONS, regionBytes: MIB },
    ...{ rowsStart: 0, block: Buffer.alloc(BLOCK_BYTES) },
  });
  return { member, bitmap };
}

test("bitmap: a write that comes while its mark is being cleared, behind another change, marks its region anew", async () => {
  const { member, bitmap } = fixture();
  await bitmap.enter(0, BLOCK_BYTES);
  bitmap.leave(0, BLOCK_BYTES);
  const open = member.hold();
  const other = bitmap.enter(9 * MIB, 9 * MIB + BLOCK_BYTES);
  const cleared = bitmap.clear([0], true);
  const marked = bitmap.enter(0, BLOCK_BYTES);
  notEqual(marked, null, "the mark that is to go is not relied on");
  open();
  await Promise.all([other, cleared, marked]);
  equal(member.isMarked(0), true);
  equal(member.isMarked(9), true);
  equal(bitmap.enter(0, BLOCK_BYTES), null, "and the new one is");
});

test("bitmap: nor is it relied on at any moment between the other change and the clearing", async () => {
  for (let moments = 0; moments < 16; moments++) {
    const { member, bitmap } = fixture();
    await bitmap.enter(0, BLOCK_BYTES);
    bitmap.leave(0, BLOCK_BYTES);
    const openFirst = member.hold();
    const other = bitmap.enter(9 * MIB, 9 * MIB + BLOCK_BYTES);
    const cleared = bitmap.clear([0], true);
    const openSecond = member.hold();
    openFirst();
    for (let i = 0; i < moments; i++) await Promise.resolve();
    const marked = bitmap.enter(0, BLOCK_BYTES);
    notEqual(marked, null, `${moments} moments later`);
    openSecond();
    await Promise.all([other, cleared, marked]);
    equal(member.isMarked(0), true);
  }
});
