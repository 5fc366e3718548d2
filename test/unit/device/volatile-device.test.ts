import assert from "node:assert/strict";
import { test } from "node:test";
import { MemoryDevice, type Operation } from "../../../src/device/memory-device.js";
import { type CutMode, VolatileDevice } from "../../../src/device/volatile-device.js";
import { nextTurn } from "../../../src/lib/next-turn.js";
import { SeededRandom } from "../../../src/lib/prng.js";
import { KIB, MIB } from "../../../src/lib/units.js";

const BLOCK = 4096;
const SECTOR = 512;

const filled = (byte: number, blocks = 1): Buffer => Buffer.alloc(blocks * BLOCK, byte);

function volatile(cacheBytes: number = MIB, before?: (operation: Operation) => void | Promise<void>) {
  const memory = new MemoryDevice({ name: "v1", sizeBytes: MIB, random: new SeededRandom(1), before });
  return { memory, device: new VolatileDevice(memory, { cacheBytes }) };
}

async function contentOf(memory: MemoryDevice, blocks: number, position = 0): Promise<Buffer> {
  const content = filled(0, blocks);
  await memory.read(content, position);
  return content;
}

test("volatile: a write stays above until a flush, and a flush brings everything down in few requests", async () => {
  const { memory, device } = volatile();
  for (const block of [3, 1, 2, 9]) await device.write(filled(block), block * BLOCK);
  assert.equal(memory.counters.writes, 0);
  assert.equal(device.unflushedSectors, 32);
  await device.flush();
  assert.deepEqual([memory.counters.writes, memory.counters.flushes, memory.unflushedSectors], [2, 1, 0]);
  assert.equal(device.unflushedSectors, 0);
  assert.ok((await contentOf(memory, 3, BLOCK)).equals(Buffer.concat([filled(1), filled(2), filled(3)])));
  await device.flush();
  assert.equal(
    memory.counters.flushes,
    2,
    "what was written out as the cache was full is flushed by the next flush, too",
  );
});

test("volatile: writing through is durable, and leaves what was written before in the cache", async () => {
  const { memory, device } = volatile();
  await device.write(filled(1), 0);
  await device.write(filled(2), 5 * BLOCK);
  await device.writeThrough([filled(3).subarray(0, 100), filled(3).subarray(100)], 5 * BLOCK);
  assert.deepEqual([memory.counters.writesThrough, memory.counters.writes, memory.counters.flushes], [1, 1, 0]);
  assert.deepEqual([device.unflushedSectors, memory.unflushedSectors], [8, 0]);
  assert.ok((await contentOf(memory, 1, 5 * BLOCK)).equals(filled(3)));
});

test("volatile: a full cache writes its oldest half below, unflushed", async () => {
  const { memory, device } = volatile(32 * KIB);
  for (let block = 0; block < 9; block++) await device.write(filled(block + 1), block * BLOCK);
  assert.deepEqual([device.unflushedSectors, memory.unflushedSectors, memory.counters.flushes], [5 * 8, 4 * 8, 0]);
  assert.ok((await contentOf(memory, 4)).equals(Buffer.concat([filled(1), filled(2), filled(3), filled(4)])));
});

test("volatile: a block written again while its older content is on its way arrives after it", async () => {
  const held: Array<() => void> = [];
  const { memory, device } = volatile(MIB, (operation) => {
    const hold = operation === "write" && held.length === 0;
    return hold ? new Promise<void>((resolve) => held.push(resolve)) : undefined;
  });
  await device.write(filled(1), 0);
  const first = device.flush();
  await nextTurn();
  await device.write(filled(2), 0);
  const target = filled(0);
  await device.read(target, 0);
  assert.ok(target.equals(filled(2)), "the newest is read");
  const through = device.writeThrough([filled(3)], 0);
  await nextTurn();
  assert.equal(memory.counters.writes, 0, "nothing overtakes");
  held[0]?.();
  await Promise.all([first, through]);
  assert.ok((await contentOf(memory, 1)).equals(filled(3)));
  assert.deepEqual([memory.unflushedSectors, device.unflushedSectors], [0, 0]);
});

