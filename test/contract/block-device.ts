import assert from "node:assert/strict";
import { after, test } from "node:test";
import type { BlockDevice } from "../../src/device/device.js";
import { isStorageError } from "../../src/lib/errors.js";
import { nextTurn } from "../../src/lib/next-turn.js";
import { SeededRandom } from "../../src/lib/prng.js";
import { KIB } from "../../src/lib/units.js";

/** A device under test: at least 8 MiB, writable, open; nobody else uses it. */
export interface Opened {
  readonly device: BlockDevice;
  /** The device again, after `device` was closed: what was flushed must be there. */
  reopen(): Promise<BlockDevice>;
  /** After the test and the closing of the device: remove files, detach loops. */
  cleanup(): Promise<void>;
}

const BLOCK = 4096;

/**
 * What every BlockDevice, and every layer on top of one, must do (src/device/device.ts).
 * @param open  called once per test
 */
export function blockDeviceContract(name: string, open: () => Promise<Opened>): void {
  const check = (what: string, body: (device: BlockDevice, opened: Opened, random: SeededRandom) => Promise<void>) => {
    test(`${name}: ${what}`, async () => {
      const opened = await open();
      try {
        await body(opened.device, opened, new SeededRandom(1));
      } finally {
        await opened.device.close();
        await opened.cleanup();
      }
    });
  };

  check("has a size in whole blocks and a name", async (device) => {
    assert.ok(device.sizeBytes >= 8 * 1024 * KIB);
    assert.equal(device.sizeBytes % BLOCK, 0);
    assert.notEqual(device.name, "");
    assert.ok(device.alignmentBytes === 1 || device.alignmentBytes === BLOCK);
    assert.equal(device.readOnly, false);
  });

  check("reads back what was written, at once and by its neighbours untouched", async (device, _, random) => {
    const model = Buffer.alloc(64 * BLOCK);
    await device.write(model, 0);
    for (let round = 0; round < 60; round++) {
      const step = device.alignmentBytes;
      const position = step * random.below(32 * (BLOCK / step));
      const source = Buffer.alloc(step * (1 + random.below(32 * (BLOCK / step))));
      random.fill(source);
      source.copy(model, position);
      await device.write(source, position);
      const target = Buffer.alloc(model.length);
      await device.read(target, 0);
      assert.ok(target.equals(model), `round ${round}`);
    }
  });

  check("vectors: lengths of all kinds, scattered and gathered alike", async (device, _, random) => {
    const all = randomBuffer(random, 16 * BLOCK);
    const cuts = [0, 1, 513, 514, 4096, 4096, 20_000, all.length];
    const pieces = cuts.slice(1).map((end, i) => all.subarray(cuts[i], end));
    await device.writev(pieces, BLOCK);
    const targets = [all.length - 7, 0, 3, 4].map((byteCount) => Buffer.alloc(byteCount));
    await device.readv(targets, BLOCK);
    assert.ok(Buffer.concat(targets).equals(all));
  });

  check("vectors of 1500 buffers (more than one system call takes)", async (device, _, random) => {
    const sources = Array.from({ length: 1500 }, () => randomBuffer(random, BLOCK));
    await device.writev(sources, 0);
    const targets = sources.map(() => Buffer.alloc(BLOCK));
    await device.readv(targets, 0);
    assert.ok(Buffer.concat(targets).equals(Buffer.concat(sources)));
    await device.writeThrough(sources.toReversed(), 0);
    await device.readv(targets, 0);
    assert.ok(Buffer.concat(targets.toReversed()).equals(Buffer.concat(sources)));
  });

  check("zero bytes are a request that does nothing", async (device) => {
    const before = Buffer.alloc(BLOCK, 1);
    await device.write(before, 0);
    for (const empty of [[], [Buffer.alloc(0)], new Array<Buffer>(1100).fill(Buffer.alloc(0))]) {
      await device.readv(empty, 0);
      await device.writev(empty, 0);
      await device.writeThrough(empty, 0);
      await device.readv(empty, device.sizeBytes);
      await device.writev(empty, device.sizeBytes);
    }
    await device.read(Buffer.alloc(0), 0);
    await device.write(Buffer.alloc(0), 0);
    const after = Buffer.alloc(BLOCK);
    await device.readv([...new Array<Buffer>(1100).fill(Buffer.alloc(0)), after], 0);
    assert.ok(after.equals(before));
  });

  check("the last block is there, and nothing beyond it", async (device) => {
    const block = Buffer.alloc(BLOCK, 0x5a);
    await device.write(block, device.sizeBytes - BLOCK);
    const target = Buffer.alloc(BLOCK);
    await device.read(target, device.sizeBytes - BLOCK);
    assert.ok(target.equals(block));
    const two = Buffer.alloc(2 * BLOCK);
    for (const position of [device.sizeBytes - BLOCK, device.sizeBytes, -BLOCK, 2 ** 53, Number.NaN, 0.5]) {
      const refused = (error: unknown): boolean =>
        isStorageError(error, "EINVAL") &&
        error.detail.device === device.name &&
        Object.is(error.detail.position, position);
      await assert.rejects(device.read(two, position), refused);
      await assert.rejects(device.readv([two], position), refused);
      await assert.rejects(device.write(two, position), refused);
      await assert.rejects(device.writev([two], position), refused);
      await assert.rejects(device.writeThrough([two], position), refused);
    }
    await device.read(target, device.sizeBytes - BLOCK);
    assert.ok(target.equals(block));
  });

  check("positions and lengths that are not aligned are refused where alignment is asked for", async (device) => {
    if (device.alignmentBytes === 1) return device.write(Buffer.alloc(3), 5);
    await assert.rejects(device.read(Buffer.alloc(BLOCK), 512), { code: "EINVAL" });
    await assert.rejects(device.write(Buffer.alloc(512), 0), { code: "EINVAL" });
  });

  check("concurrent reads and writes of different ranges do not disturb each other", async (device, _, random) => {
    const slots = Array.from({ length: 64 }, () => randomBuffer(random, 3 * BLOCK));
    const at = (i: number): number => i * 3 * BLOCK;
    await Promise.all(slots.map((slot, i) => device.writev([slot.subarray(0, BLOCK), slot.subarray(BLOCK)], at(i))));
    const work: Promise<void>[] = [];
    const targets = slots.map(() => Buffer.alloc(3 * BLOCK));
    for (const [i, slot] of slots.entries()) {
      if (i % 2 === 0) work.push(device.read(targets[i] as Buffer, at(i)));
      else work.push(i % 4 === 1 ? device.write(inverted(slot), at(i)) : device.writeThrough([inverted(slot)], at(i)));
      if (i % 16 === 0) work.push(device.flush());
    }
    await Promise.all(work);
    for (const [i, slot] of slots.entries()) {
      await device.read(targets[i] as Buffer, at(i));
      assert.ok(targets[i]?.equals(slot), `slot ${i}`);
    }
  });

  check("many flushes at once, with writes in between, all resolve", async (device) => {
    const block = Buffer.alloc(BLOCK, 7);
    const work: Promise<void>[] = [];
    for (let i = 0; i < 50; i++) {
      work.push(device.write(block, i * BLOCK), device.flush());
      if (i % 10 === 0) await work[work.length - 2];
    }
    await Promise.all(work);
  });

  check("what was flushed or written through is there after reopening", async (device, opened, random) => {
    const flushed = randomBuffer(random, 4 * BLOCK);
    const through = randomBuffer(random, 4 * BLOCK);
    await device.write(flushed, 0);
    await device.flush();
    await device.writeThrough([through.subarray(0, BLOCK), through.subarray(BLOCK)], 8 * BLOCK);
    await device.close();
    const again = await opened.reopen();
    try {
      assert.equal(again.sizeBytes, device.sizeBytes);
      const target = Buffer.alloc(4 * BLOCK);
      await again.read(target, 0);
      assert.ok(target.equals(flushed));
      await again.read(target, 8 * BLOCK);
      assert.ok(target.equals(through));
    } finally {
      await again.close();
    }
  });

  check("closing waits for what is in flight; later requests are ENXIO; closing again is nothing", async (device) => {
    const settled: string[] = [];
    const note = (what: string, work: Promise<void>): Promise<unknown> => work.then(() => settled.push(what));
    const buffer = Buffer.alloc(256 * BLOCK, 3);
    const work = [
      note("write", device.write(buffer, 0)),
      note("through", device.writeThrough([buffer], buffer.length)),
      note("read", device.read(Buffer.alloc(BLOCK), 3 * buffer.length)),
      note("flush", device.flush()),
    ];
    const closing = device.close().then(() => settled.push("close"));
    const gone = (error: unknown): boolean => isStorageError(error, "ENXIO") && error.detail.device === device.name;
    await assert.rejects(device.read(Buffer.alloc(BLOCK), 0), gone, "while closing");
    await closing;
    // One turn of the event loop, for the promises of requests that ended in the same one as the closing.
    await nextTurn();
    assert.deepEqual(settled.sort(), ["close", "flush", "read", "through", "write"]);
    await Promise.all(work);
    await device.close();
    await assert.rejects(device.readv([Buffer.alloc(BLOCK)], 0), gone);
    await assert.rejects(device.write(Buffer.alloc(BLOCK), 0), gone);
    await assert.rejects(device.writev([Buffer.alloc(BLOCK)], 0), gone);
    await assert.rejects(device.writeThrough([Buffer.alloc(BLOCK)], 0), gone);
    await assert.rejects(device.flush(), gone);
  });

  check("buffers may be used again as soon as the promise settles", async (device) => {
    const buffer = Buffer.alloc(BLOCK);
    for (let i = 0; i < 40; i++) {
      buffer.fill(i);
      await device.write(buffer, i * BLOCK);
    }
    buffer.fill(0xff);
    await device.flush();
    const target = Buffer.alloc(40 * BLOCK);
    await device.read(target, 0);
    for (let i = 0; i < 40; i++) assert.ok(target.subarray(i * BLOCK, (i + 1) * BLOCK).every((byte) => byte === i));
  });
}

/** A suite that cannot run here says so, in the test report and on stderr. */
export function skipAloud(name: string, why: string): void {
  test(name, { skip: why });
  after(() => console.error(`!! LEFT OUT: ${name}: ${why}`));
}

function randomBuffer(random: SeededRandom, byteCount: number): Buffer {
  const buffer = Buffer.alloc(byteCount);
  for (let i = 0; i < byteCount; i += 4) buffer.writeUInt32LE(random.next(), Math.min(i, byteCount - 4));
  return buffer;
}

/** The same buffer with another content, so that a read of the old content would be noticed. */
function inverted(buffer: Buffer): Buffer {
  for (let i = 0; i < buffer.length; i++) buffer[i] = (buffer[i] ?? 0) ^ 0xa5;
  return buffer;
}
