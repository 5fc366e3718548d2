// Throughput of the parity arithmetic, as one JSON line: `node dist/bench/parity.js`.
// The work: 4 data chunks and 1 parity chunk of 64 KiB each, over and over. GB/s counts the bytes of the data chunks.
import { cpus } from "node:os";
import { KIB, MIB } from "../src/lib/units.js";
import { Arena } from "../src/parity/arena.js";
import { xorBytes } from "../src/parity/xor-bytes.js";

const CHUNK = 64 * KIB;
const DATA = 4;
const ROUND_MS = 300;

/** Best of three rounds, GB/s (10^9). */
function measure(work: () => void): number {
  let best = 0;
  for (let round = 0; round < 3; round++) {
    let calls = 0;
    const start = performance.now();
    let elapsed = 0;
    for (; elapsed < ROUND_MS; elapsed = performance.now() - start) {
      for (let i = 0; i < 20; i++) work();
      calls += 20;
    }
    best = Math.max(best, (calls * DATA * CHUNK) / elapsed / 1e6);
  }
  return Number(best.toFixed(1));
}

function bytewise(target: Uint8Array, sources: readonly Uint8Array[]): void {
  const [a, b, c, d] = sources as readonly [Uint8Array, Uint8Array, Uint8Array, Uint8Array];
  for (let i = 0; i < target.length; i++) {
    target[i] = (a[i] as number) ^ (b[i] as number) ^ (c[i] as number) ^ (d[i] as number);
  }
}

function bigWords(target: BigUint64Array, sources: readonly BigUint64Array[]): void {
  const [a, b, c, d] = sources as readonly [BigUint64Array, BigUint64Array, BigUint64Array, BigUint64Array];
  for (let i = 0; i < target.length; i++) {
    target[i] = (a[i] as bigint) ^ (b[i] as bigint) ^ (c[i] as bigint) ^ (d[i] as bigint);
  }
}

function chunks(arena: Arena): Buffer[] {
  const all = arena.take((DATA + 1) * CHUNK, "bench");
  for (let i = 0; i < all.length; i++) all[i] = (i * 31 + (i >> 8)) & 0xff;
  return Array.from({ length: DATA + 1 }, (_, i) => all.subarray(i * CHUNK, (i + 1) * CHUNK));
}

function throughArena(kernel: "wasm" | "scalar"): number {
  const arena = new Arena({ byteCount: MIB, kernel });
  const [target, ...sources] = chunks(arena) as [Buffer, ...Buffer[]];
  return measure(() => arena.xorBuffers(target, sources));
}

function main(): void {
  const [target, ...sources] = chunks(new Arena({ byteCount: MIB })) as [Buffer, ...Buffer[]];
  const big = (buffer: Buffer) => new BigUint64Array(buffer.buffer, buffer.byteOffset, buffer.length / 8);
  const bigTarget = big(target);
  const bigSources = sources.map(big);
  const outside = sources.map((source) => Buffer.from(source));
  const outsideTarget = Buffer.alloc(CHUNK);
  const result = {
    what: "parity of 4+1 chunks of 64 KiB, GB/s",
    byteLoop: measure(() => bytewise(target, sources)),
    bigUint64Array: measure(() => bigWords(bigTarget, bigSources)),
    scalar: throughArena("scalar"),
    outsideTheArena: measure(() => xorBytes(outsideTarget, outside)),
    wasm: throughArena("wasm"),
    cpu: cpus()[0]?.model ?? "unknown",
    node: process.version,
    date: new Date().toISOString(),
  };
  console.log(JSON.stringify(result));
}

main();
