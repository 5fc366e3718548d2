import { setTimeout as sleep } from "node:timers/promises";
import { MIB } from "../../src/lib/units.js";
import { LIMITS } from "../../src/limits.js";
import { UNSTABLE } from "../../src/protocol/nfs3/stable-how.js";
import { Target } from "../hostile/target.js";
import { NfsClient } from "../support/nfs-client.js";
import { afterWarmUp, type MemorySample, slopeOf } from "./memory-trend.js";
import { SoakClient } from "./soak-client.js";
import { Visitor } from "./visitor.js";

const CLIENTS = 3;
const SAMPLE_MS = 5_000;
/** Read at random all the time: more than the data cache holds, so that it is full after the first minutes. */
const LARGE_BYTES = 200 * MIB;
const PIECE_BYTES = MIB;

export interface SoakOptions {
  readonly hours: number;
  readonly seed: number;
  readonly say: (line: string) => void;
}

export interface SoakReport {
  readonly samples: readonly MemorySample[];
  readonly rounds: number;
  /** MiB per hour, after the warm-up. */
  readonly slopes: Readonly<Record<"resident" | "heap" | "external", number>>;
  /** What went wrong: an answer, the bound on resident memory. */
  readonly failures: readonly string[];
}

/** Clients that leave nothing behind work for hours; what the daemon holds must not grow with them. */
export async function runSoak({ hours, seed, say }: SoakOptions): Promise<SoakReport> {
  const target = await Target.up();
  const failures: string[] = [];
  const samples: MemorySample[] = [];
  const startMs = performance.now();
  const endMs = startMs + hours * 3_600_000;
  const running = () => performance.now() < endMs && failures.length === 0;
  let rounds = 0;
  const work = async (index: number) => {
    const client = new SoakClient(target.port, `soak${index}`, seed + index);
    for (let number = 0; running(); number++, rounds++) await client.round(number);
  };
  const guarded = (task: Promise<void>) => task.catch((error: unknown) => void failures.push(String(error)));
  try {
    const tasks = [
      ...Array.from({ length: CLIENTS }, (_, index) => guarded(work(index))),
      guarded(readAtRandom(target.port, seed, running)),
      guarded(Visitor.run(target.port, seed, running)),
      guarded(administer(target, running)),
    ];
    while (running()) {
      const sample = await sampleOf(target, (performance.now() - startMs) / 3_600_000);
      samples.push(sample);
      if (samples.length % 12 === 1) say(lineOf(sample, rounds));
      if (sample.residentMib > LIMITS.residentBytesMax / MIB) failures.push(`resident ${sample.residentMib} MiB`);
      await sleep(SAMPLE_MS);
    }
    await Promise.all(tasks);
  } finally {
    await target.remove();
  }
  const late = afterWarmUp(samples);
  const slopes = {
    resident: slopeOf(late, ({ residentMib }) => residentMib),
    heap: slopeOf(late, ({ heapMib }) => heapMib),
    external: slopeOf(late, ({ externalMib }) => externalMib),
  };
  return { samples, rounds, slopes, failures };
}

async function readAtRandom(port: number, seed: number, running: () => boolean): Promise<void> {
  const client = await NfsClient.connect(port);
  const { handle: root } = await client.mount("/data");
  const { handle } = await client.create(root, "large");
  const piece = Buffer.alloc(PIECE_BYTES, seed & 0xff);
  for (let at = 0; at < LARGE_BYTES && running(); at += PIECE_BYTES) await client.write(handle!, at, piece, UNSTABLE);
  await client.commit(handle!);
  for (let step = 1; running(); step++) {
    const at = (step * 7919 * 4096) % (LARGE_BYTES - 65_536);
    const { data } = await client.read(handle!, at, 65_536);
    if (data.some((byte) => byte !== (seed & 0xff))) throw new Error(`READ at ${at}: other bytes than were written`);
    await sleep(2);
  }
  await client.close();
}

/** What a monitoring system and a person ask. */
async function administer(target: Target, running: () => boolean): Promise<void> {
  while (running()) {
    await target.metric("process_resident_bytes");
    for (const verb of [["status"], ["fs", "list"], ["lock", "list"], ["events"]])
      await target.rig.ok([...verb, "--json"]);
    await sleep(SAMPLE_MS);
  }
}

async function sampleOf(target: Target, hours: number): Promise<MemorySample> {
  const [heap, external] = [
    await target.metric("process_heap_used_bytes"),
    await target.metric("process_external_bytes"),
  ];
  return {
    hours,
    residentMib: Math.round(target.residentMib),
    heapMib: Math.round((heap ?? 0) / MIB),
    externalMib: Math.round((external ?? 0) / MIB),
  };
}

function lineOf({ hours, residentMib, heapMib, externalMib }: MemorySample, rounds: number): string {
  const minutes = (hours * 60).toFixed(0).padStart(4);
  return `${minutes} min  resident ${residentMib} MiB, heap ${heapMib}, external ${externalMib}; ${rounds} rounds`;
}
