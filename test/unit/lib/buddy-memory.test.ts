import assert from "node:assert/strict";
import { test } from "node:test";
import { BuddyMemory } from "../../../src/lib/buddy-memory.js";
import { SeededRandom } from "../../../src/lib/prng.js";
import { Arena } from "../../../src/parity/arena.js";

const KIB = 1024;
const MIB = 1024 * KIB;

function memory(pieces: number) {
  const arena = new Arena({ byteCount: pieces * MIB });
  const strays = { count: 0 };
  const lending = new BuddyMemory(arena.take(pieces * MIB, "test"), () => void strays.count++);
  return { arena, lending, strays };
}

test("buddy memory: powers of two from 32 KiB to 1 MiB, aligned for direct I/O, lowest address first", () => {
  const { arena, lending } = memory(2);
  assert.deepEqual(
    [1, 32 * KIB, 32 * KIB + 1, 700 * KIB, MIB].map((n) => lending.sizeOf(n) / KIB),
    [32, 32, 64, 1024, 1024],
  );
  const first = lending.borrow(20 * KIB);
  const second = lending.borrow(20 * KIB);
  const large = lending.borrow(MIB);
  assert.deepEqual(
    [first, second, large].map(({ length }) => length / KIB),
    [32, 32, 1024],
  );
  assert.ok([first, second, large].every((buffer) => arena.contains(buffer) && buffer.byteOffset % 4096 === 0));
  assert.deepEqual([second.byteOffset - first.byteOffset, large.byteOffset - first.byteOffset], [32 * KIB, MIB]);
  assert.equal(lending.lentBytes, MIB + 64 * KIB);
  lending.giveBack(first);
  assert.equal(lending.borrow(1).byteOffset, first.byteOffset);
});

test("buddy memory: halves that are free become one again, in whatever order they come back", () => {
  const { lending, strays } = memory(1);
  for (let round = 0; round < 3; round++) {
    const pieces = Array.from({ length: 32 }, () => lending.borrow(32 * KIB));
    assert.equal(strays.count, 0);
    for (let i = 0; i < 32; i++) lending.giveBack(pieces[(i * 7 + round) % 32]!);
    const whole = lending.borrow(MIB);
    assert.equal(strays.count, 0);
    lending.giveBack(whole);
  }
});

test("buddy memory: what does not fit comes from elsewhere, is counted, and goes back", () => {
  const { arena, lending, strays } = memory(1);
  const small = lending.borrow(KIB);
  const large = lending.borrow(MIB);
  assert.deepEqual([arena.contains(small), arena.contains(large), large.length, strays.count], [true, false, MIB, 1]);
  lending.giveBack(large);
  lending.giveBack(small);
  assert.equal(lending.lentBytes, 0);
  assert.ok(arena.contains(lending.borrow(MIB)));
});

test("buddy memory: no two pieces that are out at once overlap", () => {
  const { arena, lending } = memory(4);
  const random = new SeededRandom(7);
  const out: Buffer[] = [];
  for (let step = 0; step < 5000; step++) {
    if (out.length > 0 && random.below(2) === 0) {
      const [piece] = out.splice(random.below(out.length), 1);
      const mark = piece!.readUInt32LE(0);
      assert.ok(mark === piece!.readUInt32LE(piece!.length - 4), "what was written is still there");
      lending.giveBack(piece!);
    } else {
      const piece = lending.borrow(1 + random.below(MIB));
      piece.writeUInt32LE(step, 0);
      piece.writeUInt32LE(step, piece.length - 4);
      out.push(piece);
    }
    const inside = out.filter((piece) => arena.contains(piece)).sort((a, b) => a.byteOffset - b.byteOffset);
    inside.forEach((piece, i) => {
      const next = inside[i + 1];
      assert.ok(next === undefined || piece.byteOffset + piece.length <= next.byteOffset);
    });
  }
  for (const piece of out) lending.giveBack(piece);
  assert.equal(lending.lentBytes, 0);
});

test("buddy memory: a piece that is given back twice is our own mistake", () => {
  const { lending } = memory(1);
  const piece = lending.borrow(32 * KIB);
  lending.borrow(32 * KIB);
  lending.giveBack(piece);
  assert.throws(() => lending.giveBack(piece), /given back once/);
});
