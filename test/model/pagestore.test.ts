import assert from "node:assert/strict";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { after, test } from "node:test";
import { SystemClock } from "../../src/lib/clock.js";
import { isStorageError } from "../../src/lib/errors.js";
import { SILENT } from "../../src/lib/log.js";
import { type Random, SeededRandom } from "../../src/lib/prng.js";
import { KIB, MIB } from "../../src/lib/units.js";
import { type CommitParticipant, NO_PARTICIPANT } from "../../src/pagestore/contract.js";
import { formatPageStore } from "../../src/pagestore/format.js";
import { openPageStore } from "../../src/pagestore/open.js";
import type { LogPageStore } from "../../src/pagestore/store.js";
import { MemoryLu } from "../support/memory-lu.js";

/**
 * Random transactions on a page store against a Map, with the power failing at every single operation of the LU, also while a
 * checkpoint runs and while the store before is still being opened. A crash keeps any subset of unflushed sectors. After each of them
 * the database equals exactly one state that was committed, none older than what was acknowledged, and the sidecars that come back
 * are those of the records from the tail on.
 *
 * `STRIPEWARD_SEED=n` replays one seed.
 */
const SEED = Number(process.env.STRIPEWARD_SEED ?? Date.now() % 1_000_000);
const scratchDir = fs.mkdtempSync(path.join(os.tmpdir(), "stripeward-model-"));
// The clock's timers do not keep a process alive, and here nothing else does.
const alive = setInterval(() => {}, 1000);
after(() => {
  clearInterval(alive);
  fs.rmSync(scratchDir, { recursive: true, force: true });
});

type State = ReadonlyMap<number, string>;

/** Knows every state that was sealed, by the sequence number of its record, and the newest that was acknowledged. */
class Model {
  readonly #states = new Map<number, State>();
  readonly #sidecars = new Map<number, Buffer>();
  /** By record: what is needed once it is durable. */
  readonly #neededAfter = new Map<number, number>();
  current = new Map<number, string>();
  acknowledgedSeq = 0;
  /** Sidecars before this record are no longer needed. */
  neededFrom = 1;
  /** The same, as soon as what the transaction holds is durable. */
  neededSoon = 1;

  constructor() {
    this.#states.set(0, new Map());
  }

  sealed(seq: number, sidecar: Buffer): void {
    this.#states.set(seq, new Map(this.current));
    this.#sidecars.set(seq, sidecar);
    this.#neededAfter.set(seq, this.neededSoon);
  }

