import assert from "node:assert/strict";
import { SeededRandom } from "../../src/lib/prng.js";
import { FILE_SYNC } from "../../src/protocol/nfs3/stable-how.js";
import { NfsClient } from "../support/nfs-client.js";
import type { BystanderReport, LatencyRow } from "./bystander-report.js";

/*
 * The bystander, a process of its own: it works quietly while somebody else misbehaves, measures how long each of its calls takes, and knows what each
 * answer must be. Started by run.ts with port and seed; a message from there asks for what was seen since the last one.
 */

const FILE_BYTES = 256 * 1024;
const PIECE_BYTES = 4096;
const PAUSE_MS = 3;
const ANSWER_MS_MAX = 10_000;
const LOOK_MS = 5;

type Kind = LatencyRow["kind"];

class Bystander {
  readonly #latencies = new Map<Kind, number[]>();
  readonly #wrong: string[] = [];
  readonly #content = Buffer.alloc(FILE_BYTES);
  /** How late our own timers came: then it was the machine, or we. */
  #lateMs = 0;
  #lateMsMax = 0;
  #dueMs = performance.now() + LOOK_MS;

  constructor(
    private readonly port: number,
    private readonly random: SeededRandom,
  ) {
    setInterval(() => this.#look(), LOOK_MS);
  }

  async work(): Promise<void> {
    for (;;) {
      try {
        await this.#session(await NfsClient.connect(this.port));
      } catch (error) {
        this.#wrong.push(error instanceof Error ? error.message : String(error));
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    }
  }

  takeReport(): BystanderReport {
    const rows = [...this.#latencies].map(([kind, all]) => summary(kind, all));
    const report = { rows, wrong: this.#wrong.splice(0), lateMsMax: this.#lateMsMax };
    this.#latencies.clear();
    this.#lateMsMax = 0;
    return report;
  }

  async #session(client: NfsClient): Promise<void> {
    const { status, handle: root } = await client.mount("/data");
    assert.equal(status, 0, "MNT");
    const name = `bystander-${process.pid}`;
    const found = await client.lookup(root, name);
    const file = found.status === 0 ? found.handle : (await client.create(root, name)).handle!;
    if (found.status !== 0) assert.equal((await client.write(file, 0, this.#content, FILE_SYNC)).status, 0);
    for (;;) {
      await this.#round(client, file);
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    }
  }

  async #round(client: NfsClient, file: Buffer): Promise<void> {
    const offset = this.random.below(FILE_BYTES - PIECE_BYTES);
    const reply = await this.#timed("NULL", () => client.call(0, Buffer.alloc(0)));
    assert.equal(reply.status, 0, "NULL");
    const { attributes } = await this.#timed("GETATTR", () => client.getattr(file));
    assert.equal(attributes?.size, FILE_BYTES, "GETATTR: size");
    const { data } = await this.#timed("READ", () => client.read(file, offset, PIECE_BYTES));
    if (!data.equals(this.#content.subarray(offset, offset + PIECE_BYTES)))
      this.#wrong.push(`READ at ${offset}: other bytes than were written`);
    const whole = await this.#timed("large READ", () => client.read(file, 0, FILE_BYTES));
    if (!whole.data.equals(this.#content)) this.#wrong.push("READ of all: other bytes than were written");
    const fresh = Buffer.alloc(PIECE_BYTES);
    this.random.fill(fresh);
    const written = await this.#timed("WRITE", () => client.write(file, offset, fresh, FILE_SYNC));
    if (written.status === 0) fresh.copy(this.#content, offset);
    else this.#wrong.push(`WRITE: status ${written.status}`);
  }

  async #timed<T>(kind: Kind, call: () => Promise<T>): Promise<T> {
    this.#lateMs = 0;
    const beganMs = performance.now();
    const result = await withinTime(kind, call());
    const tookMs = performance.now() - beganMs;
    const all = this.#latencies.get(kind) ?? [];
    this.#latencies.set(kind, all);
    // What we were late ourselves is none of the server's.
    all.push(Math.max(0, tookMs - this.#lateMs));
    return result;
  }

  #look(): void {
    const nowMs = performance.now();
    const lateMs = Math.max(0, nowMs - this.#dueMs);
    this.#lateMs += lateMs > LOOK_MS ? lateMs : 0;
    this.#lateMsMax = Math.max(this.#lateMsMax, lateMs);
    this.#dueMs = nowMs + LOOK_MS;
  }
}

function withinTime<T>(kind: Kind, answer: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`${kind}: no answer in ${ANSWER_MS_MAX} ms`)), ANSWER_MS_MAX);
    answer.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}

function summary(kind: Kind, all: number[]): LatencyRow {
  const sorted = all.sort((a, b) => a - b);
  const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
  return { kind, count: sorted.length, p99Ms: at(0.99), maxMs: sorted.at(-1) ?? 0 };
}

const bystander = new Bystander(Number(process.argv[2]), new SeededRandom(Number(process.argv[3])));
process.on("message", () => process.send?.(bystander.takeReport()));
process.on("disconnect", () => process.exit(0));
await bystander.work();
