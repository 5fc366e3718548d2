import assert from "node:assert/strict";
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { type TestContext, test } from "node:test";
import { FaultBench } from "../../../src/control/fault-bench.js";
import { openFileDevice } from "../../../src/device/file-device.js";
import { type CancelTimer, SystemClock } from "../../../src/lib/clock.js";
import { SILENT } from "../../../src/lib/log.js";
import { SeededRandom } from "../../../src/lib/prng.js";
import { MIB } from "../../../src/lib/units.js";
import { FakeWorld, fakeLayers } from "./fake-layers.js";

/** Its timers keep the process alive: without a daemon nothing else does. */
class WaitedClock extends SystemClock {
  override after(delayMs: number, action: () => void): CancelTimer {
    const timer = setTimeout(action, delayMs);
    return () => clearTimeout(timer);
  }
}

/** Real files below: what is proven here is locks, descriptors and what a second opener sees. */
function rack(t: TestContext, volatileCache: boolean) {
  const folder = mkdtempSync(path.join(os.tmpdir(), "stripeward-bench-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const paths = ["d1", "d2"].map((name) => path.join(folder, name));
  for (const file of paths) {
    writeFileSync(file, "");
    truncateSync(file, MIB);
  }
  const bench = new FaultBench({ clock: new WaitedClock(), random: new SeededRandom(1), log: SILENT, volatileCache });
  const plain = {
    ...fakeLayers(new FakeWorld(0)),
    openDevice: (file: string) => openFileDevice(file, { mode: "read-write-exclusive", log: SILENT }),
    openReadOnly: (file: string) => openFileDevice(file, { mode: "read-only", log: SILENT }),
  };
  const [one = "", two = ""] = paths;
  return { bench, layers: bench.over(plain), plain, one, two };
}

const filled = (byte: number): Buffer => Buffer.alloc(4096, byte);

async function read(device: { read(target: Buffer, position: number): Promise<void> }, position = 0): Promise<Buffer> {
  const target = filled(0);
  await device.read(target, position);
  return target;
}

test("bench: gone takes the disk from its holder and from whoever looks for it, until it is cleared", async (t) => {
  const { bench, layers, one, two } = rack(t, false);
  const device = await layers.openDevice(one);
  const other = await layers.openDevice(two);
  await bench.inject({ disk: 1, path: one }, { kind: "gone" }, 1);
  await assert.rejects(device.write(filled(1), 0), { code: "ENXIO" });
  await assert.rejects(layers.openDevice(one), { code: "ENXIO", message: `there is no device behind ${one}` });
  await assert.rejects(layers.openReadOnly(one), { code: "ENXIO" });
  await other.write(filled(2), 0);
  assert.equal(bench.clear({ disk: 1, path: one }, "eio").length, 0);
  assert.deepEqual(
    bench.clear({ disk: 1, path: one }, "gone").map(({ disk, kind }) => [disk, kind]),
    [[1, "gone"]],
  );
  // The lock went with the disk, although its holder has not let go of the device; the old device stays dead.
  const again = await layers.openDevice(one);
  await again.write(filled(3), 0);
  await assert.rejects(device.read(filled(0), 0), { code: "ENXIO" });
  await Promise.all([device.close(), other.close(), again.close()]);
});

test("bench: faults stay with the path when a disk is opened again, and count their hits on", async (t) => {
  const { bench, layers, one } = rack(t, true);
  const device = await layers.openDevice(one);
  await bench.inject({ disk: 1, path: one }, { kind: "eio", on: "read", position: 4096, byteCount: 4096, hits: 2 }, 1);
  await assert.rejects(read(device, 4096), { code: "EIO" });
  await device.close();
  const again = await layers.openDevice(one);
  await read(again);
  const where = { disk: 1, path: one, position: 4096, byteCount: 4096 };
  assert.deepEqual(bench.list(), [{ ...where, kind: "eio", on: "read", delayMs: null, hitsLeft: 1 }]);
  await assert.rejects(read(again, 4096), { code: "EIO" });
  await read(again, 4096);
  assert.deepEqual(bench.list(), []);
  await again.close();
});

test("bench: rot is on the medium, outlives everything, and is the same for the same seed", async (t) => {
  const { bench, layers, plain, one, two } = rack(t, true);
  for (const file of [one, two]) {
    const device = await layers.openDevice(file);
    await device.write(filled(0x55), 40_960);
    await device.flush();
  }
  const first = await bench.inject({ disk: 1, path: one }, { kind: "bitrot", hits: 2 }, 99);
  const second = await bench.inject({ disk: 2, path: two }, { kind: "bitrot", hits: 2 }, 99);
  assert.deepEqual(first.rotten, second.rotten);
  assert.equal(first.rotten.length, 2);
  assert.deepEqual(bench.list(), []);
  const content = await read(await plain.openReadOnly(one), 40_960);
  for (const { position, bit } of first.rotten) content[position - 40_960]! ^= 1 << bit;
  assert.ok(content.equals(filled(0x55)));
  const exact = await bench.inject({ disk: 1, path: one }, { kind: "bitrot", position: 5 }, 1);
  assert.equal(exact.rotten[0]?.position, 5);
});

test("bench: a place outside of the disk, and rot of a disk that is not open, are refused", async (t) => {
  const { bench, layers, one, two } = rack(t, false);
  await layers.openDevice(one);
  const place = { disk: 1, path: one };
  for (const range of [{ position: MIB }, { position: 4096, byteCount: MIB }]) {
    await assert.rejects(bench.inject(place, { kind: "lost", ...range }, 1), { code: "EINVAL" });
  }
  await bench.inject(place, { kind: "lost", position: MIB - 1, byteCount: 1 }, 1);
  await assert.rejects(bench.inject({ disk: 2, path: two }, { kind: "bitrot" }, 1), { code: "ENXIO" });
});

test("bench: a crash silences every disk and decides what was not flushed, alike for one seed", async (t) => {
  const contents: Buffer[] = [];
  for (const seed of [5, 5, 6]) {
    const { bench, layers, plain, one, two } = rack(t, true);
    const devices = [await layers.openDevice(one), await layers.openDevice(two)];
    await Promise.all(devices.map((device) => device.writev([filled(1), filled(2), filled(3)], 0)));
    await devices[0]?.flush();
    await devices[0]?.writev([filled(9), filled(9)], 0);
    const { disks } = await bench.crash(seed, "torn");
    assert.deepEqual(
      disks.map(({ path, keptSectors, lostSectors }) => [path, keptSectors + lostSectors]),
      [
        [one, 16],
        [two, 24],
      ],
    );
    let settled = false;
    const settle = (): void => {
      settled = true;
    };
    devices[0]?.flush().then(settle, settle);
    await new Promise((resolve) => setTimeout(resolve, 5));
    assert.equal(settled, false, "nobody is told anything after a crash");
    const all = Buffer.alloc(2 * 3 * 4096);
    await (await plain.openReadOnly(one)).read(all.subarray(0, 3 * 4096), 0);
    await (await plain.openReadOnly(two)).read(all.subarray(3 * 4096), 0);
    assert.ok(all.subarray(8192, 12_288).equals(filled(3)), "what was flushed and not written since is there");
    contents.push(all);
  }
  assert.ok(contents[0]?.equals(contents[1] ?? filled(0)));
  assert.ok(!contents[0]?.equals(contents[2] ?? filled(0)));
});

test("bench: a crash comes right at a write, so that there is something to lose", async (t) => {
  const { bench, layers, one } = rack(t, true);
  const device = await layers.openDevice(one);
  let written = 0;
  const work = async (): Promise<void> => {
    for (; ; written++) {
      await device.write(filled(1), 0);
      await device.flush();
    }
  };
  work().catch(() => {});
  const { disks } = await bench.crash(1, "drop");
  assert.deepEqual([disks[0]?.keptSectors, disks[0]?.lostSectors], [0, 8]);
  assert.ok(written < 64);
});

test("bench: a disk that is pulled loses what was in its cache, or part of it", async (t) => {
  const { bench, layers, plain, one } = rack(t, true);
  const device = await layers.openDevice(one);
  for (let block = 0; block < 64; block++) await device.write(filled(1), block * 4096);
  await bench.inject({ disk: 1, path: one }, { kind: "gone" }, 3);
  const content = Buffer.alloc(64 * 4096);
  await (await plain.openReadOnly(one)).read(content, 0);
  const kept = content.filter((byte) => byte === 1).length;
  assert.ok(kept > 0 && kept < content.length, `${kept} bytes`);
  assert.equal(kept % 512, 0);
});