/** Writes take effect at once and are reported when it is said so. */
class LateDevice extends MemoryDevice {
  readonly held: Array<() => void> = [];

  override async writev(sources: readonly Buffer[], position: number): Promise<void> {
    await super.writev(sources, position);
    await new Promise<void>((resolve) => this.held.push(resolve));
  }
}

test("volatile: what is written while the older content is being reported as written is not lost", async () => {
  const memory = new LateDevice({ name: "v1", sizeBytes: MIB, random: new SeededRandom(1) });
  const device = new VolatileDevice(memory, { cacheBytes: MIB });
  await device.write(filled(1), 0);
  const flush = device.flush();
  await nextTurn();
  await device.write(filled(2), 0);
  memory.held.shift()?.();
  await flush;
  assert.ok((await contentOf(memory, 1)).equals(filled(1)));
  const target = filled(0);
  await device.read(target, 0);
  assert.ok(target.equals(filled(2)));
  assert.equal(device.unflushedSectors, 8);
});

test("volatile: a flush waits for what others are writing out", async () => {
  const memory = new LateDevice({ name: "v1", sizeBytes: MIB, random: new SeededRandom(1) });
  const device = new VolatileDevice(memory, { cacheBytes: 32 * KIB });
  for (let block = 0; block < 8; block++) await device.write(filled(block), block * BLOCK);
  const ninth = device.write(filled(9), 8 * BLOCK);
  const flush = device.flush();
  await nextTurn();
  assert.equal(memory.held.length, 2, "the oldest half, for room; the others, for the flush");
  memory.held.pop()?.();
  await nextTurn();
  assert.equal(memory.counters.flushes, 0);
  memory.held.pop()?.();
  await Promise.all([ninth, flush]);
  assert.equal(memory.counters.flushes, 1);
  assert.equal(device.unflushedSectors, 8, "the ninth came after the flush began");
});

test("volatile: what the device below refuses stays dirty, and the flush says so", async () => {
  const { memory, device } = volatile();
  await device.write(filled(1), 0);
  await device.write(filled(2), 4 * BLOCK);
  memory.failRange({ position: 0, byteCount: BLOCK, on: "write" });
  await assert.rejects(device.flush(), { code: "EIO" });
  assert.equal(device.unflushedSectors, 8);
  memory.heal();
  await device.flush();
  assert.ok((await contentOf(memory, 1)).equals(filled(1)));
});

test("volatile: reads of cached and other blocks together", async () => {
  const { memory, device } = volatile();
  await memory.write(Buffer.concat([0, 1, 2, 3, 4, 5].map((byte) => filled(byte))), 0);
  await device.write(filled(0x11), BLOCK);
  await device.write(filled(0x44), 4 * BLOCK);
  const target = filled(0, 6);
  await device.readv([target.subarray(0, 5000), target.subarray(5000)], 0);
  assert.ok(target.equals(Buffer.concat([0, 0x11, 2, 3, 0x44, 5].map((byte) => filled(byte)))));
});

/** Old content 0xee, flushed; new content by block, unflushed; then the power fails. */
async function cutOnce(seed: number, mode: CutMode): Promise<{ content: Buffer; kept: number; lost: number }> {
  const { memory, device } = volatile();
  await device.write(filled(0xee, 16), 0);
  await device.flush();
  for (let block = 0; block < 16; block++) await device.write(filled(block), block * BLOCK);
  const { keptSectors, lostSectors } = await device.cut(new SeededRandom(seed), mode);
  return { content: await contentOf(memory, 16), kept: keptSectors, lost: lostSectors };
}

