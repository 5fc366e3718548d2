import assert from "node:assert/strict";
import { test } from "node:test";
import { MemoryDevice, type MemoryDeviceOptions } from "../../../src/device/memory-device.js";
import { SeededRandom } from "../../../src/lib/prng.js";
import { MIB } from "../../../src/lib/units.js";

const SECTOR = 512;

function memory(options: Partial<MemoryDeviceOptions> = {}): MemoryDevice {
  return new MemoryDevice({ sizeBytes: MIB, random: new SeededRandom(11), ...options });
}

async function bytes(device: MemoryDevice, position: number, byteCount: number): Promise<Buffer> {
  const target = Buffer.alloc(byteCount);
  await device.read(target, position);
  return target;
}

const filled = (byte: number, byteCount = 4096): Buffer => Buffer.alloc(byteCount, byte);

test("memory: a crash that keeps nothing goes back to the last flush", async () => {
  const device = memory();
  await device.write(filled(1), 0);
  await device.flush();
  await device.write(filled(2), 0);
  await device.write(filled(3), 8192);
  assert.equal(device.unflushedSectors, 16);
  assert.equal(device.crash({ keep: "none" }), 0);
  assert.deepEqual(await bytes(device, 0, 4096), filled(1));
  assert.deepEqual(await bytes(device, 8192, 4096), filled(0));
});

test("memory: a crash that keeps all loses nothing; what was written through needs no flush", async () => {
  const device = memory();
  await device.write(filled(1), 0);
  assert.equal(device.crash({ keep: "all" }), 8);
  assert.deepEqual(await bytes(device, 0, 4096), filled(1));
  await device.write(filled(4), 4096);
  await device.writeThrough([filled(2, 100), filled(3, 412)], 0);
  device.crash({ keep: "none" });
  assert.deepEqual(await bytes(device, 0, 512), Buffer.concat([filled(2, 100), filled(3, 412)]));
  assert.deepEqual(await bytes(device, 4096, 4096), filled(0), "writing through flushes its own range only");
});

test("memory: a random crash keeps every subset of sectors, each in any of its versions", async () => {
  const outcomes = new Set<string>();
  const random = new SeededRandom(5);
  for (let round = 0; round < 400; round++) {
    const device = memory({ random });
    await device.write(filled(1, 2 * SECTOR), 0);
    await device.flush();
    await device.write(filled(2, 2 * SECTOR), 0);
    await device.write(filled(3, SECTOR), 0);
    device.crash({ keep: "random" });
    const after = await bytes(device, 0, 2 * SECTOR);
    for (const half of [after.subarray(0, SECTOR), after.subarray(SECTOR)]) {
      assert.ok(
        half.every((byte) => byte === half[0]),
        "a sector is never torn",
      );
    }
    outcomes.add(`${after[0]}${after[SECTOR]}`);
  }
  assert.deepEqual([...outcomes].sort(), ["11", "12", "21", "22", "31", "32"]);
});

test("memory: a write that completes while a flush is under way is not part of it, what came before is", async () => {
  let release = (): void => {};
  const before = (operation: string) =>
    operation === "flush" ? new Promise<void>((resolve) => (release = resolve)) : undefined;
  const device = memory({ before });
  await device.write(filled(1), 0);
  const flush = device.flush();
  await device.write(filled(2), 0);
  release();
  await flush;
  device.crash({ keep: "none" });
  assert.deepEqual(await bytes(device, 0, 4096), filled(1));
});

test("memory: the hook sees every operation and may stop the world before it", async () => {
  const seen: string[] = [];
  let left = 4;
  const before = (operation: string, position: number, byteCount: number): void => {
    if (left-- === 0) throw new Error("power");
    seen.push(`${operation} ${position} ${byteCount}`);
  };
  const device = memory({ before });
  await device.write(filled(1), 0);
  await device.flush();
  await device.writeThrough([filled(2, 512)], 512);
  await device.read(Buffer.alloc(8), 4);
  await assert.rejects(device.write(filled(3), 0), { message: "power" });
  assert.deepEqual(seen, ["write 0 4096", "flush 0 0", "writeThrough 512 512", "read 4 8"]);
  left = Number.POSITIVE_INFINITY;
  assert.equal((await bytes(device, 0, 1))[0], 1, "what was stopped had no effect");
});

test("memory: requests under way when the power fails are ENXIO and have no effect, also after reopening", async () => {
  let release = (): void => {};
  const gate = new Promise<void>((resolve) => (release = resolve));
  const device = memory({ before: () => gate });
  const writes = [device.write(filled(1), 0), device.writeThrough([filled(1)], 4096)];
  device.crash({ keep: "all" });
  const again = device.reopen({ before: undefined });
  release();
  for (const write of writes) await assert.rejects(write, { code: "ENXIO" });
  await assert.rejects(device.write(filled(1), 0), { code: "ENXIO" });
  assert.deepEqual(await bytes(again, 0, 8192), filled(0, 8192));
});

test("memory: whole-device and per-range failures, and healing", async () => {
  const device = memory({ name: "m1" });
  device.fail("ENXIO");
  await assert.rejects(device.read(filled(0), 4096), { code: "ENXIO", detail: { device: "m1", position: 4096 } });
  await assert.rejects(device.flush(), { code: "ENXIO" });
  device.heal();
  device.failRange({ position: 8192, byteCount: 1, on: "read" });
  await device.read(filled(0), 4096);
  await device.write(filled(7), 8192);
  await assert.rejects(device.read(filled(0), 8192), { code: "EIO" });
  await assert.rejects(device.readv([filled(0), filled(0)], 4608), { code: "EIO" });
  device.heal();
  assert.deepEqual(await bytes(device, 8192, 4096), filled(7));
});

test("memory: counters, and changes behind everybody's back", async () => {
  const device = memory();
  await device.writev([filled(1), filled(2)], 0);
  await device.writeThrough([filled(1)], 0);
  await device.flush();
  device.poke(Buffer.from([9]), 5);
  assert.equal((await bytes(device, 4, 3)).toString("hex"), "010901");
  device.crash({ keep: "none" });
  assert.equal((await bytes(device, 5, 1))[0], 9);
  assert.deepEqual(device.counters, {
    reads: 2,
    writes: 2,
    writesThrough: 1,
    flushes: 1,
    bytesRead: 4,
    bytesWritten: 12288,
  });
});
