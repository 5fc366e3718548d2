import { KIB } from "../../src/lib/units.js";
import { Arena } from "../../src/parity/arena.js";
import type { ParityKernel } from "../../src/parity/kernel.js";
import { buildHelper } from "../helper.js";
import { output } from "../undo.js";
import type { Bench } from "./bench.js";
import { hold, type Outcome } from "./contest.js";

const SOURCES = 4;
const TURN_MS = 250;

interface Work {
  readonly title: string;
  readonly wanted: number;
  readonly chunkBytes: number;
  /** Worked through in turn: one stays in the processor's cache, many do not. */
  readonly stripes: number;
}

/** Out of cache: 1.25 GiB, several times the largest cache that a server's processor has. */
const WORKS: readonly Work[] = [
  { title: "parity, 4+1 chunks of 64 KiB, in cache", wanted: 0.65, chunkBytes: 64 * KIB, stripes: 1 },
  { title: "parity, 4+1 chunks of 64 KiB, out of cache", wanted: 0.95, chunkBytes: 64 * KIB, stripes: 4096 },
];

/** CPU time, not the clock's: what other programs do on a shared machine is not in it. As bench/xorbench.c measures. */
function cpuMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

class KernelTurn {
  readonly #kernel: ParityKernel;
  readonly #start: number;
  readonly #offsets: number[] = [];
  #stripe = 0;

  constructor(readonly work: Work) {
    const byteCount = work.chunkBytes * (SOURCES + 1) * work.stripes;
    const arena = new Arena({ byteCount });
    const memory = arena.take(byteCount, "bench");
    for (let i = 0; i < byteCount; i += 4) memory.writeUInt32LE(Math.imul(i, 2654435761) >>> 0, i);
    this.#kernel = arena.kernel;
    this.#start = arena.offsetOf(memory);
  }

  #one(): void {
    const { chunkBytes, stripes } = this.work;
    const at = this.#start + this.#stripe * chunkBytes * (SOURCES + 1);
    for (let i = 0; i < SOURCES; i++) this.#offsets[i] = at + i * chunkBytes;
    this.#kernel.xor(at + SOURCES * chunkBytes, this.#offsets, chunkBytes);
    if (++this.#stripe === stripes) this.#stripe = 0;
  }

  rate(): number {
    const startedMs = cpuMs();
    let done = 0;
    let elapsedMs = 0;
    for (; elapsedMs < TURN_MS; elapsedMs = cpuMs() - startedMs) {
      for (let i = 0; i < 256; i++) this.#one();
      done += 256;
    }
    return (done * this.work.chunkBytes * SOURCES * 1000) / elapsedMs;
  }
}

async function against(program: string, work: Work, bench: Bench): Promise<Outcome> {
  const { title, wanted, chunkBytes, stripes } = work;
  const own = new KernelTurn(work);
  const args = [chunkBytes, SOURCES, stripes, TURN_MS].map(String);
  return hold(
    {
      ...{ title, unit: "bytes", wanted, rounds: 3 * bench.rounds },
      ours: { name: "WebAssembly SIMD, bytes of the data chunks a second of CPU time", turn: async () => own.rate() },
      peer: { name: "ISA-L's xor_gen", turn: async () => Number(await output(program, args)) },
    },
    bench.goOn,
  );
}

export async function kernel(bench: Bench): Promise<Outcome[]> {
  const header = "/usr/include/isa-l/raid.h";
  const program = buildHelper({ source: "xorbench.c", header, package: "libisal-dev", library: "isal" });
  const outcomes: Outcome[] = [];
  for (const work of WORKS) outcomes.push(await against(program, work, bench));
  return outcomes;
}