  /** A release is worth something from the moment when it is durable, whoever has lived to see it. */
  durable(seq: number): void {
    this.neededFrom = Math.max(this.neededFrom, this.#neededAfter.get(seq) ?? 0);
  }

  /** @returns the state that was found; everything after it never happened */
  check(found: State, replayed: ReadonlyMap<number, Buffer>, seq: number): void {
    assert.ok(seq >= this.acknowledgedSeq, `record ${this.acknowledgedSeq} was acknowledged, ${seq} is the last found`);
    assert.deepEqual(found, this.#states.get(seq), `the database is the state of record ${seq}`);
    const seqs = [...replayed.keys()];
    for (let i = 1; i < seqs.length; i++)
      assert.equal(seqs[i], (seqs[i - 1] ?? 0) + 1, "sidecars come in order, none missing");
    for (const [at, sidecar] of replayed) assert.deepEqual(sidecar, this.#sidecars.get(at), `sidecar of record ${at}`);
    if (seq >= this.neededFrom)
      assert.ok((seqs[0] ?? Number.POSITIVE_INFINITY) <= this.neededFrom, "no sidecar that is needed is lost");
    if (seqs.length > 0) assert.equal(seqs.at(-1), seq, "sidecars reach the last record");
    this.acknowledgedSeq = seq;
    this.durable(seq);
    this.neededSoon = this.neededFrom;
    this.current = new Map(found);
  }
}

class Machine {
  lu: MemoryLu;
  readonly model = new Model();
  readonly random: Random;
  store: LogPageStore | null = null;

  constructor(lu: MemoryLu, random: Random) {
    this.lu = lu;
    this.random = random;
  }

  static async make(random: Random, logBytes: number): Promise<Machine> {
    const lu = new MemoryLu({ sizeBytes: 3 * MIB, random });
    await formatPageStore({ lu, kind: "model", name: "model", random, logBytes });
    return new Machine(lu, random);
  }

  async open(): Promise<void> {
    const replayed = new Map<number, Buffer>();
    const options = { lu: this.lu, scratchDir, clock: new SystemClock(), log: SILENT, cacheBytes: MIB };
    this.store = await openPageStore({ ...options, onReplay: (seq, sidecar) => replayed.set(seq, sidecar) });
    const { db } = this.store;
    assert.equal(db.pragma("integrity_check", { simple: true }), "ok");
    const exists = db.prepare("SELECT 1 FROM sqlite_schema WHERE name = 't'").get() !== undefined;
    const rows = exists ? (db.prepare("SELECT k, v FROM t ORDER BY k").all() as { k: number; v: string }[]) : [];
    const sorted = new Map(rows.map(({ k, v }) => [k, v]));
    this.model.check(sorted, replayed, this.store.durableSeq);
    this.store.join(this.#participant(this.store));
    if (!exists) db.exec("CREATE TABLE t (k INTEGER PRIMARY KEY, v TEXT NOT NULL)");
  }

  #participant(store: LogPageStore): CommitParticipant {
    return {
      ...NO_PARTICIPANT,
      seal: () => {
        const seq = store.durableSeq + 1;
        const sidecar = Buffer.alloc(1 + this.random.below(6000), seq);
        const sorted = new Map([...this.model.current].sort((a, b) => a[0] - b[0]));
        this.model.current = sorted;
        this.model.sealed(seq, sidecar);
        return [sidecar.subarray(0, 1), sidecar.subarray(1)];
      },
      oldestSidecar: () => this.model.neededFrom,
      releaseSidecars: async (seq) => {
        this.change();
        this.model.neededSoon = Math.max(this.model.neededSoon, seq - this.random.below(2));
        await this.acknowledge(store, true);
      },
    };
  }

  /** One to eight rows are written or removed, and now and then many. */
  change(): void {
    const { db } = this.store as LogPageStore;
    const count = this.random.below(10) === 0 ? 20 : 1 + this.random.below(8);
    for (let i = 0; i < count; i++) {
      const k = this.random.below(150);
      if (this.random.below(4) === 0) {
        db.prepare("DELETE FROM t WHERE k = ?").run(k);
        this.model.current.delete(k);
      } else {
        const v = `${this.random.next()}`.repeat(1 + this.random.below(20));
        db.prepare("INSERT OR REPLACE INTO t VALUES (?, ?)").run(k, v);
        this.model.current.set(k, v);
      }
    }
  }

  async acknowledge(store: LogPageStore, releasing = false): Promise<void> {
    await store.durable(releasing);
    this.model.acknowledgedSeq = Math.max(this.model.acknowledgedSeq, store.durableSeq);
    this.model.durable(store.durableSeq);
  }

  /** Power fails; the dead store only lets go of its scratch copy. */
  async crash(): Promise<void> {
    const dead = this.store;
    this.store = null;
    this.lu = this.lu.crash({ keep: "random" });
    await dead?.close().catch(() => {});
  }
}

/** Whatever the dead LU answers ends the schedule; anything else is a finding. */
async function untilHalt(machine: Machine, schedule: () => Promise<void>): Promise<void> {
  try {
    await schedule();
  } catch (error) {
    if (!machine.lu.halted || !isStorageError(error, "EIO")) throw error;
  }
}

async function shortSchedule(machine: Machine): Promise<void> {
  await machine.open();
  const store = machine.store as LogPageStore;
  for (let i = 0; i < 12; i++) {
    machine.change();
    // The checkpoint runs beside the commit that follows.
    const checkpoint = i % 4 === 1 ? store.checkpoint() : null;
    checkpoint?.catch(() => {});
    machine.change();
    await machine.acknowledge(store);
    await checkpoint;
  }
}

test("pagestore model: exhaustive crash points of a short schedule, twice in a row", { timeout: 120_000 }, async () => {
  let points = 0;
  for (const base of [1, 2, 3, 4]) {
    for (let point = 0; ; point++, points++) {
      const seed = base * 1000 + point;
      const machine = await Machine.make(new SeededRandom(seed), 384 * KIB);
      const first = machine.lu.operations;
      machine.lu.beforeOperation = ({ index }) => (index === first + point ? "halt" : undefined);
      await untilHalt(machine, () => shortSchedule(machine));
      const reached = machine.lu.halted;
      await machine.crash();
      // Die again while replaying or soon after it.
      const again = machine.random.below(12);
      machine.lu.beforeOperation = ({ index }) => (index === again ? "halt" : undefined);
      await untilHalt(machine, () => shortSchedule(machine));
      await machine.crash();
      await machine.open();
      await machine.crash();
      if (!reached) break;
    }
  }
  assert.ok(points > 90, `${points} crash points`);
});

test(`pagestore model: random crashes over a long life (STRIPEWARD_SEED=${SEED})`, { timeout: 120_000 }, async () => {
  const random = new SeededRandom(SEED);
  const machine = await Machine.make(random, 384 * KIB);
  let acknowledged = 0;
  for (let life = 0; life < 60; life++) {
    const end = random.below(80);
    machine.lu.beforeOperation = ({ index }) => (index === end ? "halt" : undefined);
    await untilHalt(machine, async () => {
      await machine.open();
      for (let i = 0; i < 60; i++) {
        machine.change();
        const store = machine.store as LogPageStore;
        if (random.below(3) === 0) continue;
        await machine.acknowledge(store);
        acknowledged++;
        if (random.below(30) === 0) await store.checkpoint();
      }
    });
    await machine.crash();
  }
  await machine.open();
  await (machine.store as LogPageStore).close();
  assert.ok(acknowledged > 300, `${acknowledged} commits were acknowledged`);
});