test("volatile: a cut drops, keeps or tears what was not flushed", async () => {
  const dropped = await cutOnce(1, "drop");
  assert.ok(dropped.content.equals(filled(0xee, 16)));
  assert.deepEqual([dropped.kept, dropped.lost], [0, 128]);
  const kept = await cutOnce(1, "keep");
  assert.ok(kept.content.equals(Buffer.concat(Array.from({ length: 16 }, (_, block) => filled(block)))));
  assert.deepEqual([kept.kept, kept.lost], [128, 0]);
  let tornBlocks = 0;
  for (let seed = 0; seed < 20; seed++) {
    const { content, kept, lost } = await cutOnce(seed, "torn");
    let fresh = 0;
    for (let block = 0; block < 16; block++) {
      let freshHere = 0;
      for (let at = block * BLOCK; at < (block + 1) * BLOCK; at += SECTOR) {
        const sector = content.subarray(at, at + SECTOR);
        const byte = sector[0];
        assert.ok(sector.every((one) => one === byte) && (byte === 0xee || byte === block), "a sector is old or new");
        if (byte === block) freshHere++;
      }
      fresh += freshHere;
      if (freshHere > 0 && freshHere < 8) tornBlocks++;
    }
    assert.deepEqual([kept, lost], [fresh, 128 - fresh]);
  }
  assert.ok(tornBlocks > 50, `${tornBlocks} torn blocks`);
});

test("volatile: the same seed tears alike, another one differently", async () => {
  const [one, again, other] = await Promise.all([cutOnce(7, "torn"), cutOnce(7, "torn"), cutOnce(8, "torn")]);
  assert.ok(one?.content.equals(again?.content ?? filled(0)));
  assert.ok(!one?.content.equals(other?.content ?? filled(0)));
});

test("volatile: after a cut everything is ENXIO, also what was under way, and closing writes nothing", async () => {
  const held: Array<() => void> = [];
  const { memory, device } = volatile(MIB, (operation) => {
    return operation === "write" && held.length === 0 ? new Promise<void>((resolve) => held.push(resolve)) : undefined;
  });
  await device.write(filled(1), 0);
  const flush = assert.rejects(device.flush(), { code: "ENXIO" });
  await nextTurn();
  await device.write(filled(2), BLOCK);
  const cut = device.cut(new SeededRandom(1), "drop");
  const gone = { code: "ENXIO", detail: { device: "v1", position: 0, injected: "cut" } };
  await assert.rejects(device.read(filled(0), 0), gone);
  await assert.rejects(device.write(filled(0), 0), gone);
  await assert.rejects(device.writeThrough([filled(0)], 0), gone);
  held[0]?.();
  await flush;
  await cut;
  await assert.rejects(device.flush(), gone);
  await device.close();
  assert.ok((await contentOf(memory.reopen(), 1, BLOCK)).equals(filled(0)));
});

test("volatile: closing writes out what is there", async () => {
  const { memory, device } = volatile();
  await device.write(filled(1), 0);
  await device.close();
  assert.ok((await contentOf(memory.reopen(), 1)).equals(filled(1)));
});

test("volatile: random operations against a flat buffer, with a small cache and slow requests below", async () => {
  for (let seed = 0; seed < 20; seed++) {
    const random = new SeededRandom(seed);
    const { device } = volatile(64 * KIB, nextTurn);
    const model = filled(0, 256);
    for (let round = 0; round < 40; round++) {
      // Ranges that do not meet, all at once.
      const work = Array.from({ length: 8 }, async (_, lane) => {
        const first = lane * 32 + random.below(16);
        const source = filled(random.below(256), 1 + random.below(16));
        source.copy(model, first * BLOCK);
        const how = random.below(4);
        if (how === 0) await device.writeThrough([source], first * BLOCK);
        else await device.write(source, first * BLOCK);
        if (how === 1) await device.flush();
      });
      await Promise.all(work);
      const target = filled(0, 256);
      await device.read(target, 0);
      assert.ok(target.equals(model), `seed ${seed}, round ${round}`);
    }
    await device.close();
  }
});
