import type { Inode } from "../src/fs/inode.js";
import { SeededRandom } from "../src/lib/prng.js";
import { BLOCK_BYTES, MIB } from "../src/lib/units.js";
import { bytes, NOBODY, Rig } from "../test/unit/fs/contents/fixture.js";

/**
 * The contents layer alone, over LUs in memory (each operation takes one turn of the event loop): what the layer itself costs.
 * `node bench/contents.js [only]`; results in docs/decisions/0008-file-contents.md.
 */
const IN_FLIGHT = 64;
const CACHE_BYTES = 64 * MIB;

async function measure(name: string, count: number, unit: string, run: () => Promise<void>): Promise<void> {
  const startedMs = performance.now();
  await run();
  const seconds = (performance.now() - startedMs) / 1000;
  console.log(
    `${name.padEnd(44)} ${Math.round(count / seconds)
      .toLocaleString("en")
      .padStart(12)} ${unit}`,
  );
}

/** `count` calls, 64 at a time. */
async function inFlight(count: number, action: (i: number) => unknown): Promise<void> {
  let next = 0;
  const lane = async () => {
    while (next < count) await action(next++);
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, lane));
}

async function sequential(rig: Rig, inode: Inode): Promise<void> {
  const chunk = bytes(MIB, 1);
  await measure("sequential write, 1 MiB, then stabilize", 256, "MiB/s", async () => {
    for (let i = 0; i < 256; i++) await rig.contents.write(inode, i * MIB, chunk, NOBODY);
    await rig.contents.stabilize(inode);
  });
  const target = Buffer.alloc(MIB);
  await measure("sequential read, 1 MiB, not cached", 192, "MiB/s", async () => {
    for (let i = 0; i < 192; i++) await rig.contents.read(inode, i * MIB, target);
  });
}

async function randomReads(rig: Rig, inode: Inode): Promise<void> {
  const random = new SeededRandom(5);
  const targets = Array.from({ length: IN_FLIGHT }, () => Buffer.alloc(BLOCK_BYTES));
  const read = (blocks: number) => (i: number) =>
    rig.contents.read(inode, random.below(blocks) * BLOCK_BYTES, targets[i % IN_FLIGHT]!);
  await measure("random 4 KiB read, mostly not cached", 60_000, "/s", () => inFlight(60_000, read(65_536)));
  await inFlight(8000, read(2000));
  await measure("random 4 KiB read, cached", 200_000, "/s", () => inFlight(200_000, read(2000)));
}

async function stableWrites(rig: Rig, inode: Inode): Promise<void> {
  const random = new SeededRandom(6);
  const block = bytes(BLOCK_BYTES, 2);
  await measure("stable 4 KiB write, one file, 64 in flight", 60_000, "/s", () =>
    inFlight(60_000, (): Promise<void> => rig.stableWrite(inode, random.below(16_384) * BLOCK_BYTES, block)),
  );
  await measure("unstable 4 KiB write, one file, random", 100_000, "/s", async () => {
    await inFlight(100_000, (): Promise<void> => rig.write(inode, random.below(16_384) * BLOCK_BYTES, block));
    await rig.contents.stabilize(inode);
  });
}

async function smallFiles(rig: Rig): Promise<void> {
  const block = bytes(BLOCK_BYTES, 3);
  await measure("stable 4 KiB file, 64 in flight", 30_000, "/s", () =>
    inFlight(30_000, (i): Promise<void> => rig.stableWrite(rig.inodes.create(1000 + i), 0, block)),
  );
}

const sizes = { dataBytes: 1024 * MIB, metadataBytes: 256 * MIB, logBytes: 64 * MIB, cacheBytes: CACHE_BYTES };
const only = process.argv[2];
const rig = await Rig.create(sizes);
const inode = rig.inodes.create(2);
if (only === undefined || only === "sequential" || only === "read") await sequential(rig, inode);
if (only === undefined || only === "read") await randomReads(rig, inode);
if (only === undefined || only === "stable") await stableWrites(rig, inode);
if (only === undefined || only === "small") await smallFiles(rig);
await rig.close();
console.log(rig.contents.statistics());
